package engine

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// delivery is a scenario's outbox and its receivers. The outbox works beside the
// scene, so that what it does is waited for; its clock is the scene's.
type delivery struct {
	outbox  *notify.Outbox
	keyring *notify.Keyring
	stop    func()
	forget  func() // what the outbox does from here on is not stored

	mu     sync.Mutex
	now    time.Time
	answer map[string]string // by target: a status, cut or held; left out: 200
	url    string
	taken  []string        // what was answered 2xx or is held, since it was last expected
	ids    map[string]bool // by target, that were taken
	held   chan struct{}   // closed when held answers go out
}

func (s *scene) deliver() {
	d := &delivery{now: s.now, answer: map[string]string{}, ids: map[string]bool{}, held: make(chan struct{})}
	srv := httptest.NewServer(http.HandlerFunc(d.receive))
	d.url = srv.URL
	var err error
	if d.keyring, err = notify.OpenKeyring(filepath.Join(s.dir, "key")); err != nil {
		s.fail("%v", err)
	}
	s.box = d
	s.runOutbox()
	s.t.Cleanup(func() { d.answerHeld(); d.stop(); srv.Close() })
}

// runOutbox starts an outbox with a connection of its own to the database.
func (s *scene) runOutbox() {
	d := s.box
	db, err := meta.Open(filepath.Join(s.dir, "meta.db"))
	if err != nil {
		s.fail("%v", err)
	}
	if d.outbox, err = notify.New(notify.Options{
		Store: db, Keyring: d.keyring, Allowed: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Timeout: time.Minute,
		Now: d.clock, Jitter: func() float64 { return 1 },
	}); err != nil {
		s.fail("%v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = d.outbox.Run(ctx) })
	d.stop = func() { cancel(); running.Wait(); _ = db.Close() }
	d.forget = func() { _ = db.Close() }
}

// crash ends the outbox after the answers that receivers hold and before it could
// store them; another one goes on with what the database has.
func (s *scene) crash() {
	s.box.forget()
	s.box.answerHeld()
	s.box.stop()
	s.runOutbox()
}

func (d *delivery) answerHeld() {
	d.mu.Lock()
	defer d.mu.Unlock()
	close(d.held)
	d.held = make(chan struct{})
}

func (d *delivery) clock() time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.now
}

// pass lets the outbox see what time it is, and that there may be new rows.
func (d *delivery) pass(now time.Time) {
	d.mu.Lock()
	d.now = now
	d.mu.Unlock()
	d.outbox.Wake()
}

func (d *delivery) answers(target, how string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.answer[target] = how
}

func (d *delivery) receive(w http.ResponseWriter, r *http.Request) {
	var m incident.Message
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	target := strings.TrimPrefix(r.URL.Path, "/")
	d.mu.Lock()
	how, held := cmp.Or(d.answer[target], "200"), d.held
	if how == "200" || how == "held" {
		text, id := target+" "+strings.TrimPrefix(string(m.Type), "incident."), target+" "+r.Header.Get("webhook-id")
		if d.ids[id] {
			text += " again"
		}
		d.ids[id] = true
		d.taken = append(d.taken, text)
	}
	d.mu.Unlock()
	switch how {
	case "held":
		<-held
	case "cut": // the connection ends without an answer
		panic(http.ErrAbortHandler)
	default:
		status, _ := strconv.Atoi(how)
		w.WriteHeader(status)
	}
}

// target makes a row whose messages the scene's receivers get.
func (d *delivery) target(s *scene, name, spec string) (open json.RawMessage, sealed []byte) {
	doc := fmt.Sprintf("apiVersion: crowsnest.dev/v1\nkind: Target\nmetadata: {name: %s}\nspec:\n  type: webhook\n  url: %s/%s\n%s", name, d.url, name, spec)
	t, err := notify.ParseTarget([]byte(doc), nil, d.outbox.Guard())
	if err != nil {
		s.fail("%v\n%s", err, doc)
	}
	if open, sealed, err = notify.Seal(d.keyring, "target_"+name, t, notify.Sealed{Secret: notify.NewSecret()}); err != nil {
		s.fail("%v", err)
	}
	return open, sealed
}

// await waits for what the outbox should have done.
func (s *scene) await(what string, wanted []string, see func() []string) {
	deadline := time.Now().Add(60 * time.Second)
	for {
		got := see()
		if slices.Equal(got, wanted) {
			return
		}
		if time.Now().After(deadline) {
			s.fail("%s: got %s, want %s", what, strings.Join(got, ", "), strings.Join(wanted, ", "))
		}
		time.Sleep(time.Millisecond)
	}
}

// received awaits what receivers took, in its order, since the last time.
func (s *scene) received(wanted []string) {
	s.box.pass(s.now)
	s.await("received", wanted, func() []string {
		s.box.mu.Lock()
		defer s.box.mu.Unlock()
		return slices.Clone(s.box.taken)
	})
	s.box.mu.Lock()
	s.box.taken = nil
	s.box.mu.Unlock()
}

// deliveries awaits how all messages stand, in any order: "TARGET TYPE STATE
// ATTEMPTS".
func (s *scene) deliveries(wanted []string) {
	slices.Sort(wanted)
	s.box.pass(s.now)
	s.await("deliveries", wanted, func() (got []string) {
		err := s.meta.View(context.Background(), func(tx *meta.Tx) error {
			rows, err := tx.Notifications(meta.NotificationFilter{})
			for _, n := range rows {
				got = append(got, fmt.Sprintf("%s %s %s %d", strings.TrimPrefix(n.TargetID, "target_"), strings.TrimPrefix(n.Type, "incident."), n.State, n.Attempts))
			}
			return err
		})
		if err != nil {
			s.fail("%v", err)
		}
		slices.Sort(got)
		return got
	})
}

// told says what was written to be sent since the last time, and what it says.
func (s *scene) told() (got []string) {
	err := s.meta.View(context.Background(), func(tx *meta.Tx) error {
		rows, err := tx.Notifications(meta.NotificationFilter{})
		for _, n := range slices.Backward(rows) {
			if n.Position <= s.shown {
				continue
			}
			s.shown = n.Position
			var m incident.Message
			if err := json.Unmarshal(n.Body, &m); err != nil {
				return err
			}
			firing, lines := 0, 0
			for _, a := range m.Alerts {
				if a.State == "firing" {
					firing++
				}
				lines += len(a.Evidence.Logs)
			}
			text := fmt.Sprintf("%s %s #%d %s %s firing=%d of %d", strings.TrimPrefix(n.TargetID, "target_"), strings.TrimPrefix(string(m.Type), "incident."), m.Sequence, m.Incident.State, m.Incident.Severity, firing, len(m.Alerts))
			if lines > 0 {
				text += fmt.Sprintf(" lines=%d", lines)
			}
			if m.Sequence != n.Sequence {
				text += fmt.Sprintf(" but its row has #%d", n.Sequence)
			}
			got = append(got, text)
		}
		return err
	})
	if err != nil {
		s.fail("%v", err)
	}
	return got
}

// evidence is quick, slow, or (what was slow) comes.
func (s *scene) evidence(how string) {
	switch how {
	case "quick":
		s.let = make(chan struct{})
		close(s.let)
		// However slow the machine is: it is there within its time.
		s.engine.evidence.budget = time.Minute
	case "slow":
		s.let = make(chan struct{})
		s.engine.evidence.budget = evidenceBudget
	case "comes":
		close(s.let)
		s.engine.workers.Wait()
		for len(s.engine.evidence.done) > 0 {
			s.engine.foundLate(context.Background(), <-s.engine.evidence.done)
		}
		return
	default:
		s.fail("evidence is quick, slow or comes, not %q", how)
	}
	s.engine.opts.Evidence = slowEvidence{s.let}
}

// backtest notes what a policy would have done since so long ago, or a draft of it.
func (s *scene) backtest(name string, ago time.Duration, draft string) {
	row := s.policyRow(name)
	if draft != "" {
		p, err := policy.Parse([]byte("apiVersion: crowsnest.dev/v1\nkind: Policy\nmetadata: {name: draft}\nspec:\n"+draft), policy.Known{})
		if err != nil {
			s.fail("%v", err)
		}
		if row.Spec, err = json.Marshal(p.Spec); err != nil {
			s.fail("%v", err)
		}
	}
	r, err := s.engine.Backtest(context.Background(), row, Range{From: s.now.Add(-ago), To: s.now})
	if err != nil {
		s.fail("%v", err)
	}
	s.replayed = nil
	for _, inc := range r.Incidents {
		for _, a := range inc.Alerts {
			text := cmp.Or(a.Object["pod"], a.Object["workload"], a.Object["node"]) + " " + a.Severity + " from " + a.StartedAt.Format(time.TimeOnly)
			if a.EndedAt != nil {
				text += " to " + a.EndedAt.Format(time.TimeOnly) + " " + a.Cause
			}
			s.replayed = append(s.replayed, text)
		}
	}
}

// sums are real rollups, of nodes whose collectors send for themselves.
type sums struct {
	rollups *rollup.Rollups
	feeds   map[string]*rollup.Feed // by series
	written []rollup.Written        // that the engine was not told of
}

// expected are the nodes of the inventory.
type expected struct {
	nodes []string
	asked func()
}

func (e expected) Nodes(string) []string { e.asked(); return e.nodes }

// rollUp has sums made of what nodes n-1 to n-COUNT send from here on.
func (s *scene) rollUp(count int) {
	var nodes []string
	for i := range count {
		nodes = append(nodes, fmt.Sprint("n-", i+1))
		s.object("node", nodes[i:])
	}
	u := &sums{feeds: map[string]*rollup.Feed{}}
	read := make(chan struct{})
	var err error
	if u.rollups, err = rollup.New(rollup.Options{
		Store: s.store, Expected: expected{nodes, sync.OnceFunc(func() { close(read) })}, Now: func() time.Time { return s.now },
		Written: func(w rollup.Written) { u.written = append(u.written, w) },
	}); err != nil {
		s.fail("%v", err)
	}
	// Run asks for the nodes of a cluster once it knows what was written before; from
	// then on time is the scene's.
	u.feed(s.series("podcpu", "cart-1"))
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- u.rollups.Run(ctx) }()
	<-read
	cancel()
	if err := <-done; err != nil {
		s.fail("%v", err)
	}
	s.sums = u
}

