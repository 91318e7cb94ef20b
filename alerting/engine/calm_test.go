package engine

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/value"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// Of whatever policy and samples: what is calm is never found bad by a judgement.
func TestCalmIsNeverBad(t *testing.T) {
	random := rand.New(rand.NewPCG(5, 6))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	metrics := []string{catalogue.PodCPULimitPercent, catalogue.PodRestarts, catalogue.PodReady, catalogue.PodMem}
	pod := cartPod(epoch)
	pod.Namespace, pod.Name = "shop", "cart-1"
	inv := newFakeInventory()
	sub := subject{level: catalogue.Pod, object: "shop/cart-1"}
	at := epoch.Add(24 * time.Hour)
	calm, bad, stirred := 0, 0, 0
	for range whileRacing(4000, 8000) {
		var conditions []map[string]any
		for range 1 + random.IntN(2) {
			metric := metrics[random.IntN(len(metrics))]
			statistic := one("avg", "min", "max", "last", "sum", "p50")
			if metric == catalogue.PodRestarts {
				statistic = one("increase", "last")
			}
			c := map[string]any{
				"metric": metric, "statistic": statistic, "period": one("30s", "1m", "2m"), "op": one(">", ">=", "<", "<=", "==", "!="),
				"thresholds": map[string]any{one("warning", "critical"): float64(random.IntN(4))}, "need": 1, "of": 1 + random.IntN(2),
			}
			if random.IntN(10) == 0 {
				c["change"] = map[string]any{"against": "1m", "as": "absolute"}
			}
			conditions = append(conditions, c)
		}
		spec, err := json.Marshal(map[string]any{
			"level": "pod", "conditions": conditions, "combine": one("all", "any"), "recoverAfter": 1,
			"noData": map[string]any{"action": one("keep", "resolve", "alert"), "after": "1m", "severity": "warning"}, "group": map[string]any{"interval": "5m"},
		})
		if err != nil {
			t.Fatal(err)
		}
		c, err := compile(meta.Resource{ID: "p", Kind: meta.KindPolicy, Project: "default", Name: "p", Revision: 1, Spec: spec})
		if err != nil {
			t.Fatalf("%v: %s", err, spec)
		}
		pod.CreatedAt = at.Add(-time.Duration(random.IntN(600)) * time.Second)
		inv.put(pod)
		data := readings{metrics: map[string]*values{}}
		for _, m := range metrics {
			var samples []evaluate.Sample
			least := random.IntN(3) // so that many are all alike
			for back := 20; back >= 0; back-- {
				v := float64(least + random.IntN(2)*random.IntN(2)*random.IntN(3))
				switch random.IntN(30) {
				case 0:
					v = math.Float64frombits(value.StaleNaN)
				case 1:
					continue
				}
				samples = append(samples, evaluate.Sample{T: at.Add(-time.Duration(back) * interval).UnixMilli(), V: v})
			}
			data.metrics[m] = valuesOf(sub, samples)
		}
		ct := &court{inventory: inv, cluster: "prod-1", at: at, interval: interval, silent: func(catalogue.Place, string) bool { return false }}
		v, ok := ct.judge(c, sub, nil, evaluate.State{}, data)
		rank := 0
		if ok {
			rank = v.state.Rank(c.rule.NoDataRank)
		}
		switch {
		case rank > 0 && c.calm(sub, data):
			t.Fatalf("it is bad, but was called calm: %s\n%v", spec, data.metrics)
		case rank > 0:
			bad++
		case c.calm(sub, data):
			calm++
		default:
			stirred++
		}
	}
	if calm < 300 || bad < 300 {
		t.Errorf("%d were calm, %d bad, %d neither: that is no test", calm, bad, stirred)
	}
}

