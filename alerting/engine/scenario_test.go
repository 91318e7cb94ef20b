package engine

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/routing"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	tsdb "github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// A scenario plays a cluster to the real engine, store and database, with a
// clock of its own and nothing in parallel. testdata/scenarios/README has the
// words.
type scene struct {
	t      *testing.T
	dir    string
	inv    *fakeInventory
	store  *tsdb.DB
	meta   *meta.DB
	engine *Engine
	now    time.Time     // of the wall
	set    time.Duration // by how much the wall clock was set
	line   int
	shown  int64 // position of the newest notification that was expected
	ended  map[string]bool
	logs   *logScene     // nil: there is no log store
	box    *delivery     // nil: nothing is really sent
	let    chan struct{} // what evidence waits for
	sums   *sums         // nil: sums are what scenarios say

	replayed []string // by the last backtest
}

func TestScenarios(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil || len(files) < 10 {
		t.Fatal("too few scenarios", len(files), err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			t.Parallel()
			play(t, f)
		})
	}
}

func newScene(t *testing.T) *scene {
	s := &scene{t: t, dir: t.TempDir(), inv: newFakeInventory(), now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC), ended: map[string]bool{}}
	var err error
	if s.store, err = tsdb.Open(tsdb.Options{Dir: filepath.Join(s.dir, "metrics"), MinFreeBytes: 1}); err != nil {
		t.Fatal(err)
	}
	if s.meta, err = meta.Open(database(t, s.dir)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.store.Close(); _ = s.meta.Close() })
	s.update(func(tx *meta.Tx) error { return nil })
	if err := s.meta.UpsertCluster(context.Background(), meta.ClusterRow{ID: "prod-1", Name: "Production 1", Labels: map[string]string{"env": "prod"}, CreatedAt: s.now}); err != nil {
		t.Fatal(err)
	}
	s.start()
	return s
}

func (s *scene) start() {
	var err error
	s.engine, err = New(Options{Queryable: s.store, Inventory: s.inv, Meta: s.meta, Archive: archive{s.inv}, ScratchDir: s.dir, PublicURL: "https://c.example", Now: func() time.Time { return s.now }, Monotonic: func() time.Duration { return s.now.Sub(epoch) - s.set }})
	if err != nil {
		s.t.Fatal(err)
	}
	if s.logs != nil {
		s.withLogs()
	}
	s.engine.born = s.now
	if err := s.engine.restore(context.Background()); err != nil {
		s.t.Fatal(err)
	}
}

func (s *scene) fail(format string, args ...any) {
	s.t.Helper()
	s.t.Fatalf("line %d, %s: %s", s.line, s.now.Format(time.TimeOnly), fmt.Sprintf(format, args...))
}

func (s *scene) update(fn func(tx *meta.Tx) error) {
	if err := s.meta.Update(context.Background(), fn); err != nil {
		s.fail("%v", err)
	}
}

// epoch of the monotonic clock.
var epoch = time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)

// tick is what Run does between arrivals.
func (s *scene) tick() {
	if s.sums != nil {
		s.rolledUp()
	}
	s.engine.watchClock(context.Background(), s.now)
	s.engine.overdue(context.Background(), s.now)
	s.engine.silence(context.Background(), s.now)
	s.engine.saveJournal(context.Background())
	if h := s.engine.lateHistory(context.Background(), s.now); h != nil {
		s.engine.step(context.Background(), h)
		s.engine.keepHistory(context.Background(), h, s.now)
	}
	s.engine.flush(context.Background(), s.now)
	if s.box != nil {
		s.box.pass(s.now)
	}
}

func (s *scene) wait(d time.Duration) {
	for end := s.now.Add(d); s.now.Before(end); {
		s.now = s.now.Add(min(end.Sub(s.now), 10*time.Second))
		s.tick()
	}
}

