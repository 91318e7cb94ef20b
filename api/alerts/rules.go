package alerts

import (
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/alerting/rules"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Rules runs Prometheus' rule groups; *rules.Manager is one.
type Rules interface {
	// Changed must not block.
	Changed()
	// Show fills the status.
	Show(o *rules.RuleGroups)
}

var _ Rules = (*rules.Manager)(nil)

func (h *handlers) registerRules(api huma.API, write writer) {
	registerKind(api, h, write, kind[rules.RuleGroups]{
		kind: meta.KindRuleGroups, path: "/rulegroups", prefix: "rul_", one: "set of rule groups", show: rules.Of,
		parse:  func(document []byte, _ routing.Known) (*rules.RuleGroups, error) { return rules.ParseObject(document) },
		status: func(o *rules.RuleGroups, _ time.Time, _ *routing.Set, _ []routing.Facts) { h.Rules.Show(o) },
		parts:  func(o *rules.RuleGroups) (*policy.Metadata, any) { return &o.Metadata, o.Spec },
	})
}

// changed wakes who runs what was written.
func (h *handlers) changed(kind string) {
	switch kind {
	case meta.KindRuleGroups:
		h.Rules.Changed()
		return
	case meta.KindMetric:
		h.Custom.Changed() // and policies that name it are read anew
	}
	h.Engine.PoliciesChanged()
}