// Whatever the policies are, arrivals tell of each sample that one of them is suspicious of,
// and of few others.
func TestWhatIsSuspiciousIsOdd(t *testing.T) {
	random := rand.New(rand.NewPCG(11, 12))
	one := func(of ...string) string { return of[random.IntN(len(of))] }
	suspicious, odd, checked := 0, 0, 0
	for range whileRacing(100, 600) {
		var policies []*compiled
		for i := range 1 + random.IntN(20) {
			statistic := one("avg", "min", "max", "last", "sum", "p50", "increase")
			metric := map[bool]string{true: catalogue.PodRestarts, false: catalogue.PodMem}[statistic == "increase"]
			spec := fmt.Sprintf(`{"level":"pod","conditions":[{"metric":%q,"statistic":%q,"period":"1m","op":%q,"thresholds":{"warning":%d},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"interval":"5m"}}`,
				metric, statistic, one(">", ">=", "<", "<=", "==", "!="), random.IntN(60))
			c, err := compile(meta.Resource{ID: "p", Kind: meta.KindPolicy, Project: "default", Name: fmt.Sprint("p", i), Revision: 1, Spec: []byte(spec)})
			if err != nil {
				t.Fatalf("%v: %s", err, spec)
			}
			policies = append(policies, c)
		}
		watch := watchOf(policies)
		for range 50 {
			v := float64(random.IntN(62) - 1)
			switch random.IntN(8) {
			case 0:
				v = math.Nextafter(v, math.Inf(1-2*random.IntN(2)))
			case 1:
				v = []float64{math.NaN(), math.Inf(1), math.Inf(-1), -0.5}[random.IntN(4)]
			}
			for _, c := range policies {
				of := watch.Of(c.conditions[0].Metric)
				is := of != nil && (of.Is(v) || of.IfMoved(v))
				suspects := c.suspects[0] != nil && c.suspects[0](math.NaN(), v)
				if suspects && !is {
					t.Fatalf("%v is suspicious by %+v, and not odd by %+v", v, c.rule.Conditions[0], of)
				}
				if checked++; suspects {
					suspicious++
				}
				if is {
					odd++
				}
			}
			if of := watch.Of(catalogue.PodMem); of != nil && of.Is(math.Float64frombits(value.StaleNaN)) {
				t.Fatal("a stale marker is odd")
			}
		}
	}
	if suspicious < 1000 || checked-odd < 1000 {
		t.Errorf("of %d samples %d were suspicious, %d odd: that is no test", checked, suspicious, odd)
	}
}

// What a name rules out is not selected, whatever the object is.
func TestImpossibleIsNotSelected(t *testing.T) {
	globs := [][]string{nil, nil, {"a*"}, {"*b"}, {"ab", "b?"}}
	random := rand.New(rand.NewPCG(7, 8))
	pick := func() []string { return globs[random.IntN(len(globs))] }
	names := []string{"a", "b", "ab", "ba", "bb"}
	ruled := 0
	for range 5000 {
		o := &policy.Objects{Namespaces: pick(), Names: pick(), Workloads: []string{"deployment/*"}, Exclude: &policy.Exclude{Namespaces: pick(), Names: pick(), Workloads: []string{"job/*"}}}
		name := func() string { return names[random.IntN(len(names))] }
		namespace, n, container := name(), name(), name()
		ref := object.WorkloadRef{Type: "deployment", Name: n}
		for level, is := range map[catalogue.Level]struct {
			object    object.Object
			container string
		}{
			catalogue.Pod:       {&object.Pod{Meta: object.Meta{Namespace: namespace, Name: n}, Workload: ref}, ""},
			catalogue.Container: {&object.Pod{Meta: object.Meta{Namespace: namespace, Name: n}, Workload: ref}, container},
			catalogue.Workload:  {&object.Workload{Meta: object.Meta{Namespace: namespace, Name: n}, Ref: ref}, ""},
			catalogue.Node:      {&object.Node{Meta: object.Meta{Name: n}}, ""},
		} {
			sel, err := policy.Compile(&policy.Spec{Level: string(level), Objects: o})
			if err != nil {
				t.Fatal(err)
			}
			c := &compiled{level: level, selection: sel, spec: &policy.Spec{Level: string(level)}}
			sub := subject{level: level, object: nameOf(is.object, is.container)}
			if c.possible(sub) {
				continue
			}
			ruled++
			if sel.Object(is.object, is.container) {
				t.Fatalf("%+v %+v: %v is selected", o, o.Exclude, sub)
			}
		}
	}
	if ruled < 1000 {
		t.Errorf("only %d were ruled out", ruled)
	}
}

// An object's key is made of the names that labelsOf finds, and of nothing else.
func TestObjectKeyIsOfItsLabels(t *testing.T) {
	for _, level := range []catalogue.Level{catalogue.Cluster, catalogue.Node, catalogue.Namespace, catalogue.Workload, catalogue.Service, catalogue.Pod, catalogue.Container, catalogue.Volume, catalogue.Component} {
		for _, name := range []string{"", "/", "a", "a/", "/a", "a/b", "a//b", "a/b/", "a/b/c", "/b/c", "a//c", "a/b/c/", "a/b/c/d", "///"} {
			key, container, ok := objectKey(level, name)
			l, named := labelsOf(level, name)
			if unlisted := level == catalogue.Cluster || level == catalogue.Volume || level == catalogue.Component; ok != (named && !unlisted) {
				t.Errorf("%s %q: %v", level, name, ok)
			}
			if !ok {
				continue
			}
			var got []string
			for _, s := range []string{key.Namespace, key.Name, container} {
				if s != "" {
					got = append(got, s)
				}
			}
			var want []string
			for _, label := range level.ObjectLabels()[1:] {
				want = append(want, l[label])
			}
			if strings.Join(got, "/") != strings.Join(want, "/") {
				t.Errorf("%s %q: %v, want %v", level, name, got, want)
			}
		}
	}
}