var shortNames = map[string]string{
	"cpu": catalogue.PodCPULimitPercent, "mem": catalogue.PodMemLimitPercent, "restarts": catalogue.PodRestarts, "podready": catalogue.PodReady,
	"ready": catalogue.NodeReady, "nodecpu": catalogue.NodeCPUPercent, "fs": catalogue.NodeFilesystemPercent, "abnormal": catalogue.WorkloadAbnormal,
	"podcpu": catalogue.PodCPU, "workloadcpu": catalogue.WorkloadCPU, "coverage": rollup.CoverageRatio, "containercpu": catalogue.ContainerCPU,
}

// series of an object as its collector would send them.
func (s *scene) series(metric, name string) labels.Labels {
	name, dim, _ := strings.Cut(name, "@")
	full := cmp.Or(shortNames[metric], metric)
	l := map[string]string{"__name__": full, "cluster": "prod-1"}
	if k, v, ok := strings.Cut(dim, "="); ok {
		l[k] = v
	}
	m, known := catalogue.Get(full)
	switch {
	case !known: // one that only PromQL knows
		if name != "." {
			l["namespace"], l["pod"] = "shop", name
		}
	case m.Level == catalogue.Pod, m.Level == catalogue.Container:
		l["namespace"], l["pod"], l["node"] = "shop", name, "n-1"
		if m.Level == catalogue.Container {
			l["container"] = "app"
		}
		l["workload_type"], l["workload"] = "deployment", "cart"
		if o, ok := s.inv.Get("prod-1", object.Key{Kind: object.KindPod, Namespace: "shop", Name: name}); ok {
			p := o.(*object.Pod)
			l["node"], l["workload_type"], l["workload"] = cmp.Or(p.Node, "n-1"), p.Workload.Type, p.Workload.Name
		}
	case m.Level == catalogue.Workload:
		l["namespace"], l["workload_type"], l["workload"] = "shop", "deployment", name
		if _, ok := s.inv.Get("prod-1", object.Key{Kind: object.KindWorkload, Namespace: "shop", Name: "job/" + name}); ok {
			l["workload_type"] = "job"
		}
	case m.Level == catalogue.Node:
		l["node"] = name
	}
	return labels.FromMap(l)
}

func (s *scene) put(l labels.Labels, at time.Time, v float64) {
	app := s.store.Appender(context.Background())
	if _, err := app.Append(0, l, at.UnixMilli(), v); err != nil {
		s.fail("%v", err)
	}
	if err := app.Commit(); err != nil {
		s.fail("%v", err)
	}
	if s.sums == nil {
		return
	}
	if f := s.sums.feed(l); f != nil {
		s.sums.rollups.Add("prod-1", interval, []rollup.Sample{{Feed: f, At: at.UnixMilli(), V: v}})
	}
}

// play lets a sender send interval after interval.
func (s *scene) play(sender string, rows [][]string, late time.Duration) {
	senders, numbers := spread(sender)
	for i := range len(rows[0]) - 2 {
		s.now = s.now.Truncate(interval).Add(interval)
		at := s.now.Add(-late)
		silent := false
		for _, r := range rows {
			if len(r) != len(rows[0]) {
				s.fail("rows of different length")
			}
			switch v := r[i+2]; v {
			case "-":
				silent = true
			case "_":
			default:
				if strings.HasPrefix(sender, "logs/") {
					continue
				}
				f, err := strconv.ParseFloat(v, 64)
				if err != nil {
					s.fail("%v", err)
				}
				for _, n := range numbers {
					s.put(s.series(r[0], strings.ReplaceAll(r[1], "*", n)), at, f)
				}
			}
		}
		s.now = s.now.Add(300 * time.Millisecond)
		if node, ok := strings.CutPrefix(sender, "logs/"); ok && !silent {
			s.engine.countLines(context.Background(), s.now)
			s.logs.written(node, at, rows, i)
			s.engine.countLines(context.Background(), s.now)
			silent = true // no samples
		}
		if !silent {
			if sender == senderRollup || sender == "low" { // low: half of the nodes had sent
				s.put(labels.FromStrings("__name__", rollup.CoverageRatio, "cluster", "prod-1"), at, map[string]float64{"low": 0.5}[sender]+map[string]float64{senderRollup: 1}[sender])
				s.engine.RolledUp(rollup.Written{Cluster: "prod-1", At: at})
			} else {
				for _, one := range senders {
					s.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: one, Through: at, Interval: interval, ReceivedAt: s.now})
					if s.sums != nil {
						s.reported(one, at)
					}
				}
			}
			s.judge()
		}
		s.tick()
	}
}

