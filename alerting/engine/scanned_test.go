package engine

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// What began while data were late is the same whether policies share what was scanned for
// them or each has a scan of its own, and however they are mixed.
func TestLateDataAreScannedOnceForPoliciesThatLookForTheSame(t *testing.T) {
	text := func(v any) string {
		raw, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	found, shared := 0, 0
	for _, seed := range []uint64{3, 11, 19, 27}[:whileRacing(1, 4)] { // a few policies, of which many find something
		w := newCommotion(t, seed)
		e := w.named
		// As many again that differ in what they select, or in what is bad.
		for i, c := range slices.Clone(e.policies[:whileRacing(4, len(e.policies))]) {
			spec := strings.NewReplacer(`"op":"\u003c`, `"op":"\u003e`, `"op":"\u003e`, `"op":"\u003c`).Replace(text(c.spec))
			if i%2 == 0 {
				spec = text(c.spec)
				spec = `{"objects":{"names":["*` + w.one("1", "2", "3", "4") + `"]},` + spec[1:]
			}
			other, err := compile(meta.Resource{ID: fmt.Sprint("q", i), Kind: meta.KindPolicy, Project: "default", Name: fmt.Sprint("q", i), Revision: 1, Spec: []byte(spec)})
			if err == nil && other.level != catalogue.Cluster {
				for _, e := range []*Engine{w.named, w.whole} {
					e.policies = append(e.policies, other)
					e.byID[other.ref.ID] = other
				}
			}
		}
		e.opts.Archive, e.opts.ScratchDir = w.inv, t.TempDir()
		from := w.grid
		for range 60 {
			w.happens()
		}
		e.policies = e.policies[max(0, len(e.policies)-whileRacing(8, len(e.policies))):]
		h := &history{LateRange: meta.LateRange{Cluster: "prod-1", From: from, To: w.grid}, policies: slices.Clone(e.policies), of: e.clusters["prod-1"], interval: interval, until: w.grid}
		w.random.Shuffle(len(h.policies), func(i, j int) { h.policies[i], h.policies[j] = h.policies[j], h.policies[i] })
		e.step(t.Context(), h)
		if h.err != nil {
			t.Fatal(h.err)
		}
		var together, apart []string
		note := func(to *[]string, a *incident.Alert) {
			a.ID, a.IncidentID = "", "" // random
			*to = append(*to, text(a))
		}
		for _, a := range h.alerts {
			note(&together, a)
		}
		scans := map[scanOf]int{}
		for _, c := range e.policies { // nothing was left out, so each finds what came late as well
			b := &replay{
				live: e, archive: w.inv, now: w.now, c: c, row: meta.Resource{ID: c.ref.ID, Name: c.ref.Name, Project: c.ref.Project}, cluster: h.of, interval: interval,
				from: from, to: w.grid, out: &policy.Replay{BySeverity: map[string]int{}}, messages: map[[2]string]int{}, progress: func(float64) {},
			}
			if of := b.scanOf(); of != (scanOf{}) {
				scans[of]++
			}
			err := b.onScratch(t.Context(), func(db *meta.DB) error {
				return db.View(t.Context(), func(tx *meta.Tx) error {
					rows, err := tx.Alerts(meta.AlertFilter{State: meta.AlertEnded})
					for _, row := range rows {
						if a, err := incident.FromRow(row); err != nil {
							return err
						} else if !a.StartedAt.Before(from) && !a.StartedAt.After(w.grid) {
							note(&apart, a)
						}
					}
					return err
				})
			})
			if err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(apart)
		slices.Sort(together)
		if !slices.Equal(apart, together) {
			t.Errorf("seed %d: %d began, and %d by policies on their own", seed, len(together), len(apart))
		}
		found += len(apart)
		for _, n := range scans {
			shared += n - 1
		}
	}
	if !racing && (found < 30 || shared < 10) {
		t.Errorf("%d began, %d scans were shared: that is no test", found, shared)
	}
}

// Policies share a scan only if nothing that it depends on differs.
func TestScansThatDifferAreNotShared(t *testing.T) {
	of := func(level, objects, condition, noData string) scanOf {
		t.Helper()
		spec := fmt.Sprintf(`{"level":%q,%s"conditions":[%s],"recoverAfter":1,"noData":%s,"group":{"interval":"5m"}}`, level, objects, condition, noData)
		c, err := compile(meta.Resource{ID: "p", Kind: meta.KindPolicy, Project: "default", Name: "p", Revision: 1, Spec: []byte(spec)})
		if err != nil {
			t.Fatalf("%v: %s", err, spec)
		}
		return (&replay{c: c, from: epoch, to: epoch.Add(time.Hour), interval: interval}).scanOf()
	}
	condition := func(metric, statistic, period, op, threshold string, need int, more string) string {
		return fmt.Sprintf(`{"metric":%q,"statistic":%q,"period":%q,"op":%q,"thresholds":{"warning":%s},"need":%d,"of":3%s}`, metric, statistic, period, op, threshold, need, more)
	}
	const keep, alert = `{"action":"keep","after":"5m","severity":"warning"}`, `{"action":"alert","after":"5m","severity":"warning"}`
	one := of("pod", "", condition(podWaiting, "max", "1m", ">", "1", 2, ""), keep)
	if one == (scanOf{}) {
		t.Fatal("one metric is not shared")
	}
	if other := of("pod", `"objects":{"names":["a*"]},`, condition(podWaiting, "max", "1m", ">", "1", 2, ""), keep); other != one {
		t.Errorf("what is selected makes a difference: %+v, %+v", one, other)
	}
	for name, other := range map[string]scanOf{
		"metric":       of("pod", "", condition(catalogue.PodReady, "max", "1m", ">", "1", 2, ""), keep),
		"statistic":    of("pod", "", condition(podWaiting, "avg", "1m", ">", "1", 2, ""), keep),
		"period":       of("pod", "", condition(podWaiting, "max", "2m", ">", "1", 2, ""), keep),
		"op":           of("pod", "", condition(podWaiting, "max", "1m", "<", "1", 2, ""), keep),
		"threshold":    of("pod", "", condition(podWaiting, "max", "1m", ">", "2", 2, ""), keep),
		"where":        of("pod", "", condition(podWaiting, "max", "1m", ">", "1", 2, `,"where":{"reason":["Crash*"]}`), keep),
		"change":       of("pod", "", condition(podWaiting, "max", "1m", ">", "1", 2, `,"change":{"against":"1h","as":"absolute"}`), keep),
		"missing data": of("pod", "", condition(podWaiting, "max", "1m", ">", "1", 2, ""), alert),
	} {
		if other == one {
			t.Errorf("%s makes no difference: %+v", name, other)
		}
	}
	if two := of("pod", "", condition(podWaiting, "max", "1m", ">", "1", 2, "")+","+condition(catalogue.PodReady, "max", "1m", ">", "1", 2, ""), keep); two != (scanOf{}) {
		t.Error("two conditions are shared")
	}
}
