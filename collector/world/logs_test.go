package world

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"testing"

	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

type noted struct {
	rules logs.Rules
	err   error
}

func (n *noted) Run(context.Context, logs.Sink) error { return nil }
func (n *noted) Health() wire.LogHealth               { return wire.LogHealth{} }
func (n *noted) SetRules(r logs.Rules) error          { n.rules = r; return n.err }

func TestLocalLogRulesWin(t *testing.T) {
	var n noted
	var local logs.Rules
	local.Select.Namespaces, local.Mask.Patterns, local.Limit.Lines = []string{"shop"}, []string{"own"}, 5
	l := containerLogs{follower: &n, local: local}
	over, err := l.SetRules(&wire.LogRules{
		Namespaces: []string{"*"}, Workloads: []string{"deployment/*"}, Mask: []string{"theirs"}, LinesPerSecond: 9, BytesPerSecond: 7, Selector: "a=b",
		Services: []string{"cart"}, Annotations: "logs.crowsnest.dev/team=a",
		Multiline: []wire.Multiline{{Namespaces: []string{"shop"}, Workloads: []string{"*/a"}, Containers: []string{"app"}, Selector: "x=y", Annotations: "z", Start: "^a"}, {Off: true}},
	})
	if err != nil || !maps.Equal(over, map[string]string{"log_rules.namespaces": "shop", "log_rules.lines_per_second": "5"}) {
		t.Errorf("overridden %v, %v", over, err)
	}
	r := n.rules
	if !slices.Equal(r.Select.Namespaces, []string{"shop"}) || !slices.Equal(r.Select.Workloads, []string{"deployment/*"}) || r.Select.Labels != "a=b" ||
		!slices.Equal(r.Select.Services, []string{"cart"}) || r.Select.Annotations != "logs.crowsnest.dev/team=a" ||
		!slices.Equal(r.Mask.Patterns, []string{"own", "theirs"}) || r.Limit.Lines != 5 || r.Limit.Bytes != 7 {
		t.Errorf("rules %+v", r)
	}
	want := []logs.JoinRule{{Select: logs.SelectOptions{Namespaces: []string{"shop"}, Workloads: []string{"*/a"}, Labels: "x=y", Annotations: "z"}, Containers: []string{"app"}, Start: "^a"}, {Off: true}}
	if !reflect.DeepEqual(r.Join.Rules, want) {
		t.Errorf("rules on multi-line records %+v, want %+v", r.Join.Rules, want)
	}
	if _, err := l.SetRules(nil); err != nil || len(n.rules.Select.Workloads) != 0 || len(n.rules.Join.Rules) != 0 || !slices.Equal(n.rules.Mask.Patterns, []string{"own"}) {
		t.Errorf("taken back: %+v, %v", n.rules, err)
	}
	l.local.Join.Off = true
	if over, err := l.SetRules(&wire.LogRules{Multiline: []wire.Multiline{{Start: "^a"}}}); err != nil || over["log_rules.multiline"] != "off" || len(n.rules.Join.Rules) != 0 {
		t.Errorf("joining is off here: %+v, overridden %v, %v", n.rules.Join, over, err)
	}
	n.err = errors.New("no")
	if _, err := l.SetRules(nil); err == nil {
		t.Error("an error is hidden")
	}
}