func (s *scene) resource(kind, name, spec string, extra ...string) {
	doc := fmt.Sprintf("apiVersion: crowsnest.dev/v1\nkind: %s\nmetadata: {name: %s, labels: {team: shop}}\nspec:\n%s", kind, name, spec)
	own := map[string]string{"team": "shop"} // its labels
	for _, w := range extra {
		k, v, _ := strings.Cut(w, "=")
		own[k] = v
	}
	var raw any
	var sealed []byte // of a target
	var err error
	known := routing.Known{Now: s.now}
	switch kind {
	case meta.KindPolicy:
		var p *policy.Policy
		if p, err = policy.Parse([]byte(doc), policy.Known{}); err == nil {
			raw = p.Spec
		}
	case meta.KindRoute:
		var o *routing.Route
		if o, err = routing.ParseRoute([]byte(doc), known); err == nil {
			raw = o.Spec
		}
	case meta.KindSilence:
		var o *routing.Silence
		if o, err = routing.ParseSilence([]byte(doc), known); err == nil {
			raw = o.Spec
		}
	case meta.KindMaintenance:
		var o *routing.Maintenance
		if o, err = routing.ParseMaintenance([]byte(doc), known); err == nil {
			raw = o.Spec
		}
	case meta.KindInhibition:
		var o *routing.Inhibition
		if o, err = routing.ParseInhibition([]byte(doc), known); err == nil {
			raw = o.Spec
		}
	case meta.KindTarget:
		raw = map[string]any{"type": "webhook"}
		if s.box != nil {
			raw, sealed = s.box.target(s, name, spec)
		}
	}
	if err != nil {
		s.fail("%v\n%s", err, doc)
	}
	b, err := json.Marshal(raw)
	if err != nil {
		s.fail("%v", err)
	}
	row := meta.Resource{
		ID: strings.ToLower(kind) + "_" + name, Kind: kind, Project: "default", Name: name, Revision: 1, Labels: own, Spec: b, Sealed: sealed,
		ManagedBy: "console", CreatedAt: s.now, UpdatedAt: s.now,
	}
	s.update(func(tx *meta.Tx) error {
		if old, err := tx.Resource(kind, "default", name); err == nil {
			row.Revision = old.Revision
			_, err = tx.UpdateResource(row)
			return err
		}
		return tx.CreateResource(row)
	})
	s.engine.reload(context.Background(), s.now)
}

// object makes or changes one: "pod cart-1 age=1h node=n-1".
func (s *scene) object(kind string, words []string) {
	opt := map[string]string{}
	for _, w := range words[1:] {
		k, v, _ := strings.Cut(w, "=")
		opt[k] = v
	}
	age, err := time.ParseDuration(cmp.Or(opt["age"], "24h"))
	if err != nil {
		s.fail("%v", err)
	}
	m := object.Meta{UID: cmp.Or(opt["uid"], "uid-"+words[0]), Name: words[0], CreatedAt: s.now.Add(-age)}
	number := func(k string) int { n, _ := strconv.Atoi(opt[k]); return n }
	switch kind {
	case "pod":
		m.Namespace = "shop"
		ref, ok := object.ParseWorkloadRef(cmp.Or(opt["workload"], "deployment/cart"))
		if !ok {
			s.fail("workload %q", opt["workload"])
		}
		_, free := opt["nolimit"]
		_, terminating := opt["terminating"]
		s.inv.put(&object.Pod{
			Meta: m, Node: strings.TrimSuffix(cmp.Or(opt["node"], "n-1"), "unknown"), Workload: ref, Phase: cmp.Or(opt["phase"], object.PhaseRunning), Terminating: terminating,
			Limits: object.Resources{HasCPU: !free, HasMemory: !free}, Containers: []object.Container{{Name: "app", State: cmp.Or(opt["container"], "running"), Limits: object.Resources{HasCPU: !free, HasMemory: !free}}},
		})
	case "workload":
		m.Namespace = "shop"
		s.inv.put(&object.Workload{Meta: m, Ref: object.WorkloadRef{Type: cmp.Or(opt["type"], "deployment"), Name: words[0]}, Desired: number("desired"), Revision: cmp.Or(opt["revision"], "1")})
	case "node":
		s.inv.put(&object.Node{Meta: m})
	}
}

