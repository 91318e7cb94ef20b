package engine

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	tsdb "github.com/crowsnest-dev/crowsnest/storage/metrics"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m, logstest.Leaks()...) }

const interval = 30 * time.Second

// fakeInventory holds one cluster's objects.
type fakeInventory struct {
	mu      sync.Mutex
	synced  bool
	removed bool // the cluster
	kind    string
	now     map[object.Key]object.Object
	gone    map[object.Key]inventory.Tombstone
}

var _ Inventory = (*fakeInventory)(nil)

func newFakeInventory() *fakeInventory {
	return &fakeInventory{synced: true, kind: "managed", now: map[object.Key]object.Object{}, gone: map[object.Key]inventory.Tombstone{}}
}

func (f *fakeInventory) put(objects ...object.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, o := range objects {
		f.now[object.KeyOf(o)] = o
	}
}

func (f *fakeInventory) remove(o object.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.now, object.KeyOf(o))
	f.gone[object.KeyOf(o)] = inventory.Tombstone{Last: o}
}

func (f *fakeInventory) Clusters() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.removed {
		return nil
	}
	return []string{"prod-1"}
}

func (f *fakeInventory) Info(cluster string) (inventory.Info, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return inventory.Info{Kind: f.kind, Synced: f.synced}, cluster == "prod-1"
}

func (f *fakeInventory) List(_ string, kind object.Kind) (out []object.Object) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for k, o := range f.now {
		if k.Kind == kind {
			out = append(out, o)
		}
	}
	return out
}

func (f *fakeInventory) Get(_ string, key object.Key) (object.Object, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	o, ok := f.now[key]
	return o, ok
}

func (f *fakeInventory) Gone(_ string, key object.Key) (inventory.Tombstone, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t, ok := f.gone[key]
	return t, ok
}

// received is one request that a receiver got.
type received struct {
	at      time.Time
	id      string
	body    []byte
	message incident.Message
	headers http.Header
}

// receiver is a webhook's other end.
type receiver struct {
	server *httptest.Server
	got    chan received
	mu     sync.Mutex
	answer func(n int, r received) int
	n      int
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{got: make(chan received, 1000), answer: func(int, received) int { return 200 }}
	r.server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		body, err := io.ReadAll(req.Body)
		if err != nil {
			return
		}
		x := received{at: time.Now(), id: req.Header.Get("webhook-id"), body: body, headers: req.Header}
		_ = json.Unmarshal(body, &x.message)
		r.mu.Lock()
		r.n++
		status := r.answer(r.n, x)
		r.mu.Unlock()
		w.WriteHeader(status)
		r.got <- x
	}))
	t.Cleanup(r.server.Close)
	return r
}

func (r *receiver) next(t *testing.T) received {
	t.Helper()
	select {
	case x := <-r.got:
		return x
	case <-time.After(60 * time.Second):
		t.Fatal("the receiver got nothing")
		panic("unreachable")
	}
}

func (r *receiver) nothing(t *testing.T) {
	t.Helper()
	select {
	case x := <-r.got:
		t.Fatalf("the receiver got %s", x.body)
	case <-time.After(50 * time.Millisecond):
	}
}

// world is everything real but the cluster.
type world struct {
	t         *testing.T
	dir       string
	store     *tsdb.DB
	meta      *meta.DB
	keyring   *notify.Keyring
	inventory *fakeInventory
	engine    *Engine
	outbox    *notify.Outbox
	registry  *prometheus.Registry
	stop      func()

	mu   sync.Mutex
	now  time.Time // the engine's clock
	grid time.Time
}

func newWorld(t *testing.T) *world {
	t.Helper()
	// Behind the real clock, by which the outbox goes: what is enqueued is due.
	return worldAt(t, t.TempDir(), time.Now().UTC().Add(-time.Hour).Truncate(time.Minute))
}

func worldAt(t *testing.T, dir string, now time.Time) *world {
	t.Helper()
	w := &world{t: t, dir: dir, inventory: newFakeInventory(), now: now}
	w.grid = w.now
	store, err := tsdb.Open(tsdb.Options{Dir: filepath.Join(w.dir, "metrics"), MinFreeBytes: 1})
	if err != nil {
		t.Fatal(err)
	}
	w.store = store
	if w.keyring, err = notify.OpenKeyring(filepath.Join(w.dir, "secrets.key")); err != nil {
		t.Fatal(err)
	}
	w.open()
	t.Cleanup(func() {
		w.close()
		if err := w.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return w
}

func (w *world) clock() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.now
}

// open starts engine and outbox on what the folder holds.
func (w *world) open() {
	w.t.Helper()
	db, err := meta.Open(database(w.t, w.dir))
	if err != nil {
		w.t.Fatal(err)
	}
	w.meta = db
	w.registry = prometheus.NewRegistry()
	if w.outbox, err = notify.New(notify.Options{Store: db, Keyring: w.keyring, Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Jitter: func() float64 { return 0 }, Registerer: w.registry}); err != nil {
		w.t.Fatal(err)
	}
	if w.engine, err = New(Options{Queryable: w.store, Inventory: w.inventory, Meta: db, Told: w.outbox.Wake, PublicURL: "https://crowsnest.example/", Now: w.clock, Registerer: w.registry}); err != nil {
		w.t.Fatal(err)
	}
	if err := db.UpsertCluster(context.Background(), meta.ClusterRow{ID: "prod-1", Name: "Production 1", Labels: map[string]string{"env": "prod"}, CreatedAt: w.now}); err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = w.engine.Run(ctx) })
	wg.Go(func() { _ = w.outbox.Run(ctx) })
	w.stop = func() {
		cancel()
		wg.Wait()
		if err := db.Close(); err != nil {
			w.t.Error(err)
		}
	}
}