// asked is an archive that counts what it is asked.
type asked struct{ versions, queries, histories int }

func (a *asked) Versions(context.Context, string, object.Key, time.Time, time.Time) ([]inventory.Version, error) {
	return nil, errors.New("it is asked for one object")
}

func (a *asked) VersionsOf(_ context.Context, _ string, _ object.Kind, keys []object.Key, _, _ time.Time, fn func(inventory.Version) error) error {
	a.queries++
	for _, key := range keys {
		a.versions++
		if strings.HasPrefix(key.Name, "none") {
			continue
		}
		if err := fn(inventory.Version{Object: &object.Pod{Meta: object.Meta{Namespace: key.Namespace, Name: key.Name}}}); err != nil {
			return err
		}
	}
	return nil
}

func (a *asked) History(_ context.Context, _ string, kind object.Kind, _, _ time.Time, fn func(inventory.Version) error) error {
	a.histories++
	return fn(inventory.Version{Object: &object.Namespace{Meta: object.Meta{Name: string(kind)}}})
}

func TestRememberingAsksOnce(t *testing.T) {
	var a asked
	r := remember(&a)
	ctx := context.Background()
	for range 3 {
		for n := range 5 {
			keys := []object.Key{{Kind: object.KindPod, Namespace: "shop", Name: fmt.Sprint("p", n)}, {Kind: object.KindPod, Namespace: "shop", Name: fmt.Sprint("none", n)}, {Kind: object.KindPod, Namespace: "shop", Name: "p0"}}
			for _, from := range []time.Time{epoch, epoch.Add(time.Hour)} {
				var got []object.Key
				err := r.VersionsOf(ctx, "prod-1", object.KindPod, keys[:min(len(keys), n+2)], from, epoch.Add(2*time.Hour), func(v inventory.Version) error {
					got = append(got, object.KeyOf(v.Object))
					return nil
				})
				slices.SortFunc(got, func(a, b object.Key) int { return strings.Compare(b.Name, a.Name) })
				if want := slices.Delete(slices.Clone(keys[:min(len(keys), n+2)]), 1, 2); err != nil || !slices.Equal(got, want) {
					t.Fatalf("%v, %v, want %v", got, err, want)
				}
			}
		}
		for _, kind := range []object.Kind{object.KindNamespace, object.KindPod} {
			var got []string
			err := r.History(ctx, "prod-1", kind, epoch, epoch.Add(time.Hour), func(v inventory.Version) error {
				got = append(got, v.Object.GetMeta().Name)
				return nil
			})
			if err != nil || !slices.Equal(got, []string{string(kind)}) {
				t.Fatalf("%v, %v", got, err)
			}
		}
	}
	if a.versions != 20 || a.queries != 10 || a.histories != 4 { // the histories of pods are too large to be kept
		t.Errorf("asked for %d objects by %d queries and %d histories, want 20, 10 and 4", a.versions, a.queries, a.histories)
	}
	var many []object.Key
	for n := range maxRemembered {
		many = append(many, object.Key{Kind: object.KindPod, Name: fmt.Sprint("q", n)})
	}
	if err := r.VersionsOf(ctx, "prod-1", object.KindPod, many, epoch, epoch, func(inventory.Version) error { return nil }); err != nil {
		t.Fatal(err)
	}
	if len(r.versions) > maxRemembered {
		t.Errorf("%d objects are kept", len(r.versions))
	}
}

// What looks at the past waits until the present was evaluated, but not for ever.
func TestThePastGivesWay(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		var p precedence
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		waits := func() time.Duration {
			began := time.Now()
			p.giveWay(ctx, giveWayFor)
			return time.Since(began)
		}
		if took := waits(); took != 0 {
			t.Errorf("waits for %s though nothing is evaluated", took)
		}
		p.begin()
		go func() {
			time.Sleep(7 * time.Second)
			p.end()
		}()
		if took := waits(); took != 7*time.Second {
			t.Errorf("waits for %s, want until the present was evaluated", took)
		}
		p.begin()
		if took := waits(); took != giveWayFor {
			t.Errorf("waits for %s beside a present without end", took)
		}
		cancel()
		if took := waits(); took != 0 {
			t.Errorf("waits for %s after its end", took)
		}
		p.end()
		p.end() // nothing is being evaluated
	})
}