func (s *scene) gone(kind, name string) {
	key := object.Key{Kind: object.Kind(kind), Namespace: "shop", Name: name}
	switch kind {
	case "node":
		key.Namespace = ""
	case "workload":
		key.Name = "deployment/" + name
	}
	o, ok := s.inv.Get("prod-1", key)
	if !ok {
		s.fail("no %s", key)
	}
	s.inv.mu.Lock()
	delete(s.inv.now, key)
	s.inv.gone[key] = inventory.Tombstone{At: s.now, Last: o}
	s.inv.mu.Unlock()
}

func (s *scene) alerts(state string) []*incident.Alert {
	var out []*incident.Alert
	err := s.meta.View(context.Background(), func(tx *meta.Tx) error {
		rows, err := tx.Alerts(meta.AlertFilter{State: state})
		for _, r := range rows {
			a, err := incident.FromRow(r)
			if err != nil {
				return err
			}
			out = append(out, a)
		}
		return err
	})
	if err != nil {
		s.fail("%v", err)
	}
	return out
}

func nameOfAlert(a *incident.Alert) string {
	o := a.Object
	name := cmp.Or(o.Container, o.Pod, o.Volume, o.Service, o.Component)
	if name == "" {
		name = cmp.Or(o.Workload, o.Node, o.Namespace, o.Cluster)
	}
	for _, k := range slices.Sorted(maps.Keys(a.Dimensions)) {
		name += "@" + k + "=" + a.Dimensions[k]
	}
	return name
}

// expect compares what is with what should be; the order of what happened at
// the same time does not matter.
func (s *scene) expect(what, want string) {
	var got []string
	switch what {
	case "firing":
		for _, a := range s.engine.alerts {
			text := nameOfAlert(a) + " " + string(a.Severity)
			if a.Stale {
				text += " stale"
			}
			if a.State.Flapping {
				text += " flapping"
			}
			got = append(got, text)
		}
		if stored := s.alerts(meta.AlertFiring); len(stored) != len(s.engine.alerts) {
			s.fail("%d alerts in memory, %d stored", len(s.engine.alerts), len(stored))
		}
	case "ended":
		for _, a := range s.alerts(meta.AlertEnded) {
			if !s.ended[a.ID] {
				s.ended[a.ID] = true
				got = append(got, nameOfAlert(a)+" "+string(a.Cause))
			}
		}
	case "sent":
		_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
			rows, err := tx.Notifications(meta.NotificationFilter{})
			for _, n := range slices.Backward(rows) {
				if n.Position <= s.shown {
					continue
				}
				s.shown = n.Position
				got = append(got, strings.TrimPrefix(n.TargetID, "target_")+" "+strings.TrimPrefix(n.Type, "incident."))
			}
			return err
		})
	case "incidents":
		_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
			rows, err := tx.Incidents(meta.IncidentFilter{})
			for _, i := range rows {
				var st incident.State
				_ = json.Unmarshal(i.Data, &st)
				got = append(got, fmt.Sprintf("%s %s reopened=%d", st.Subject, i.State, st.Reopened))
			}
			return err
		})
	case "told":
		got = s.told()
	case "replayed":
		got = s.replayed
	case "explanation":
		for _, a := range s.engine.alerts {
			got = append(got, a.Explanation)
		}
	case "status": // of the policies
		_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
			rows, err := tx.Resources(meta.KindPolicy)
			clusters, _ := tx.ListClusters()
			for _, r := range rows {
				st, err := s.engine.Status(r, clusters)
				if err != nil {
					return err
				}
				got = append(got, r.Name+" "+st.State+": "+strings.Join(st.Reasons, "; "))
			}
			return err
		})
	case "timeline":
		for _, id := range s.incidents("") {
			_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
				events, err := tx.IncidentEvents(id, 1000)
				for _, e := range events {
					got = append(got, e.Type)
				}
				return err
			})
		}
	case "received", "deliveries": // what is waited for, below
	default:
		s.fail("cannot expect %q", what)
	}
	var wanted []string
	for _, w := range strings.Split(want, ",") {
		if w = strings.TrimSpace(w); w != "" && w != "none" {
			wanted = append(wanted, w)
		}
	}
	switch what {
	case "received":
		s.received(wanted)
		return
	case "deliveries":
		s.deliveries(wanted)
		return
	case "explanation", "status":
		if !strings.Contains(strings.Join(got, "; "), want) {
			s.fail("no %s has %q: %q", what, want, got)
		}
		return
	}
	slices.Sort(got)
	slices.Sort(wanted)
	if !slices.Equal(got, wanted) {
		s.fail("%s: got %s, want %s", what, strings.Join(got, ", "), strings.Join(wanted, ", "))
	}
}

