package wire

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestSettingsAreChecked(t *testing.T) {
	good := Settings{
		IntervalSeconds: 15, Families: []catalogue.Family{catalogue.CoreFamily}, QueueAgeSeconds: 3600, QueueBytes: 64 << 20,
		LogRules: &LogRules{Namespaces: []string{"shop", "!kube-*"}, Workloads: []string{"!*/noisy"}, Services: []string{"cart", "shop/*", "!*-canary"}, Annotations: "logs.crowsnest.dev/team=a", Mask: []string{`card=(\d+)`}, LinesPerSecond: 10,
			Multiline: []Multiline{{Namespaces: []string{"shop"}, Workloads: []string{"deployment/*"}, Containers: []string{"!istio-*"}, Selector: "tier=web", Annotations: "logs.crowsnest.dev/team=a", Start: `^\d{4}-`}, {Off: true}}},
	}
	if err := errors.Join(good.Validate(), Settings{}.Validate()); err != nil {
		t.Error(err)
	}
	for at, s := range map[string]Settings{
		"interval_seconds":                     {IntervalSeconds: 7},
		"families[0]":                          {Families: []catalogue.Family{"all"}},
		"queue_age_seconds":                    {QueueAgeSeconds: 1},
		"queue_bytes":                          {QueueBytes: -1},
		"log_rules.namespaces[1]":              {LogRules: &LogRules{Namespaces: []string{"a", "[a"}}},
		"log_rules.workloads[0]":               {LogRules: &LogRules{Workloads: []string{"cart"}}},
		"log_rules.services[0]":                {LogRules: &LogRules{Services: []string{"a/b/c"}}},
		"log_rules.services[1]":                {LogRules: &LogRules{Services: []string{"a", "[a"}}},
		"log_rules.mask[0]":                    {LogRules: &LogRules{Mask: []string{"("}}},
		"log_rules.mask[1]":                    {LogRules: &LogRules{Mask: []string{"a", "b*"}}},
		"log_rules.mask":                       {LogRules: &LogRules{Mask: slices.Repeat([]string{"a"}, 33)}},
		"log_rules.selector":                   {LogRules: &LogRules{Selector: strings.Repeat("x", 2000)}},
		"log_rules.annotations":                {LogRules: &LogRules{Annotations: "a in b"}},
		"log_rules.multiline":                  {LogRules: &LogRules{Multiline: slices.Repeat([]Multiline{{Off: true}}, MaxMultiline+1)}},
		"log_rules.multiline[0]":               {LogRules: &LogRules{Multiline: []Multiline{{Namespaces: []string{"shop"}}}}},
		"log_rules.multiline[1]":               {LogRules: &LogRules{Multiline: []Multiline{{Off: true}, {Off: true, Start: "a"}}}},
		"log_rules.multiline[1].start":         {LogRules: &LogRules{Multiline: []Multiline{{Off: true}, {Start: "("}}}},
		"log_rules.multiline[0].start":         {LogRules: &LogRules{Multiline: []Multiline{{Start: strings.Repeat("a", MaxMultilineBytes+1)}}}},
		"log_rules.multiline[0].namespaces[0]": {LogRules: &LogRules{Multiline: []Multiline{{Namespaces: []string{"["}, Off: true}}}},
		"log_rules.multiline[0].workloads[0]":  {LogRules: &LogRules{Multiline: []Multiline{{Workloads: []string{"cart"}, Off: true}}}},
		"log_rules.multiline[0].containers[1]": {LogRules: &LogRules{Multiline: []Multiline{{Containers: []string{"app", ""}, Off: true}}}},
		"log_rules.multiline[0].selector":      {LogRules: &LogRules{Multiline: []Multiline{{Selector: "a in b", Off: true}}}},
		"log_rules.multiline[0].annotations":   {LogRules: &LogRules{Multiline: []Multiline{{Annotations: "a in b", Off: true}}}},
		"log_rules.lines_per_second":           {LogRules: &LogRules{LinesPerSecond: -1}},
	} {
		var fs fault.Fields
		if err := s.Validate(); !errors.As(err, &fs) || len(fs) != 1 || fs[0].Path != at {
			t.Errorf("%s: got %v", at, err)
		}
	}
}

func FuzzSettings(f *testing.F) {
	f.Add([]byte(`{"version":1,"interval_seconds":10,"log_rules":{"mask":["x"]}}`))
	f.Fuzz(func(_ *testing.T, body []byte) {
		var s Settings
		if json.Unmarshal(body, &s) == nil {
			_ = s.Validate()
		}
	})
}