func (w *world) close() {
	if w.stop != nil {
		w.stop()
		w.stop = nil
	}
}

// reopen is a restart.
func (w *world) reopen() {
	w.close()
	w.open()
}

// target stores a target and gives its secret.
func (w *world) target(name, url string, maxBytes int) string {
	w.t.Helper()
	doc := fmt.Sprintf(`{"apiVersion":"crowsnest.dev/v1","kind":"Target","metadata":{"name":%q},"spec":{"type":"webhook","url":%q,"maxBytes":%d}}`, name, url, maxBytes)
	tg, err := notify.ParseTarget([]byte(doc), nil, w.outbox.Guard())
	if err != nil {
		w.t.Fatal(err)
	}
	secret := notify.NewSecret()
	row := meta.Resource{ID: incident.NewID("tgt_", w.now), Kind: meta.KindTarget, Project: "default", Name: name, ManagedBy: "console", CreatedAt: w.now, UpdatedAt: w.now}
	if row.Spec, row.Sealed, err = notify.Seal(w.keyring, row.ID, tg, notify.Sealed{Secret: secret}); err != nil {
		w.t.Fatal(err)
	}
	w.update(func(tx *meta.Tx) error { return tx.CreateResource(row) })
	return secret.Reveal()
}

func (w *world) update(fn func(tx *meta.Tx) error) {
	w.t.Helper()
	if err := w.meta.Update(context.Background(), fn); err != nil {
		w.t.Fatal(err)
	}
	w.engine.PoliciesChanged()
}

// policy stores a policy, or changes the one of its name.
func (w *world) policy(spec string) meta.Resource {
	w.t.Helper()
	doc := "apiVersion: crowsnest.dev/v1\nkind: Policy\nmetadata: {name: p, labels: {team: shop}}\nspec:\n  " + strings.ReplaceAll(strings.TrimSpace(spec), "\n", "\n  ")
	p, err := policy.Parse([]byte(doc), policy.Known{})
	if err != nil {
		w.t.Fatal(err)
	}
	raw, err := json.Marshal(p.Spec)
	if err != nil {
		w.t.Fatal(err)
	}
	row := meta.Resource{ID: "pol_1", Kind: meta.KindPolicy, Project: "default", Name: "p", Revision: 1, Labels: p.Metadata.Labels, Spec: raw, ManagedBy: "console", CreatedAt: w.now, UpdatedAt: w.now}
	w.update(func(tx *meta.Tx) error {
		if old, err := tx.Resource(meta.KindPolicy, "default", "p"); err == nil {
			row.Revision = old.Revision
			row.Revision, err = tx.UpdateResource(row)
			return err
		}
		return tx.CreateResource(row)
	})
	return row
}

func cartPod(created time.Time) *object.Pod {
	return &object.Pod{
		Meta: object.Meta{UID: "u1", Namespace: "shop", Name: "cart-1", CreatedAt: created}, Node: "n-1", Workload: object.WorkloadRef{Type: "deployment", Name: "cart"},
		Phase: object.PhaseRunning, Ready: true, Limits: object.Resources{HasCPU: true, CPUCores: 1},
		Containers: []object.Container{{Name: "app", State: "running"}},
	}
}

func cart(desired int, revision string) *object.Workload {
	ref := object.WorkloadRef{Type: "deployment", Name: "cart"}
	return &object.Workload{Meta: object.Meta{UID: "w1", Namespace: "shop", Name: "cart"}, Ref: ref, Desired: desired, Revision: revision}
}

func podLabels(metric, pod string) labels.Labels {
	return labels.FromStrings("__name__", metric, "cluster", "prod-1", "namespace", "shop", "workload_type", "deployment", "workload", "cart", "pod", pod, "node", "n-1")
}

func (w *world) append(l labels.Labels, at time.Time, v float64) {
	w.t.Helper()
	app := w.store.Appender(context.Background())
	if _, err := app.Append(0, l, at.UnixMilli(), v); err != nil {
		w.t.Fatal(err)
	}
	if err := app.Commit(); err != nil {
		w.t.Fatal(err)
	}
}

// step lets an interval pass: the clock moves, samples are stored, their arrival
// is told, and the engine has judged them when step returns.
func (w *world) step(sender string, samples map[string]float64) time.Time {
	w.t.Helper()
	w.mu.Lock()
	w.grid = w.grid.Add(interval)
	w.now = w.grid.Add(300 * time.Millisecond)
	at := w.grid
	w.mu.Unlock()
	for _, metric := range slices.Sorted(maps.Keys(samples)) {
		w.append(podLabels(metric, "cart-1"), at, samples[metric])
	}
	w.arrived(sender, at)
	return at
}

func (w *world) arrived(sender string, at time.Time) {
	w.t.Helper()
	before := w.rounds()
	w.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: sender, Through: at, Interval: interval, ReceivedAt: w.clock()})
	w.judged(before)
}