func (s *scene) incidents(state string) (ids []string) {
	_ = s.meta.View(context.Background(), func(tx *meta.Tx) error {
		rows, err := tx.Incidents(meta.IncidentFilter{State: state})
		for _, i := range rows {
			ids = append(ids, i.ID)
		}
		return err
	})
	return ids
}

// human does to every open incident what somebody would.
func (s *scene) human(word string) {
	for _, id := range s.incidents(meta.IncidentOpen) {
		fn := map[string]func(tx *meta.Tx) (bool, error){
			"acknowledge": func(tx *meta.Tx) (bool, error) {
				return s.engine.book.Acknowledge(tx, s.now, id, "eve", "", time.Time{})
			},
			"unacknowledge": func(tx *meta.Tx) (bool, error) { return s.engine.book.Unacknowledge(tx, s.now, id, "eve") },
			"comment":       func(tx *meta.Tx) (bool, error) { return false, s.engine.book.Comment(tx, s.now, id, "eve", "looking") },
			"assign":        func(tx *meta.Tx) (bool, error) { return false, s.engine.book.Assign(tx, s.now, id, "eve", "adam") },
		}[word]
		if word == "resolve" {
			done := make(chan error, 1)
			go func() { done <- s.engine.Resolve(context.Background(), id, "eve", "") }()
			c := <-s.engine.calls
			c.done <- s.engine.act(context.Background(), c)
			if err := <-done; err != nil {
				s.fail("%v", err)
			}
			continue
		}
		s.update(func(tx *meta.Tx) error { _, err := fn(tx); return err })
	}
}