func (u *sums) feed(l labels.Labels) *rollup.Feed {
	key := l.String()
	f, ok := u.feeds[key]
	if !ok {
		f = u.rollups.Feed("prod-1", l)
		u.feeds[key] = f
	}
	return f
}

// reported has the rollups know that a sender's interval is there.
func (s *scene) reported(sender string, at time.Time) {
	s.put(labels.FromStrings("__name__", rollup.SenderInterval, "cluster", "prod-1", rollup.SenderLabel, sender), at, interval.Seconds())
	s.sums.rollups.Report(rollup.Report{Cluster: "prod-1", Sender: sender, Through: at, Interval: interval})
}

// rolledUp writes the sums that are due, and has them judged.
func (s *scene) rolledUp() {
	s.sums.rollups.Advance(context.Background())
	written := s.sums.written
	s.sums.written = nil
	for _, w := range written {
		s.engine.RolledUp(w)
		s.judge()
	}
}

func (s *scene) judge() {
	rounds, _, _ := s.engine.next(s.now)
	for _, r := range rounds {
		s.engine.evaluate(context.Background(), r)
	}
}

// spread gives the senders of node/n-1..n-20, and their numbers.
func spread(sender string) (senders, numbers []string) {
	var from, to int
	if _, err := fmt.Sscanf(sender, "node/n-%d..n-%d", &from, &to); err != nil {
		return []string{sender}, []string{"*"}
	}
	for n := from; n <= to; n++ {
		senders, numbers = append(senders, fmt.Sprint("node/n-", n)), append(numbers, strconv.Itoa(n))
	}
	return senders, numbers
}

