package alerts

import (
	"math"

	"github.com/prometheus/prometheus/promql/parser"

	"github.com/crowsnest-dev/crowsnest/alerting/custom"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
)

// Drawn is what a chart of an expression draws.
type Drawn struct {
	PromQL    string   `json:"promql" doc:"The expression on the series of the alert's cluster alone, if it is of one. Of a comparison with a number, which gives nothing while it does not hold, the side that is compared."`
	Op        string   `json:"op,omitempty" enum:">,>=,<,<=,==,!="`
	Threshold *float64 `json:"threshold,omitempty" doc:"The number that its values are compared with; left out when there is none."`
}

// drawnOf gives what a chart of a condition draws; nil when it is no expression,
// or none that can be read.
func drawnOf(c incident.Condition, cluster string) *Drawn {
	if c.Expr == "" {
		return nil
	}
	e, err := parser.NewParser(parser.Options{}).ParseExpr(c.Expr)
	if err != nil {
		return nil
	}
	if cluster != "" { // a rule may be about all of them
		custom.Bind(e, cluster)
	}
	out := &Drawn{PromQL: e.String()}
	if c.Op != "" {
		out.Op, out.Threshold = c.Op, &c.Threshold
		return out
	}
	for left := e; ; {
		b, ok := custom.Bare(left).(*parser.BinaryExpr)
		if !ok {
			return out
		}
		if b.Op == parser.LAND || b.Op == parser.LUNLESS { // what they let pass has the values of the left side
			left = b.LHS
			continue
		}
		side, op, threshold, ok := compared(b)
		if !ok {
			return out
		}
		if out.Op, out.Threshold = op, &threshold; left == e {
			out.PromQL = custom.Bare(side).String()
		}
		return out
	}
}

// mirrored are the comparisons when their sides change places.
var mirrored = map[parser.ItemType]parser.ItemType{
	parser.GTR: parser.LSS, parser.GTE: parser.LTE, parser.LSS: parser.GTR, parser.LTE: parser.GTE, parser.EQLC: parser.EQLC, parser.NEQ: parser.NEQ,
}

// compared gives the side of a comparison that is held against a number. One
// with bool gives 0 and 1, and not what it compares.
func compared(b *parser.BinaryExpr) (side parser.Expr, op string, threshold float64, ok bool) {
	other, isComparison := mirrored[b.Op]
	if !isComparison || b.ReturnBool {
		return nil, "", 0, false
	}
	side, op = b.LHS, b.Op.String()
	if threshold, ok = constant(b.RHS); !ok {
		side, op = b.RHS, other.String()
		threshold, ok = constant(b.LHS)
	}
	return side, op, threshold, ok && !math.IsNaN(threshold) && !math.IsInf(threshold, 0)
}

// constant is the value of an expression that reads no series, as 5 * 1024^2.
func constant(e parser.Expr) (float64, bool) {
	switch e := custom.Bare(e).(type) {
	case *parser.NumberLiteral:
		return e.Val, true
	case *parser.UnaryExpr:
		v, ok := constant(e.Expr)
		if e.Op == parser.SUB {
			v = -v
		}
		return v, ok
	case *parser.BinaryExpr:
		a, known := constant(e.LHS)
		b, both := constant(e.RHS)
		if !known || !both {
			return 0, false
		}
		switch e.Op {
		case parser.ADD:
			return a + b, true
		case parser.SUB:
			return a - b, true
		case parser.MUL:
			return a * b, true
		case parser.DIV:
			return a / b, true
		case parser.POW:
			return math.Pow(a, b), true
		}
	}
	return 0, false
}