func play(t *testing.T, path string) {
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	s := newScene(t)
	var lines []string
	sc := bufio.NewScanner(strings.NewReader(string(b)))
	for sc.Scan() {
		lines = append(lines, sc.Text())
	}
	block := func(i int) (out []string) {
		for i++; i < len(lines) && strings.HasPrefix(lines[i], " "); i++ {
			out = append(out, lines[i])
		}
		return out
	}
	duration := func(w string) time.Duration {
		d, err := model.ParseDuration(w)
		if err != nil {
			s.fail("%v", err)
		}
		return time.Duration(d)
	}
	for i, line := range lines {
		s.line = i + 1
		words := strings.Fields(line)
		if len(words) == 0 || strings.HasPrefix(line, "#") || strings.HasPrefix(line, " ") {
			continue
		}
		switch word := words[0]; word {
		case "policy", "route", "silence", "maintenance", "inhibition", "target":
			kind := strings.ToUpper(word[:1]) + word[1:]
			spec := strings.Join(block(i), "\n")
			if word == "silence" { // for so long from now
				spec = strings.ReplaceAll(spec, "FOR ", "until: ")
				if _, err := yaml.YAMLToJSON([]byte(spec)); err != nil {
					s.fail("%v", err)
				}
				if at := strings.Index(spec, "until: "); at >= 0 {
					rest := strings.TrimSpace(spec[at+len("until: "):])
					spec = spec[:at] + "until: \"" + s.now.Add(duration(rest)).Format(time.RFC3339) + "\""
				}
			}
			s.resource(kind, words[1], spec, words[2:]...)
		case "pod", "workload", "node":
			s.object(word, words[1:])
		case "gone":
			s.gone(words[1], words[2])
		case "delete":
			kind := strings.ToUpper(words[1][:1]) + words[1][1:]
			s.update(func(tx *meta.Tx) error { return tx.DeleteResource(kind, "default", words[2]) })
			s.engine.reload(context.Background(), s.now)
		case "play":
			late := time.Duration(0)
			if len(words) > 3 && words[2] == "late" {
				late = duration(words[3])
			}
			if strings.HasPrefix(words[1], "logs/") {
				s.withLogs()
			}
			var rows [][]string
			for _, l := range block(i) {
				rows = append(rows, strings.Fields(l))
			}
			s.play(words[1], rows, late)
		case "sample": // between those of play: in so long from now
			v, err := strconv.ParseFloat(words[4], 64)
			if err != nil {
				s.fail("%v", err)
			}
			s.put(s.series(words[1], words[2]), s.now.Truncate(interval).Add(duration(words[3])), v)
		case "deliver":
			s.deliver()
		case "answers":
			s.box.answers(words[1], words[2])
		case "evidence":
			s.evidence(words[1])
		case "crash":
			s.crash()
		case "rollups":
			n, err := strconv.Atoi(words[1])
			if err != nil {
				s.fail("%v", err)
			}
			s.rollUp(n)
		case "backtest":
			s.backtest(words[1], duration(words[2]), strings.Join(block(i), "\n"))
		case "wait":
			s.wait(duration(words[1]))
		case "beat": // a sender sends, and nothing that matters here
			for end := s.now.Add(duration(words[2])); s.now.Before(end); {
				s.now = s.now.Add(min(end.Sub(s.now), 50*time.Second)) // it is not silent
				s.tick()
				s.play(words[1], [][]string{{"cpu", "beat-1", "_"}}, 0)
			}
		case "clock": // is set
			by, err := time.ParseDuration(words[1])
			if err != nil {
				s.fail("%v", err)
			}
			s.tick()
			s.now, s.set = s.now.Add(by), s.set+by
			s.tick()
		case "remove": // the cluster
			if err := s.meta.DeleteCluster(context.Background(), words[2]); err != nil {
				s.fail("%v", err)
			}
			s.inv.mu.Lock()
			s.inv.removed = true
			s.inv.mu.Unlock()
			s.engine.reload(context.Background(), s.now)
		case "label": // the cluster
			k, v, _ := strings.Cut(words[3], "=")
			if err := s.meta.UpsertCluster(context.Background(), meta.ClusterRow{ID: words[2], Name: words[2], Labels: map[string]string{k: v}, CreatedAt: s.now}); err != nil {
				s.fail("%v", err)
			}
			s.engine.reload(context.Background(), s.now)
		case "restart":
			s.start()
		case "acknowledge", "unacknowledge", "comment", "assign", "resolve":
			s.human(word)
		case "expect":
			what, want, _ := strings.Cut(strings.TrimPrefix(line, "expect "), ":")
			s.expect(what, strings.TrimSpace(want))
		default:
			s.fail("unknown word %q", word)
		}
	}
}
