package settings

import (
	"bytes"
	"encoding/json"
	"os"
	"regexp"
	"testing"

	"github.com/crowsnest-dev/crowsnest/api/control"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// The families' costs are what connected collectors count, next to what the
// cluster's size lets expect.
func TestTheRawTierShowsItsCost(t *testing.T) {
	s := &Service{opts: Options{Size: func(string) Size { return Size{Nodes: 2, Pods: 10, Containers: 20, Workloads: 5} }}}
	scrape := func(connected bool, n int) control.Sender {
		return control.Sender{Connected: connected, Health: wire.Health{Scrape: &wire.ScrapeHealth{Series: map[string]int{wire.RawCadvisor: n}}}}
	}
	costs := s.costs(wire.Settings{Raw: &wire.Raw{Families: []string{wire.RawCadvisor}}}, "c", map[string]control.Sender{
		"node/a": scrape(true, 100), "node/b": scrape(true, 50), "node/gone": scrape(false, 1000), "cluster": {Connected: true},
	})
	if len(costs) != len(wire.RawFamilies) {
		t.Fatalf("%d families", len(costs))
	}
	for _, c := range costs {
		if want := c.Name == wire.RawCadvisor; c.Chosen != want || (c.Series == 150) != want || c.Estimate <= 0 {
			t.Errorf("%+v", c)
		}
	}
}

func TestARawTierThatCannotBeIsRefusedByName(t *testing.T) {
	err := toWire(Settings{Raw: &Raw{Families: []string{"cadvisor", "kube_state"}, Series: -1}}).Validate()
	fs, ok := err.(fault.Fields)
	if !ok || len(fs) != 2 || fs[0].Path != "raw.families[1]" || fs[1].Path != "raw.series" {
		t.Errorf("got %v", err)
	}
}

// What the guide shows would be taken.
func TestTheGuidesRulesAreTaken(t *testing.T) {
	page, err := os.ReadFile("../../docs/logs.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindAllSubmatch(page, -1)
	if len(blocks) == 0 {
		t.Fatal("the guide shows no rules")
	}
	for _, b := range blocks {
		var s Settings
		d := json.NewDecoder(bytes.NewReader(b[1]))
		d.DisallowUnknownFields()
		if err := d.Decode(&s); err != nil {
			t.Fatalf("%v in\n%s", err, b[1])
		}
		if err := toWire(s).Validate(); err != nil {
			t.Errorf("%v in\n%s", err, b[1])
		}
	}
}