// judged waits until a round that began since is over: the engine answers between
// rounds only.
func (w *world) judged(before int) {
	w.t.Helper()
	w.until("the arrival is judged", func() bool { return w.rounds() > before })
	if _, _, err := w.engine.Routing(context.Background()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) rounds() int {
	n := 0.0
	for _, t := range []string{triggerInterval, triggerChange, triggerRollup} {
		n += testutil.ToFloat64(w.engine.metrics.rounds.WithLabelValues(t))
	}
	for _, r := range []string{"late", "order"} {
		n += testutil.ToFloat64(w.engine.metrics.skipped.WithLabelValues(r))
	}
	return int(n)
}

// until waits for a condition of another goroutine.
func (w *world) until(what string, ok func() bool) {
	w.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for !ok() {
		if time.Now().After(deadline) {
			w.t.Fatalf("not seen: %s", what)
		}
		time.Sleep(time.Millisecond)
	}
}

func (w *world) firing() []meta.Alert {
	w.t.Helper()
	var out []meta.Alert
	if err := w.meta.View(context.Background(), func(tx *meta.Tx) (err error) { out, err = tx.FiringAlerts(); return err }); err != nil {
		w.t.Fatal(err)
	}
	return out
}

func (w *world) untilFiring(n int) {
	w.t.Helper()
	w.until(fmt.Sprintf("%d alerts fire", n), func() bool { return len(w.firing()) == n })
}

const cpuPolicy = `
level: pod
objects: {namespaces: [shop]}
conditions:
- {metric: k8s_pod_rate_cpu_core_used_limit, statistic: avg, period: 1m, op: ">", thresholds: {warning: 80, critical: 95}, recovery: {warning: 70}, need: 2, of: 2}
recoverAfter: 1
annotations: {summary: "{{ .Object.Pod }} uses {{ .Value }} of its CPU limit"}
notify: {targets: [hook]}
`

func cpu(v float64) map[string]float64 {
	return map[string]float64{catalogue.PodCPULimitPercent: v}
}

// burn lets the pod burn until it fires.
func (w *world) burn(v float64) {
	w.t.Helper()
	for range 4 {
		w.step("node/n-1", cpu(v))
	}
	w.untilFiring(1)
}

func TestFiresAndRecovers(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	secret := w.target("hook", r.server.URL+"/secret-path", 0)
	w.policy(cpuPolicy)
	w.inventory.put(cartPod(w.now.Add(-time.Hour)), cart(2, "r1"))
	for range 3 {
		w.step("node/n-1", cpu(20))
	}
	for range 2 {
		w.step("node/n-1", cpu(98))
	}
	r.nothing(t)
	sent := time.Now()
	w.step("node/n-1", cpu(98)) // one and a half minutes over 80: two windows of over half bad
	w.step("node/n-1", cpu(98))
	first := r.next(t)
	t.Logf("arrival → webhook received: %v at most", first.at.Sub(sent))
	if took := first.at.Sub(sent); took > 60*time.Second {
		t.Errorf("the webhook came %v after the sample", took)
	}
	hook, err := standardwebhooks.NewWebhook(secret)
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.Verify(first.body, first.headers); err != nil {
		t.Errorf("the receiver's verifier refuses the message: %v", err)
	}
	m := first.message
	if m.Type != incident.Firing || m.Sequence != 1 || m.ID != first.id || m.Incident.State != "open" || m.Incident.Cluster.Name != "Production 1" || len(m.Alerts) != 1 {
		t.Fatalf("got %s", first.body)
	}
	a := m.Alerts[0]
	if a.Object.Pod != "cart-1" || a.Object.Workload != "cart" || a.State != "firing" || a.Conditions[0].Value == nil || !a.Conditions[0].Holds || len(a.Evidence.Series) == 0 {
		t.Errorf("got %s", first.body)
	}
	if !strings.Contains(a.Annotations["summary"], "cart-1 uses ") || !strings.Contains(a.Explanation, "avg over 1m was ") || !strings.Contains(m.Incident.Title, "cart in shop: CPU of limit above ") {
		t.Errorf("title %q, explanation %q, annotations %v", m.Incident.Title, a.Explanation, a.Annotations)
	}
	if m.Incident.URL != "https://crowsnest.example/incidents/"+m.Incident.ID || m.Incident.Labels["team"] != "shop" {
		t.Errorf("got %s", first.body)
	}
	for range 3 {
		w.step("node/n-1", cpu(98))
	}
	for range 3 {
		w.step("node/n-1", cpu(10))
	}
	last := r.next(t)
	for last.message.Type == incident.Severity { // it may have risen from warning on the way
		last = r.next(t)
	}
	if last.message.Type != incident.Resolved || last.message.Incident.State != "resolved" || *last.message.Incident.Cause != "value_normal" || last.message.Sequence <= m.Sequence || last.message.Incident.ID != m.Incident.ID {
		t.Errorf("got %s", last.body)
	}
	r.nothing(t) // a resolve comes once
	if n := len(w.firing()); n != 0 {
		t.Errorf("%d alerts still fire", n)
	}
	if problems, err := testutil.GatherAndLint(w.registry); err != nil || len(problems) > 0 {
		t.Errorf("%v %v", problems, err)
	}
}

func TestRetriesWithTheSameBytesAndInOrder(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	r.answer = func(n int, _ received) int {
		if n <= 2 {
			return 500
		}
		return 204
	}
	w.target("hook", r.server.URL, 0)
	w.policy(cpuPolicy)
	w.inventory.put(cartPod(w.now.Add(-time.Hour)), cart(2, "r1"))
	w.burn(90)
	first := r.next(t)
	for range 3 { // it recovers while the firing has not been delivered
		w.step("node/n-1", cpu(10))
	}
	w.untilFiring(0)
	var again received
	for range 2 {
		again = r.next(t)
		if again.id != first.id || string(again.body) != string(first.body) {
			t.Errorf("another attempt differs: %s and %s", first.body, again.body)
		}
	}
	if again.headers.Get("webhook-timestamp") == "" || again.headers.Get("webhook-signature") == "" {
		t.Error("an attempt is not signed")
	}
	if last := r.next(t); last.message.Type != incident.Resolved {
		t.Errorf("after the firing came %s", last.body)
	}
	err := w.meta.View(context.Background(), func(tx *meta.Tx) error {
		as, err := tx.Attempts(first.id)
		if len(as) != 3 || as[0].Status != 500 || as[0].Result != "retry" || as[2].Result != "delivered" {
			t.Errorf("got %+v", as)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestARestartLosesNothingAndFiresNothingTwice(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(cpuPolicy)
	w.inventory.put(cartPod(w.now.Add(-time.Hour)), cart(2, "r1"))
	w.burn(90)
	fired := r.next(t)
	for i := range 6 {
		w.reopen()
		w.step("node/n-1", cpu(90))
		if i == 3 { // the same interval again, as after a resend
			w.arrived("node/n-1", w.grid)
		}
	}
	r.nothing(t)
	w.reopen()
	for range 3 {
		w.step("node/n-1", cpu(10))
	}
	got := r.next(t)
	if got.message.Type != incident.Resolved || got.message.Incident.ID != fired.message.Incident.ID || got.message.Sequence != 2 {
		t.Errorf("got %s", got.body)
	}
	r.nothing(t)
}

func TestAnIncidentIsOpenedAgainWithinAQuarterOfAnHour(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(cpuPolicy)
	w.inventory.put(cartPod(w.now.Add(-time.Hour)), cart(2, "r1"))
	w.burn(90)
	first := r.next(t).message
	for range 3 {
		w.step("node/n-1", cpu(10))
	}
	r.next(t)
	w.burn(90)
	again := r.next(t).message
	if again.Type != incident.Firing || again.Incident.ID != first.Incident.ID || again.Incident.Reopened != 1 || again.Sequence != 3 || len(again.Alerts) != 1 {
		t.Errorf("got %+v", again)
	}
	if again.Alerts[0].ID == first.Alerts[0].ID {
		t.Error("the alert of another firing has the same id")
	}
}

func TestCauses(t *testing.T) {
	for name, tc := range map[string]struct {
		then func(w *world)
		want string
	}{
		"deleted":           {func(w *world) { w.inventory.remove(cartPod(w.now.Add(-time.Hour))) }, "object_deleted"},
		"finished":          {func(w *world) { p := cartPod(time.Unix(0, 0)); p.Phase = object.PhaseSucceeded; w.inventory.put(p) }, "object_finished"},
		"scaled down":       {func(w *world) { w.inventory.put(cart(1, "r1")); w.inventory.remove(cartPod(time.Unix(0, 0))) }, "scaled_down"},
		"replaced":          {func(w *world) { w.inventory.put(cart(2, "r2")); w.inventory.remove(cartPod(time.Unix(0, 0))) }, "workload_replaced"},
		"terminating":       {func(w *world) { p := cartPod(time.Unix(0, 0)); p.Terminating = true; w.inventory.put(p) }, "object_deleted"},
		"another of a name": {func(w *world) { p := cartPod(w.clock()); p.UID = "u2"; w.inventory.put(p) }, "object_deleted"},
		"limit removed":     {func(w *world) { p := cartPod(time.Unix(0, 0)); p.Limits = object.Resources{}; w.inventory.put(p) }, "not_applicable"},
		"policy deleted": {func(w *world) {
			w.update(func(tx *meta.Tx) error { return tx.DeleteResource(meta.KindPolicy, "default", "p") })
		}, "policy_deleted"},
		"policy disabled":  {func(w *world) { w.policy("enabled: false\n" + strings.TrimSpace(cpuPolicy)) }, "policy_disabled"},
		"policy elsewhere": {func(w *world) { w.policy(strings.Replace(cpuPolicy, "[shop]", "[other]", 1)) }, "policy_changed"},
		"threshold raised": {func(w *world) {
			w.policy(strings.Replace(strings.Replace(cpuPolicy, "warning: 80", "warning: 94", 1), "{warning: 70}", "{warning: 93}", 1))
		}, "policy_changed"},
		"other cluster only": {func(w *world) { w.policy("clusters: {names: [other]}\n" + strings.TrimSpace(cpuPolicy)) }, "policy_changed"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := newReceiver(t)
			w.target("hook", r.server.URL, 0)
			w.policy(cpuPolicy)
			w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
			w.burn(90)
			r.next(t)
			tc.then(w)
			w.step("node/n-1", cpu(90))
			if tc.want == "workload_replaced" { // it stays open until what replaced it could be judged
				for range 8 {
					w.step("node/n-1", nil)
				}
			}
			got := r.next(t)
			if got.message.Type != incident.Resolved || got.message.Incident.Cause == nil || *got.message.Incident.Cause != tc.want {
				t.Errorf("got %s, want %s", got.body, tc.want)
			}
		})
	}
}

func TestAnEditElsewhereLeavesAlertsAlone(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(cpuPolicy)
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	w.burn(90)
	first := r.next(t).message
	w.policy(strings.Replace(cpuPolicy, "notify: {targets: [hook]}", "", 1)) // nobody is named any more
	for range 2 {
		w.step("node/n-1", cpu(90))
	}
	r.nothing(t)
	for range 3 {
		w.step("node/n-1", cpu(10))
	}
	if got := r.next(t).message; got.Type != incident.Resolved || got.Incident.ID != first.Incident.ID {
		t.Errorf("who was told of the beginning must be told of the end; got %+v", got)
	}
}

func TestWhatIsNotJudged(t *testing.T) {
	for name, tc := range map[string]func(w *world){
		"no such object":  func(w *world) {},
		"not selected":    func(w *world) { p := cartPod(time.Unix(0, 0)); p.Namespace = "other"; w.inventory.put(p) },
		"terminating":     func(w *world) { p := cartPod(time.Unix(0, 0)); p.Terminating = true; w.inventory.put(p) },
		"without a limit": func(w *world) { p := cartPod(time.Unix(0, 0)); p.Limits = object.Resources{}; w.inventory.put(p) },
		"made just now":   func(w *world) { w.inventory.put(cartPod(w.now.Add(2 * time.Minute))) },
		"not synced":      func(w *world) { w.inventory.synced = false },
		"policy disabled": func(w *world) {
			w.inventory.put(cartPod(time.Unix(0, 0)))
			w.policy("enabled: false\n" + strings.TrimSpace(cpuPolicy))
		},
		"an other cluster": func(w *world) {
			w.inventory.put(cartPod(time.Unix(0, 0)))
			w.policy("clusters: {labels: {env: test}}\n" + strings.TrimSpace(cpuPolicy))
		},
		"younger than minAge": func(w *world) {
			w.inventory.put(cartPod(w.now))
			w.policy("minAge: 1h\n" + strings.TrimSpace(cpuPolicy))
		},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			r := newReceiver(t)
			w.target("hook", r.server.URL, 0)
			w.policy(cpuPolicy)
			tc(w)
			for range 5 {
				w.step("node/n-1", cpu(90))
			}
			r.nothing(t)
			if n := len(w.firing()); n != 0 {
				t.Errorf("%d alerts fire", n)
			}
		})
	}
}

func TestThePastFiresNothing(t *testing.T) {
	w := newWorld(t)
	w.policy(cpuPolicy)
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	for i := range 10 {
		at := w.grid.Add(-time.Duration(20-i) * interval)
		w.append(podLabels(catalogue.PodCPULimitPercent, "cart-1"), at, 99)
		w.arrived("node/n-1", at)
	}
	if n := len(w.firing()); n != 0 {
		t.Errorf("%d alerts fire about the past", n)
	}
}

func TestASilentSourceIsNoEnd(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(strings.TrimSpace(cpuPolicy) + "\nnoData: {action: resolve, after: 1m}")
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	w.burn(90)
	r.next(t)
	w.mu.Lock()
	w.now = w.now.Add(4 * interval)
	w.mu.Unlock()
	w.until("the alert is stale", func() bool {
		w.engine.poke()
		as := w.firing()
		if len(as) != 1 {
			t.Fatal("the alert ended")
		}
		a, err := incident.FromRow(as[0])
		return err == nil && a.Stale
	})
	r.nothing(t)
	// It is back, and says that all is well.
	w.mu.Lock()
	w.grid = w.now.Truncate(interval)
	w.mu.Unlock()
	for range 3 {
		w.step("node/n-1", cpu(10))
	}
	if got := r.next(t).message; got.Type != incident.Resolved || *got.Incident.Cause != "value_normal" {
		t.Errorf("got %+v", got)
	}
}

func TestNoDataOfALivingSource(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(strings.TrimSpace(cpuPolicy) + "\nnoData: {action: alert, severity: info, after: 1m}")
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	for range 3 {
		w.step("node/n-1", cpu(10))
	}
	for range 4 { // the node's collector goes on, the pod's values do not
		w.step("node/n-1", nil)
	}
	got := r.next(t).message
	if got.Type != incident.Firing || got.Incident.Severity != "info" || !strings.Contains(got.Incident.Title, "no data") {
		t.Errorf("got %+v", got.Incident)
	}
	for range 2 {
		w.step("node/n-1", cpu(10))
	}
	if got := r.next(t).message; got.Type != incident.Resolved {
		t.Errorf("got %+v", got)
	}
}

func TestARestartOfAContainerIsToldWhenItHappens(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(`
level: pod
conditions:
- {metric: k8s_pod_restart_total, period: 1m, op: ">", thresholds: {warning: 2}}
notify: {targets: [hook]}`)
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	restarts := func(n float64) map[string]float64 { return map[string]float64{catalogue.PodRestarts: n} }
	for range 4 {
		w.step("cluster", restarts(0))
	}
	// Three restarts between two points of the grid, sent as they happen.
	for i := range 3 {
		w.mu.Lock()
		w.now = w.now.Add(1100 * time.Millisecond)
		at := w.now
		w.mu.Unlock()
		w.append(podLabels(catalogue.PodRestarts, "cart-1"), at, float64(i+1))
		w.engine.Arrived(ingest.Arrival{Cluster: "prod-1", Sender: "cluster", ReceivedAt: at})
	}
	w.mu.Lock()
	w.now = w.now.Add(max(2*changeGap, interval)) // on a busy machine the last one waits for the gap, at most an interval
	w.mu.Unlock()
	w.engine.poke()
	got := r.next(t).message
	if got.Type != incident.Firing || *got.Alerts[0].Conditions[0].Value != 3 {
		t.Errorf("got %+v", got)
	}
	w.step("cluster", restarts(3)) // the grid point: time does not go back, nothing is told twice
	r.nothing(t)
}

// A site that is back brings hundreds of intervals of the past at once, in whatever
// order. The live one is not pushed out by them, and they are late data though the
// queue had no room for them.
func TestLiveRoundsAreNotPushedOutByLateOnes(t *testing.T) {
	now := epoch.Add(24 * time.Hour)
	e := engineOf(t, &fleet{}, func() time.Time { return now }, nil)
	live := now.Truncate(interval)
	e.RolledUp(rollup.Written{Cluster: "prod-1", At: live})
	const past = 120
	for n := range past {
		e.RolledUp(rollup.Written{Cluster: "prod-1", At: live.Add(-6*time.Hour + time.Duration(n)*interval)})
	}
	for range 2 {
		e.saveJournal(t.Context())
	}
	rounds, _, _ := e.next(now)
	if len(rounds) != maxWaiting || !slices.ContainsFunc(rounds, func(r round) bool { return r.at.Equal(live) }) {
		t.Errorf("what waits is %v", rounds)
	}
	var ranges []meta.LateRange
	var left []meta.SkippedRound
	if err := e.opts.Meta.View(t.Context(), func(tx *meta.Tx) (err error) {
		if left, err = tx.SkippedRounds("prod-1", epoch, now); err != nil {
			return err
		}
		ranges, err = tx.LateRanges()
		return err
	}); err != nil {
		t.Fatal(err)
	}
	const out = past + 1 - maxWaiting
	of := map[string]int{}
	for _, r := range left {
		of[r.Sender]++
	}
	if of[senderRollup] != out || of[senderExpression] != out || len(ranges) != 1 || !ranges[0].From.Equal(live.Add(-6*time.Hour)) || !ranges[0].To.Equal(live.Add(-6*time.Hour+(out-1)*interval)) {
		t.Errorf("%v are left out, late ones of %v", of, ranges)
	}
	if n := testutil.ToFloat64(e.metrics.skipped.WithLabelValues(meta.ReasonLate)); n != out {
		t.Errorf("%v late ones are counted", n)
	}
	// What was not late is told from it, and one that is older than all that wait is left out itself.
	for n := range maxWaiting {
		e.RolledUp(rollup.Written{Cluster: "prod-1", At: live.Add(time.Duration(n-1) * interval / 2)})
	}
	e.RolledUp(rollup.Written{Cluster: "prod-1", At: live.Add(-interval)})
	if rounds, _, _ = e.next(now); len(rounds) != maxWaiting || !rounds[0].at.Equal(live.Add(-interval/2)) {
		t.Errorf("what waits is %v", rounds)
	}
	if n := testutil.ToFloat64(e.metrics.skipped.WithLabelValues("overtaken")); n != 1 {
		t.Errorf("%v overtaken ones are counted", n)
	}
}

func TestRollupsAreJudgedWhenWritten(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(`
level: workload
conditions:
- {metric: k8s_workload_cpu_core_used, period: 30s, op: ">", thresholds: {warning: 2}}
notify: {targets: [hook]}`)
	w.inventory.put(cart(2, "r1"))
	series := labels.FromStrings("__name__", catalogue.WorkloadCPU, "cluster", "prod-1", "namespace", "shop", "workload_type", "deployment", "workload", "cart")
	coverage := labels.FromStrings("__name__", rollup.CoverageRatio, "cluster", "prod-1")
	write := func(v, covered float64) {
		w.mu.Lock()
		w.grid = w.grid.Add(interval)
		w.now = w.grid.Add(time.Second)
		at := w.grid
		w.mu.Unlock()
		w.append(series, at, v)
		w.append(coverage, at, covered)
		before := w.rounds()
		w.engine.RolledUp(rollup.Written{Cluster: "prod-1", At: at, Coverage: covered})
		w.judged(before)
	}
	write(1, 1)
	write(1, 0.5)
	r.nothing(t)
	write(3, 0.5) // a part is over the threshold already: so is the whole
	if got := r.next(t).message; got.Type != incident.Firing || got.Alerts[0].Object.Workload != "cart" {
		t.Errorf("got %+v", got)
	}
	write(1, 0.5) // a part under it says nothing
	write(1, 0.5)
	write(1, 0.5)
	r.nothing(t)
	write(1, 1)
	write(1, 1)
	if got := r.next(t).message; got.Type != incident.Resolved {
		t.Errorf("got %+v", got)
	}
}

func TestAlertsOfOneWorkloadAreOneIncident(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(strings.TrimSpace(cpuPolicy) + "\ngroup: {interval: 1m}")
	two := cartPod(time.Unix(0, 0))
	two.Name, two.UID = "cart-2", "u2"
	w.inventory.put(cartPod(time.Unix(0, 0)), two, cart(2, "r1"))
	step := func(one, other float64) {
		w.t.Helper()
		w.append(podLabels(catalogue.PodCPULimitPercent, "cart-2"), w.grid.Add(interval), other)
		w.step("node/n-1", cpu(one))
	}
	for range 4 {
		step(90, 10)
	}
	first := r.next(t).message
	for range 4 {
		step(90, 90)
	}
	joined := r.next(t).message
	if joined.Type != incident.Updated || joined.Incident.ID != first.Incident.ID || len(joined.Alerts) != 2 {
		t.Errorf("got %+v", joined)
	}
	for range 4 {
		step(10, 99)
	}
	left := r.next(t).message
	for left.Type == incident.Updated { // one left before the other rose
		left = r.next(t).message
	}
	if left.Type != incident.Severity || left.Incident.Severity != "critical" || left.Incident.PreviousSeverity == nil || *left.Incident.PreviousSeverity != "warning" {
		t.Errorf("got %+v", left)
	}
	for {
		step(10, 10)
		if len(w.firing()) == 0 {
			break
		}
	}
	for m := r.next(t).message; m.Type != incident.Resolved; m = r.next(t).message {
		if m.Type != incident.Updated && m.Type != incident.Severity {
			t.Fatalf("got %+v", m)
		}
	}
	r.nothing(t)
}

func TestGroupWaitGathersTheFirstMessage(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(strings.TrimSpace(cpuPolicy) + "\ngroup: {wait: 45s}")
	w.inventory.put(cartPod(time.Unix(0, 0)), cart(2, "r1"))
	w.burn(90)
	r.nothing(t)
	w.reopen() // the wait survives a restart
	w.step("node/n-1", cpu(90))
	w.step("node/n-1", cpu(90))
	if got := r.next(t).message; got.Type != incident.Firing || got.Sequence != 1 {
		t.Errorf("got %+v", got)
	}
}

func TestStatusSaysWhyAPolicyIsIdle(t *testing.T) {
	w := newWorld(t)
	w.inventory.kind = "elastic"
	f := func(spec string, wants ...string) {
		t.Helper()
		row := w.policy(spec)
		clusters, err := w.meta.ListClusters(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		st, err := w.engine.Status(row, clusters)
		if err != nil {
			t.Fatal(err)
		}
		text := fmt.Sprint(st.State, st.Reasons, st.Clusters)
		for _, want := range wants {
			if !strings.Contains(text, want) {
				t.Errorf("%q does not say %q", text, want)
			}
		}
	}
	node := `level: node
conditions: [{metric: k8s_node_cpu_usage, period: 1m, op: ">", thresholds: {warning: 90}}]`
	f(node, "idle", "not available there: an elastic cluster has no nodes", "tells nobody")
	f(strings.TrimSpace(cpuPolicy), "idle", "selects nothing")
	f("clusters: {names: [nowhere]}\n"+strings.TrimSpace(cpuPolicy), "idle", "selects no cluster")
	f("enabled: false\n"+strings.TrimSpace(cpuPolicy), "disabled")
	w.inventory.put(cartPod(time.Unix(0, 0)))
	f(strings.TrimSpace(cpuPolicy), "active", "prod-1 1")
	w.step("node/n-1", cpu(1))
	f(strings.Replace(strings.TrimSpace(cpuPolicy), "period: 1m", "period: 10s", 1), "interval is 30s, and 10s is no multiple")
}

func TestEachFileSystemIsAnAlertOfItsOwn(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(`
level: node
objects: {selector: "pool=data"}
conditions:
- {metric: k8s_node_filesystem_usage, where: {mountpoint: ["/", "/data*"]}, period: 30s, op: ">", thresholds: {warning: 90}}
annotations: {summary: "{{ .Dimensions.mountpoint }} on {{ .Object.Node }}"}
recoverAfter: 1
notify: {targets: [hook]}`)
	w.inventory.put(&object.Node{Meta: object.Meta{UID: "n1", Name: "n-1", Labels: map[string]string{"pool": "data"}}})
	fill := func(mount string, v float64) {
		w.append(labels.FromStrings("__name__", catalogue.NodeFilesystemPercent, "cluster", "prod-1", "node", "n-1", "mountpoint", mount), w.grid.Add(interval), v)
	}
	fill("/", 95)
	fill("/data1", 96)
	fill("/data2", 10)
	fill("/boot", 99) // not asked for
	w.step("node/n-1", nil)
	got := r.next(t).message
	mounts := map[string]string{}
	for _, a := range got.Alerts {
		mounts[a.Dimensions["mountpoint"]] = a.Annotations["summary"]
	}
	if len(mounts) != 2 || mounts["/"] != "/ on n-1" || mounts["/data1"] != "/data1 on n-1" || got.Incident.Title != "node n-1: File system used above 90 %" {
		t.Errorf("got %v, %q", mounts, got.Incident.Title)
	}
	w.reopen()
	fill("/", 10)
	fill("/data1", 10)
	w.step("node/n-1", nil)
	if got := r.next(t).message; got.Type != incident.Resolved || len(got.Alerts) != 2 {
		t.Errorf("got %+v", got)
	}
}

func TestClustersAreJudgedWithoutTheInventory(t *testing.T) {
	w := newWorld(t)
	r := newReceiver(t)
	w.target("hook", r.server.URL, 0)
	w.policy(`
level: cluster
conditions:
- {metric: k8s_cluster_node_not_ready_num, period: 30s, op: ">=", thresholds: {critical: 1}}
notify: {targets: [hook]}`)
	series := labels.FromStrings("__name__", catalogue.ClusterNodesNotReady, "cluster", "prod-1")
	w.append(series, w.grid.Add(interval), 2)
	w.step("cluster", nil)
	if got := r.next(t).message; got.Type != incident.Firing || got.Incident.Title != "cluster prod-1: Nodes not ready at or above 1" {
		t.Errorf("got %+v", got.Incident)
	}
}

func TestWhatIsOldIsPruned(t *testing.T) {
	w := newWorld(t)
	old := w.now.Add(-keep - time.Hour)
	w.update(func(tx *meta.Tx) error {
		return tx.PutIncident(meta.Incident{ID: "inc_old", GroupKey: "g", State: meta.IncidentResolved, StartedAt: old, EndedAt: old, Data: json.RawMessage("{}")})
	})
	w.reopen()
	w.until("the old incident is gone", func() bool {
		return w.meta.View(context.Background(), func(tx *meta.Tx) error { _, err := tx.Incident("inc_old"); return err }) != nil
	})
}

// Nodes' rounds of one time are judged together, up to a bound; nothing of their cluster is passed.
func TestTogether(t *testing.T) {
	t.Parallel()
	of := func(cluster, sender, trigger string, at int) round {
		return round{source: sourceKey{cluster, sender}, trigger: trigger, at: epoch.Add(time.Duration(at) * interval), interval: interval}
	}
	grid := func(cluster, sender string, at int) round { return of(cluster, sender, triggerInterval, at) }
	behind := []round{grid("a", "node/1", 1), grid("a", "node/behind", 1), grid("a", "node/old", 1), grid("a", "node/new", 1), grid("a", "node/2", 1)}
	for name, c := range map[string]struct {
		rounds []round
		since  []int         // generations of policies that look for what is silent
		runs   time.Duration // since so long
		want   []int         // how many are judged at a time
	}{
		"nodes":              {[]round{grid("a", "node/1", 1), grid("a", "node/2", 1), grid("a", "node/3", 1)}, []int{1, 2}, 0, []int{3}},
		"of two clusters":    {[]round{grid("a", "node/1", 1), grid("b", "node/1", 1), grid("a", "node/2", 1), grid("b", "node/2", 1)}, []int{1, 2}, 0, []int{2, 2}},
		"at two times":       {[]round{grid("a", "node/1", 1), grid("a", "node/2", 2), grid("a", "node/3", 1), grid("a", "node/4", 1)}, []int{1, 2}, 0, []int{1, 1, 2}},
		"around the cluster": {[]round{grid("a", "node/1", 1), grid("a", "cluster", 1), grid("a", "node/2", 1), grid("a", "node/3", 1)}, []int{1, 2}, 0, []int{1, 1, 2}},
		"around changes":     {[]round{grid("a", "node/1", 1), of("a", "node/2", triggerChange, 1), grid("a", "node/3", 1)}, []int{1, 2}, 0, []int{1, 1, 1}},
		"all":                {[]round{grid("a", "all", 1), grid("a", "all", 1)}, []int{1, 2}, 0, []int{1, 1}},
		"many":               {slices.Repeat([]round{grid("a", "node/1", 1)}, 2*maxTogether+1), []int{1, 2}, 0, []int{maxTogether, maxTogether, 1}},
		// Those that look far back by the same policies.
		"behind":                 {behind, []int{2}, 0, []int{1, 3, 1}},
		"behind by two policies": {behind, []int{2, 2}, 0, []int{1, 3, 1}},
		"behind by one or two":   {behind, []int{1, 2}, 0, []int{1, 1, 1, 1, 1}},
		"nothing is looked for":  {behind, nil, 0, []int{5}},
		"after an edit":          {slices.Repeat([]round{grid("a", "node/old", 1)}, 2*maxFarBack+1), []int{1, 2}, 48 * time.Hour, []int{maxFarBack, maxFarBack, 1}},
		"after edits":            {slices.Repeat([]round{grid("a", "node/old", 1)}, maxFarBack), []int{2, 2, 2, 2}, 48 * time.Hour, []int{4, 4, 4, 4}},
		"after many":             {slices.Repeat([]round{grid("a", "node/old", 1)}, 3), slices.Repeat([]int{2}, maxFarBack+1), 48 * time.Hour, []int{1, 1, 1}},
		"after a start":          {slices.Repeat([]round{grid("a", "node/new", 1)}, maxTogether), []int{1, 2}, 0, []int{12 * maxFarBack, maxTogether - 12*maxFarBack}},
	} {
		now := epoch.Add(interval)
		e := &Engine{generation: 2, born: now.Add(-c.runs), opts: Options{Now: func() time.Time { return now }}, sources: map[sourceKey]*source{
			{"a", "node/behind"}: {judged: judged{epoch.Add(-slack * interval), 2}},
			{"a", "node/old"}:    {judged: judged{epoch, 1}}, // by policies as they were
		}}
		for _, generation := range c.since {
			e.policies = append(e.policies, &compiled{generation: generation, rule: evaluate.Rule{NoData: policy.NoDataAlert}, conditions: []condition{{metric: catalogue.Metric{Place: catalogue.ByNode}}}})
		}
		e.policies = append(e.policies, // by which nodes' rounds look for nothing
			&compiled{generation: 2, rule: evaluate.Rule{NoData: policy.NoDataKeep}, conditions: []condition{{metric: catalogue.Metric{Place: catalogue.ByNode}}}},
			&compiled{generation: 2, rule: evaluate.Rule{NoData: policy.NoDataAlert}, conditions: []condition{{metric: catalogue.Metric{Place: catalogue.ByCluster}}}})
		for _, r := range c.rounds {
			if e.sources[r.source] == nil && r.source.sender != "node/new" {
				e.sources[r.source] = &source{judged: judged{epoch, 2}}
			}
		}
		var got []int
		for _, some := range e.together(c.rounds) {
			got = append(got, len(some))
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %d, want %d", name, got, c.want)
		}
	}
}

// spans are how far back a queryable was asked.
type spans struct {
	storage.Queryable
	now  func() time.Time
	most time.Duration
}

func (s *spans) Querier(mint, maxt int64) (storage.Querier, error) {
	s.most = max(s.most, s.now().Sub(time.UnixMilli(mint)))
	return s.Queryable.Querier(mint, maxt)
}

// A round looks for what fell silent since the last one, however long the engine runs; all of it is
// looked for by the first, by one of a new policy, and after another engine's turn.
func TestLooksBackToWhatWasJudged(t *testing.T) {
	t.Parallel()
	now := epoch.Add(48 * time.Hour)
	clock := func() time.Time { return now }
	e := engineOf(t, &fleet{}, clock, []string{`{"level":"pod","conditions":[{"metric":"` + catalogue.PodCPU + `","statistic":"last","period":"30s","op":">","thresholds":{"critical":80}}],"noData":{"action":"alert","severity":"info","after":"5m"}}`})
	read := &spans{Queryable: e.opts.Queryable, now: clock}
	e.opts.Queryable, e.born = read, now.Add(-20*time.Hour)
	const all, since = 21 * time.Hour, 5*time.Minute + slack*interval
	round := func(what string, after, want time.Duration) {
		t.Helper()
		now, read.most = now.Add(after), 0
		e.evaluate(t.Context(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now, interval: interval, received: now})
		if read.most.Round(time.Minute) != want.Round(time.Minute) {
			t.Errorf("%s: %s back, want %s", what, read.most, want)
		}
	}
	round("first", 0, all)
	round("second", interval, since+interval)
	round("after a while", time.Hour, since+time.Hour)
	e.generation++
	e.policies[0].generation = e.generation
	round("a new policy", interval, all+time.Hour+2*interval)
	round("the next", interval, since+interval)
	e.sources[sourceKey{"prod-1", "all"}].judged = judged{}
	round("anew", interval, all+time.Hour+4*interval)
}