// sentences gives the scenarios that the README's table names.
func sentences(t *testing.T) (names []string) {
	readme, err := os.ReadFile("testdata/scenarios/README")
	if err != nil {
		t.Fatal(err)
	}
	_, table, ok := strings.Cut(string(readme), "what plays them")
	if !ok {
		t.Fatal("the README has no table")
	}
	for line := range strings.Lines(table) {
		columns := strings.Split(strings.TrimSpace(line), "  ")
		for _, name := range strings.Split(columns[len(columns)-1], ",") {
			if name = strings.TrimSpace(name); scenarioName.MatchString(name) {
				names = append(names, name)
			}
		}
	}
	return names
}

var scenarioName = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)

// Every scenario has its sentence in the README's table, and what the table names
// is there.
func TestEverySentenceHasItsScenario(t *testing.T) {
	files, err := filepath.Glob("testdata/scenarios/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	there := map[string]bool{}
	for _, f := range files {
		there[strings.TrimSuffix(filepath.Base(f), ".txt")] = true
	}
	named := map[string]bool{}
	for _, name := range sentences(t) {
		named[name] = true
		if !there[name] {
			t.Errorf("the table names %s, which is not there", name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(there)) {
		if !named[name] {
			t.Errorf("%s plays no sentence of the table", name)
		}
	}
}
