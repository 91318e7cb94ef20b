package main

import (
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
)

// A backtest tells what thresholds the data themselves would have, where the
// comparison has a direction.
func TestBacktestsSuggestThresholds(t *testing.T) {
	info, warning := 0.8, 0.93
	th := policy.ReplayThreshold{Cluster: "c1", Metric: "m", Statistic: "avg", Unit: "%", Op: ">", P50: 0.5, Max: 1, Suggested: policy.Thresholds{Info: &info, Warning: &warning}, Words: "of 10 periods"}
	none := th
	none.Op, none.Suggested = "==", policy.Thresholds{}
	for name, tc := range map[string]struct {
		of   policy.ReplayThreshold
		want string
	}{"above": {th, "info > 0.8, warning > 0.93 (of 10 periods)"}, "equal": {none, ""}} {
		var out strings.Builder
		if err := printReplay(&out, policy.Replay{Thresholds: []policy.ReplayThreshold{tc.of}}); err != nil {
			t.Fatal(err)
		}
		if got := out.String(); !strings.Contains(got, "avg of m on c1:") || !strings.Contains(got, tc.want) || tc.want == "" && strings.Contains(got, "thresholds by that") {
			t.Errorf("%s: %s", name, got)
		}
	}
}
