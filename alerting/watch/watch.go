// Package watch owns the server's word about itself: heartbeats while it works,
// and an alarm when a part of it does not. It sends past the outbox and the
// engine, and goes on with the targets that it knew when their table cannot be
// read. It must not know what the parts are: it is given checks.
package watch

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/alerting/notify"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	lookEvery = 15 * time.Second
	// checkTimeout: a part that does not answer for so long is in trouble.
	checkTimeout = 5 * time.Second
	maxLen       = 64 << 10
)

// Check asks one part how it is. Ask may block until its context ends; what it
// returns is told to people.
type Check struct {
	Name  string        // lower case words, as "log store"
	After time.Duration // how long it may be in trouble before anybody is told
	Vital bool          // heartbeats stop while it is in trouble, at once
	Ask   func(ctx context.Context) error
}

// Sender makes one attempt; *notify.Outbox is one.
type Sender interface {
	Direct(ctx context.Context, to notify.Sealed, id, typ string, body []byte) error
}

// Rows is where targets are kept; *meta.DB is one.
type Rows interface {
	View(ctx context.Context, fn func(tx *meta.Tx) error) error
}

// Options of a Watch.
type Options struct {
	Rows       Rows            // required
	Keyring    *notify.Keyring // required
	Sender     Sender          // required
	Checks     []Check
	Links      incident.Links
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // nil: metrics are kept but not exported
	Now        func() time.Time      // default time.Now

	// Load gives what Save was last given, in an earlier process; nil when there is
	// nothing. Both left out: what was told is forgotten with the process.
	Load func() ([]byte, error)
	Save func([]byte) error
}

// Watch tells targets how the server is. Run is called once.
type Watch struct {
	opts    Options
	started time.Time
	targets []target // the last that could be read
	tellers map[string]*teller
	parts   []*part
	saved   []byte // what Save was last given
	unsaved bool   // Save failed, which was logged
	asking  sync.WaitGroup
	failing *prometheus.GaugeVec
	sent    *prometheus.CounterVec
}

type target struct {
	id, name string
	notify.Sealed
}

// part is one check and what came of it.
type part struct {
	Check
	since   time.Time // of the trouble; zero: none
	problem string
	answer  chan error // of the question that is out; nil: none is
}

// teller is what one target was told. One goroutine at a time uses it.
type teller struct {
	Sequence int64             `json:"sequence"`
	Alarms   map[string]*alarm `json:"alarms"` // by check

	beat   time.Time // of the last heartbeat that was delivered
	failed string    // why the last attempt was not delivered
}

type alarm struct {
	Incident string            `json:"incident"`
	Since    time.Time         `json:"since"`
	Problem  string            `json:"problem"`
	Waiting  *incident.Message `json:"waiting,omitempty"` // to be delivered, with the id that it keeps
	Firing   bool              `json:"firing"`

	restored bool // from an earlier process
}

// New makes a Watch; nothing is told before Run.
func New(o Options) (*Watch, error) {
	if o.Rows == nil || o.Keyring == nil || o.Sender == nil {
		return nil, errors.New("watch: Rows, Keyring and Sender are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	w := &Watch{
		opts: o, tellers: map[string]*teller{},
		failing: prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "crowsnest_watch_trouble", Help: "1 while a part of the server is in trouble, else 0."}, []string{"part"}),
		sent:    prometheus.NewCounterVec(prometheus.CounterOpts{Name: "crowsnest_watch_messages_total", Help: "Messages about the server itself, by type and result."}, []string{"type", "result"}),
	}
	for _, c := range o.Checks {
		w.parts = append(w.parts, &part{Check: c})
		w.failing.WithLabelValues(c.Name).Set(0)
	}
	if o.Registerer != nil {
		if err := errors.Join(o.Registerer.Register(w.failing), o.Registerer.Register(w.sent)); err != nil {
			return nil, fmt.Errorf("watch: %w", err)
		}
	}
	return w, nil
}

