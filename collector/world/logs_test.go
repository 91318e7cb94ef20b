package world

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
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

// messages takes events and ends who sends them.
type messages struct {
	stop context.CancelFunc
	got  []string
}

func (m *messages) Send(_ context.Context, b *wire.LogBatch) error {
	for _, g := range b.Groups {
		for _, l := range g.Lines {
			m.got = append(m.got, l.Message)
		}
	}
	m.stop()
	return nil
}

// Events of a cluster are masked by well-known forms and by the rules of both sides.
func TestEventsAreMasked(t *testing.T) {
	const message = "hook [curl -H 'Authorization: Basic dXNlcjpwYXNz' -d own=1 -d theirs=2] failed"
	api := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch q := r.URL.Query(); {
		case q.Get("sendInitialEvents") != "":
			http.Error(w, "not known here", http.StatusBadRequest) // it lists then
			return
		case q.Get("watch") != "":
			<-r.Context().Done()
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(corev1.EventList{
			TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "EventList"}, ListMeta: metav1.ListMeta{ResourceVersion: "1"},
			Items: []corev1.Event{{ObjectMeta: metav1.ObjectMeta{UID: "e1", Namespace: "shop"}, Message: message, LastTimestamp: metav1.Now()}},
		})
	}))
	defer api.Close()
	config := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(config, []byte("apiVersion: v1\nkind: Config\nclusters: [{name: c, cluster: {server: \""+api.URL+"\"}}]\ncontexts: [{name: c, context: {cluster: c}}]\ncurrent-context: c\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	o := Options{Kube: kube.Config{Kubeconfig: config}, Role: wire.RoleCluster, Dir: t.TempDir()}
	o.LogRules.Mask.Patterns = []string{"own=(\\d)"}
	opened, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(opened.World.Logs, func(l collector.Logs) bool { _, ok := l.(interface{ AlwaysOn() }); return ok })
	if i < 0 {
		t.Fatal("no source of events, or one that can be switched off")
	}
	rules, ok := opened.World.Logs[i].(interface {
		SetRules(*wire.LogRules) (map[string]string, error)
	})
	if !ok {
		t.Fatal("events do not take the server's rules")
	}
	if _, err := rules.SetRules(&wire.LogRules{Mask: []string{"("}}); err == nil {
		t.Error("a pattern that is no expression is taken")
	}
	if over, err := rules.SetRules(&wire.LogRules{Mask: []string{"theirs=(\\d)"}}); err != nil || len(over) > 0 {
		t.Errorf("overridden %v, %v", over, err)
	}
	ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
	defer stop()
	m := &messages{stop: stop}
	if err := opened.World.Logs[i].Run(ctx, m); err != nil {
		t.Fatal(err)
	}
	if want := "hook [curl -H 'Authorization: Basic ***' -d own=*** -d theirs=***] failed"; !slices.Equal(m.got, []string{want}) {
		t.Errorf("got %q, want %q", m.got, want)
	}
}
