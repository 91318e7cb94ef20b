package alerts

import (
	"testing"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
)

func TestWhatAChartOfAnExpressionDraws(t *testing.T) {
	for name, tc := range map[string]struct {
		expr, op  string
		threshold float64 // of the condition
		promql    string
		drawnOp   string
		at        float64
	}{
		"a threshold of the policy's own":            {`sum(up)`, "<", 3, `sum(up{cluster="c"})`, "<", 3},
		"the side that is compared":                  {`rate(a{b="x"}[5m]) > 5`, "", 0, `rate(a{b="x",cluster="c"}[5m])`, ">", 5},
		"the number first":                           {`10 > up`, "", 0, `up{cluster="c"}`, "<", 10},
		"parentheses and a number that is made":      {`((sum(x)) >= -(2 * 1024^2))`, "", 0, `sum(x{cluster="c"})`, ">=", -2 << 20},
		"all that is left by and, with the bound":    {`(a > 5) and on () b > 1`, "", 0, `(a{cluster="c"} > 5) and on () b{cluster="c"} > 1`, ">", 5},
		"all that is left by unless, with the bound": {`a == 0 unless b`, "", 0, `a{cluster="c"} == 0 unless b{cluster="c"}`, "==", 0},
		"no number":            {`a > b`, "", 0, `a{cluster="c"} > b{cluster="c"}`, "", 0},
		"a yes or no":          {`a > bool 5`, "", 0, `a{cluster="c"} > bool 5`, "", 0},
		"a number without end": {`a > 1 / 0`, "", 0, `a{cluster="c"} > 1 / 0`, "", 0},
		"either of two":        {`a > 1 or b > 2`, "", 0, `a{cluster="c"} > 1 or b{cluster="c"} > 2`, "", 0},
		"no comparison":        {`absent(up{job="x"})`, "", 0, `absent(up{cluster="c",job="x"})`, "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			got := drawnOf(incident.Condition{Expr: tc.expr, Op: tc.op, Threshold: tc.threshold}, "c")
			if got == nil || got.PromQL != tc.promql || got.Op != tc.drawnOp || (got.Threshold == nil) != (tc.drawnOp == "") || got.Threshold != nil && *got.Threshold != tc.at {
				t.Errorf("%s %s\n got %+v\nwant %s %s %v", tc.expr, tc.op, got, tc.promql, tc.drawnOp, tc.at)
			}
		})
	}
	if got := drawnOf(incident.Condition{Expr: `sum(up) < 3`}, ""); got == nil || got.PromQL != `sum(up)` || got.Op != "<" {
		t.Errorf("of no cluster: %+v", got)
	}
	for _, c := range []incident.Condition{{Metric: "k8s_pod_ready"}, {Query: "error"}, {Expr: "sum("}} {
		if got := drawnOf(c, "c"); got != nil {
			t.Errorf("%+v is drawn as %+v", c, got)
		}
	}
}

func TestAnAlertOfARuleIsDrawnByItsExpression(t *testing.T) {
	for expr, want := range map[string]string{`load > 5`: `load{cluster="c"}`, "": ""} {
		row, err := (&incident.Alert{ID: "alt_1", Firing: true, Data: incident.Data{Object: incident.Object{Cluster: "c"}, External: &incident.External{GeneratorURL: "http://prometheus/graph?g0.expr=load", Expr: expr}}}).Row()
		if err != nil {
			t.Fatal(err)
		}
		got, err := (&handlers{}).showAlert(row)
		if err != nil || got.Expr != expr || (got.Drawn == nil) != (want == "") || got.Drawn != nil && (got.Drawn.PromQL != want || *got.Drawn.Threshold != 5) {
			t.Errorf("%q: %+v, %v", expr, got, err)
		}
	}
}