// Run tells targets until ctx ends.
func (w *Watch) Run(ctx context.Context) error {
	defer w.asking.Wait()
	w.started = w.opts.Now()
	w.restore()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		w.look(ctx)
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}

// look asks every part and tells every target what there is to tell. Targets do
// not wait for each other for longer than one attempt takes.
func (w *Watch) look(ctx context.Context) {
	w.ask(ctx)
	w.read(ctx)
	now := w.opts.Now()
	for _, t := range w.targets {
		tl := w.tellers[t.id]
		if tl == nil {
			tl = &teller{Alarms: map[string]*alarm{}}
			w.tellers[t.id] = tl
		}
		if t.Spec.SelfWatch {
			for _, p := range w.parts {
				w.decide(tl, p, now)
			}
		}
	}
	w.save() // before it is told: what is told will be ended, whatever becomes of this process
	var telling sync.WaitGroup
	for _, t := range w.targets {
		telling.Go(func() { w.tell(ctx, t, w.tellers[t.id]) })
	}
	telling.Wait()
	w.save()
}

// restore remembers what an earlier process told.
func (w *Watch) restore() {
	if w.opts.Load == nil {
		return
	}
	raw, err := w.opts.Load()
	tellers := map[string]*teller{}
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &tellers)
	}
	if err != nil {
		w.opts.Logger.Warn("what was told of the server itself before this start is not known: an alarm may be told twice, or not be ended", "err", err)
		return
	}
	for id, tl := range tellers {
		if tl == nil {
			continue
		}
		if tl.Alarms == nil {
			tl.Alarms = map[string]*alarm{}
		}
		for name, a := range tl.Alarms {
			if a == nil {
				delete(tl.Alarms, name)
				continue
			}
			a.restored = true
		}
		w.tellers[id] = tl
	}
}

func (w *Watch) save() {
	if w.opts.Save == nil {
		return
	}
	raw, err := json.Marshal(w.tellers)
	if err == nil && bytes.Equal(raw, w.saved) {
		return
	}
	if err == nil {
		err = w.opts.Save(raw)
	}
	if err == nil {
		w.saved = raw
	} else if !w.unsaved {
		w.opts.Logger.Warn("keep what is told of the server itself", "err", err)
	}
	w.unsaved = err != nil
}

// ask asks all parts at the same time. One that does not answer is in trouble,
// and is not asked again before it did.
func (w *Watch) ask(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	for _, p := range w.parts {
		if p.answer != nil {
			continue
		}
		answer := make(chan error, 1)
		p.answer = answer
		w.asking.Go(func() { answer <- p.Ask(limit) })
	}
	for _, p := range w.parts {
		var err error
		select {
		case err = <-p.answer:
			p.answer = nil
		case <-limit.Done():
			err = fmt.Errorf("no answer within %s", checkTimeout)
		}
		if ctx.Err() != nil {
			return // the end, not trouble
		}
		w.note(p, err)
	}
}

func (w *Watch) note(p *part, err error) {
	switch {
	case err == nil && !p.since.IsZero():
		w.opts.Logger.Info("part of the server recovered", "part_name", p.Name)
		p.since, p.problem = time.Time{}, ""
	case err != nil:
		if p.since.IsZero() {
			w.opts.Logger.Error("part of the server is in trouble", "part_name", p.Name, "err", err)
			p.since = w.opts.Now()
		}
		p.problem = err.Error()
	}
	v := 0.0
	if err != nil {
		v = 1
	}
	w.failing.WithLabelValues(p.Name).Set(v)
}

// read reads the targets that want to hear.
func (w *Watch) read(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, checkTimeout)
	defer cancel()
	var rows []meta.Resource
	if err := w.opts.Rows.View(ctx, func(tx *meta.Tx) (err error) { rows, err = tx.Resources(meta.KindTarget); return err }); err != nil {
		return // a check tells of it; those of before are told
	}
	w.targets = w.targets[:0]
	there := map[string]bool{}
	for _, r := range rows {
		sealed, err := notify.Unseal(w.opts.Keyring, r)
		if err != nil || (sealed.Spec.Heartbeat == nil && !sealed.Spec.SelfWatch) {
			continue
		}
		there[r.ID] = true
		w.targets = append(w.targets, target{id: r.ID, name: r.Name, Sealed: sealed})
	}
	for id := range w.tellers {
		if !there[id] {
			delete(w.tellers, id)
		}
	}
}

// tell tells one target what it has not heard.
func (w *Watch) tell(ctx context.Context, t target, tl *teller) {
	now := w.opts.Now()
	well := true
	for _, p := range w.parts {
		well = well && (!p.Vital || p.since.IsZero())
		if a := tl.Alarms[p.Name]; t.Spec.SelfWatch && a.Waiting != nil && w.send(ctx, t, tl, a.Waiting) {
			a.Waiting = nil
		}
	}
	if h := t.Spec.Heartbeat; h != nil && well && now.Sub(tl.beat) >= h.Every.D()-lookEvery/2 {
		m := w.message(incident.Heartbeat, now, "heartbeat", "Crowsnest works", "resolved", catalogue.Info, w.started)
		tl.number(&m)
		if w.send(ctx, t, tl, &m) {
			tl.beat = now
		}
	}
}

// decide finds what is to be told of one part. What began to be told is told to
// its end: a beginning that was delivered is followed by its end, both at least
// once, over a restart too. After one, trouble gets the time to be found again
// before it is taken to be over.
func (w *Watch) decide(tl *teller, p *part, now time.Time) {
	a := tl.Alarms[p.Name]
	if a == nil {
		a = &alarm{}
		tl.Alarms[p.Name] = a
	}
	bad := !p.since.IsZero() && (a.Firing || now.Sub(p.since) >= p.After)
	if a.Waiting != nil || bad == a.Firing || (a.restored && now.Sub(w.started) < p.After+lookEvery) {
		return
	}
	typ, state, severity := incident.Firing, "open", catalogue.Critical
	if bad {
		a.Incident, a.Since, a.Problem = incident.NewID("inc_", now), p.since, p.problem
	} else {
		typ, state = incident.Resolved, "resolved"
	}
	m := w.message(typ, now, a.Incident, fmt.Sprintf("Crowsnest itself: %s: %s", p.Name, a.Problem), state, severity, a.Since)
	tl.number(&m)
	a.Waiting, a.Firing, a.restored = &m, bad, false
}

func (tl *teller) number(m *incident.Message) {
	tl.Sequence++
	m.Sequence = tl.Sequence
}

func (w *Watch) message(typ incident.Type, now time.Time, id, title, state string, severity catalogue.Severity, since time.Time) incident.Message {
	m := incident.Message{
		Version: incident.Version, ID: incident.NewID("ntf_", now), Type: typ, Timestamp: incident.Time(now),
		Incident: incident.MessageIncident{
			ID: id, URL: w.opts.Links.Base + "/", Title: title, State: state, Severity: string(severity), StartedAt: incident.Time(since), Labels: map[string]string{"crowsnest": "self"},
		},
		Alerts: []incident.MessageAlert{},
	}
	if typ == incident.Resolved {
		end := incident.Time(now)
		m.Incident.EndedAt = &end
	}
	return m
}

// send makes one attempt. A message keeps id and sequence over its attempts.
func (w *Watch) send(ctx context.Context, t target, tl *teller, m *incident.Message) bool {
	body, err := m.Encode(maxLen)
	if err == nil {
		err = w.opts.Sender.Direct(ctx, t.Sealed, m.ID, string(m.Type), body)
	}
	result, why := "delivered", ""
	if err != nil {
		result, why = "failed", err.Error()
	}
	w.sent.WithLabelValues(string(m.Type), result).Inc()
	if why != "" && why != tl.failed && ctx.Err() == nil {
		w.opts.Logger.Warn("tell of the server itself", "target", t.name, "type", string(m.Type), "err", err)
	}
	tl.failed = why
	return err == nil
}
