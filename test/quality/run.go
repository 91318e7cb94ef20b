package quality

import (
	"context"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// slack is what the way from the sample that completes a condition to the alert
// may take.
const slack = 2 * time.Second

// ambient presets say how busy the machine is. Where others use its CPU, they
// fire truly: they are told apart by the machine's own figures.
var ambient = []string{"node-cpu", "cluster-cpu"}

// ambientPercent of the machine's CPU from which they may.
const ambientPercent = 85

// diskForecast says that a file system will be full: so may the machine's own,
// where others write to it.
const (
	diskForecast       = "node-disk-forecast"
	diskForecastWithin = 24 * time.Hour
)

// Finding is what came of a policy that must fire.
type Finding struct {
	Policy string `json:"policy"`
	Object string `json:"object"`
	// DelaySeconds is from the injection until the API or the kubelet showed the
	// fault: Kubernetes' own.
	DelaySeconds float64 `json:"kubernetes_delay_seconds"`
	OwnSeconds   float64 `json:"policy_own_seconds"`
	BarSeconds   float64 `json:"bar_seconds"`   // own + one interval + 2 s
	FoundSeconds float64 `json:"found_seconds"` // from when it showed
	// ToldSeconds is until the webhook had it; null when something more specific
	// muted it.
	ToldSeconds *float64 `json:"told_seconds"`
	MutedBy     []string `json:"muted_by,omitempty"`
	// EndedSeconds is from the mending to the alert's end.
	EndedSeconds *float64 `json:"ended_seconds"`
	Cause        string   `json:"cause"`
	Holds        bool     `json:"holds"`
}

// Row is what came of one fault, or of a pair.
type Row struct {
	Name string `json:"name"`
	// IntervalSeconds where it is not the report's.
	IntervalSeconds float64   `json:"interval_seconds,omitempty"`
	How             string    `json:"how"`
	Findings        []Finding `json:"findings"` // none: it is to be quiet
	May             []string  `json:"may"`
	// Also is what of that fired.
	Also []string `json:"also"`
	// False are alerts that should not have fired, as policy on object.
	False []string `json:"false"`
	// Ambient are alerts of the machine's being busy, which it was.
	Ambient []string `json:"ambient,omitempty"`
	// Ended are alerts of before that were to end with it, with their cause.
	Ended []string `json:"ended,omitempty"`
	// Wrong says in words what does not hold.
	Wrong       []string `json:"wrong"`
	Holds       bool     `json:"holds"`
	TookSeconds float64  `json:"took_seconds"`
	LoadAverage float64  `json:"load_average"`
	Date        string   `json:"date"`
	Note        string   `json:"note,omitempty"`
}

// part is a fault of a row, with its namespace and its moments.
type part struct {
	Fault
	ns string

	begun, injected, mended time.Time

	// By expectation:
	shown, told []time.Time
	found       []*Alert
}

// Run breaks what the named fault or pair breaks, mends it again, and says what
// came of it. An error is one of the cluster or the suite, not of what is
// measured.
func (l *Lab) Run(ctx context.Context, name string) (Row, error) {
	began := time.Now()
	var parts []*part
	for _, one := range strings.Split(strings.TrimSuffix(name, outside), "+") {
		i := slices.IndexFunc(Faults(), func(f Fault) bool { return f.Name == one })
		if i < 0 {
			return Row{}, fmt.Errorf("there is no fault %q", one)
		}
		f := Faults()[i]
		parts = append(parts, &part{Fault: f, ns: namespaceOf(f.Name), shown: make([]time.Time, len(f.Find)), found: make([]*Alert, len(f.Find)), told: make([]time.Time, len(f.Find))})
	}
	row := Row{Name: name, Findings: []Finding{}, May: []string{}, Also: []string{}, False: []string{}, Wrong: []string{}, IntervalSeconds: l.Interval.Seconds(), Date: began.UTC().Format(time.DateOnly)}
	for _, p := range parts {
		if row.How != "" {
			row.How += "; then "
		}
		row.How += p.How
		row.May = append(row.May, p.May...)
	}
	defer l.clear(parts)
	for _, p := range parts {
		if err := l.namespace(ctx, p.ns); err != nil {
			return row, err
		}
		if p.Setup != nil {
			if err := p.Setup(ctx, l, p.ns); err != nil {
				return row, fmt.Errorf("set up %s: %w", p.Name, err)
			}
		}
	}
	start := time.Now()
	before := l.watch.firing()
	for _, p := range parts {
		l.say("%s: %s", p.Name, p.How)
		p.begun = time.Now()
		if err := p.Inject(ctx, l, p.ns); err != nil {
			return row, fmt.Errorf("break %s: %w", p.Name, err)
		}
		p.injected = time.Now() // what a command took is not Kubernetes' delay
		if p != parts[len(parts)-1] {
			l.show(ctx, p) // the next begins while it is there
		}
	}
	if err := l.observe(ctx, parts, before); err != nil {
		return row, err
	}
	for _, p := range slices.Backward(parts) {
		p.mended = time.Now()
		if err := p.Mend(ctx, l, p.ns); err != nil {
			return row, fmt.Errorf("mend %s: %w", p.Name, err)
		}
	}
	l.awaitEnd(ctx, parts, before)
	l.judge(ctx, &row, parts, start, before)
	row.TookSeconds = round(time.Since(began))
	row.LoadAverage = loadAverage()
	return row, nil
}

// aboutMachine tells whether an alert is about the machine's own disk.
func aboutMachine(a Alert) bool {
	return a.Policy.Name == diskForecast && a.Dimensions["mountpoint"] == "/"
}

// show waits until a fault shows, in all that finds it.
func (l *Lab) show(ctx context.Context, p *part) {
	var wg sync.WaitGroup
	for i, e := range p.Find {
		wg.Go(func() { l.shows(ctx, p, i, e) })
	}
	wg.Wait()
}

// observe looks until everything was found, or the time for it is over.
func (l *Lab) observe(ctx context.Context, parts []*part, before []Alert) error {
	var wg sync.WaitGroup
	for _, p := range parts {
		for i, e := range p.Find {
			wg.Go(func() { l.find(ctx, p, i, e, before) })
		}
		if len(p.Find) == 0 {
			wg.Go(func() {
				select {
				case <-ctx.Done():
				case <-time.After(p.Watch):
				}
			})
		}
	}
	wg.Wait()
	return ctx.Err()
}

// find awaits that a fault shows, then that its policy fires.
func (l *Lab) find(ctx context.Context, p *part, i int, e Expect, before []Alert) {
	if p.shown[i].IsZero() {
		l.shows(ctx, p, i, e)
	}
	wait := l.bar(e) + 45*time.Second // late is worth knowing, too
	if p.shown[i].IsZero() {
		wait = time.Second
	}
	_ = testbed.Await(ctx, wait, watchEvery, func(context.Context) error {
		for _, a := range l.watch.since(p.begun) {
			if a.Policy.Name == e.Policy && l.concerns(p, a) && !slices.ContainsFunc(before, func(b Alert) bool { return b.ID == a.ID }) {
				p.found[i] = &a
				return nil
			}
		}
		return fmt.Errorf("%s does not fire", e.Policy)
	})
	if p.found[i] == nil {
		return
	}
	// The webhook is told within a moment, or it is muted.
	_ = testbed.Await(ctx, 3*time.Second, watchEvery, func(context.Context) error {
		for _, d := range l.Webhook.Deliveries(e.Policy, "") {
			for _, a := range d.Parsed.Alerts {
				if a.ID == p.found[i].ID {
					p.told[i] = d.At
					return nil
				}
			}
		}
		return fmt.Errorf("nobody was told of %s", e.Policy)
	})
	l.say("%s: %s fires %.1f s after it showed", p.Name, e.Policy, p.found[i].Fired.Sub(p.shown[i]).Seconds())
}

// shows notes when a fault shows.
func (l *Lab) shows(ctx context.Context, p *part, i int, e Expect) {
	_ = testbed.Await(ctx, p.Delay+10*time.Second, 100*time.Millisecond, func(ctx context.Context) error {
		is, err := e.Shown(ctx, l, p.ns)
		if is {
			p.shown[i] = time.Now()
			return nil
		}
		return fmt.Errorf("it does not show: %w", err)
	})
}

// concerns tells whether an alert is about what a fault broke.
func (l *Lab) concerns(p *part, a Alert) bool {
	return p.Alone || a.Object["namespace"] == p.ns
}

// bar is the longest time from when a fault shows until its policy fires.
func (l *Lab) bar(e Expect) time.Duration {
	own := e.Own
	if own == 0 {
		own = l.own[e.Policy]
	}
	if l.Beside {
		own += l.Interval
	}
	return own + l.Interval + slack
}

// awaitEnd waits until all that the faults had fire has ended.
func (l *Lab) awaitEnd(ctx context.Context, parts []*part, before []Alert) {
	_ = testbed.Await(ctx, 4*time.Minute, watchEvery, func(context.Context) error {
		for _, a := range l.watch.firing() {
			old := slices.ContainsFunc(before, func(b Alert) bool { return b.ID == a.ID })
			for _, p := range parts {
				if (!old && l.concerns(p, a) && !slices.Contains(ambient, a.Policy.Name) && !aboutMachine(a)) || (old && slices.Contains(p.Ends, a.Policy.Name) && a.Object["namespace"] == p.ns) {
					return fmt.Errorf("%s on %s fires still", a.Policy.Name, a.about())
				}
			}
		}
		return nil
	})
}

// judge compares what fired with what should have.
func (l *Lab) judge(ctx context.Context, row *Row, parts []*part, start time.Time, before []Alert) {
	wrong := func(format string, args ...any) { row.Wrong = append(row.Wrong, fmt.Sprintf(format, args...)) }
	all := l.watch.since(time.Time{})
	byID := map[string]Alert{}
	for _, a := range all {
		byID[a.ID] = a
	}
	expected := map[string]bool{}
	for _, p := range parts {
		for i, e := range p.Find {
			expected[e.Policy] = true
			f := Finding{Policy: e.Policy, OwnSeconds: round(l.bar(e) - l.Interval - slack), BarSeconds: round(l.bar(e))}
			switch {
			case p.shown[i].IsZero():
				wrong("%s did not show within %s", p.Name, p.Delay)
			case p.found[i] == nil:
				wrong("%s did not fire", e.Policy)
			default:
				a := byID[p.found[i].ID]
				f.Object, f.DelaySeconds, f.FoundSeconds = a.about(), round(p.shown[i].Sub(p.injected)), round(a.Fired.Sub(p.shown[i]))
				f.Holds = f.FoundSeconds <= f.BarSeconds
				if !f.Holds {
					wrong("%s fired after %.1f s, bar %.0f s", e.Policy, f.FoundSeconds, f.BarSeconds)
				}
				if !p.told[i].IsZero() {
					told := round(p.told[i].Sub(p.shown[i]))
					f.ToldSeconds = &told
				} else {
					f.MutedBy = l.watch.mutedBy(ctx, a.Incident)
					// It may have joined an incident that was told before, of which news
					// come at the group's interval.
					joined := slices.ContainsFunc(all, func(b Alert) bool { return b.ID != a.ID && b.Incident == a.Incident && b.Fired.Before(a.Fired) })
					if joined {
						row.Note = e.Policy + " joined an incident that had been told before"
					}
					mayMute := slices.ContainsFunc(all, func(b Alert) bool {
						return b.ID != a.ID && slices.Contains(p.May, b.Policy.Name) && !b.Fired.Before(start)
					})
					if !joined && !mayMute && len(parts) == 1 {
						f.Holds = false
						wrong("nobody was told of %s", e.Policy)
					}
				}
				f.Cause = a.Cause
				if a.Ended.IsZero() {
					f.Holds = false
					wrong("%s did not end", e.Policy)
				} else {
					ended := round(a.Ended.Sub(p.mended))
					f.EndedSeconds = &ended
					if !slices.Contains(p.Causes, a.Cause) {
						f.Holds = false
						wrong("%s ended with %s, want %s", e.Policy, a.Cause, strings.Join(p.Causes, " or "))
					}
				}
			}
			row.Findings = append(row.Findings, f)
		}
		for _, name := range p.Ends {
			for _, a := range before {
				if a.Policy.Name != name || a.Object["namespace"] != p.ns {
					continue
				}
				a = byID[a.ID]
				row.Ended = append(row.Ended, name+": "+a.Cause)
				if !slices.Contains(p.Causes, a.Cause) {
					wrong("%s ended with %q, want %s", name, a.Cause, strings.Join(p.Causes, " or "))
				}
			}
		}
	}
	busiest := l.watch.busiest(start.Add(-time.Minute), l.Interval)
	for _, a := range all {
		if a.Fired.Before(start) {
			continue
		}
		about := a.Policy.Name + " on " + a.about()
		mine := slices.ContainsFunc(parts, func(p *part) bool { return a.Object["namespace"] == p.ns })
		switch {
		case expected[a.Policy.Name] && slices.ContainsFunc(parts, func(p *part) bool { return l.concerns(p, a) }):
		case slices.Contains(ambient, a.Policy.Name) && busiest > ambientPercent:
			row.Ambient = append(row.Ambient, fmt.Sprintf("%s (the machine's CPUs were used up to %.0f %%)", a.Policy.Name, busiest))
		case aboutMachine(a) && l.watch.filling(diskForecastWithin/time.Duration(l.Divisor)) >= 100:
			row.Ambient = append(row.Ambient, a.Policy.Name+" (others fill the machine's disk)")
		case slices.Contains(row.May, a.Policy.Name):
			if !slices.Contains(row.Also, a.Policy.Name) {
				row.Also = append(row.Also, a.Policy.Name)
			}
		case !mine && l.Beside: // of another fault
		default:
			row.False = append(row.False, about)
		}
	}
	slices.Sort(row.Also)
	if len(row.False) > 0 {
		wrong("false: %s", strings.Join(row.False, ", "))
	}
	row.Holds = len(row.Wrong) == 0
	l.say("%s: holds %t %s", row.Name, row.Holds, strings.Join(row.Wrong, "; "))
}

func (l *Lab) say(format string, args ...any) {
	fmt.Fprintf(l.Log, "%s "+format+"\n", append([]any{time.Now().Format(time.TimeOnly)}, args...)...)
}

func (l *Lab) namespace(ctx context.Context, ns string) error {
	if err := l.Cluster.DeleteNamespaces(ctx, ns); err != nil {
		return err
	}
	if err := l.kubectl(ctx, "create", "namespace", ns); err != nil {
		return err
	}
	return testbed.Await(ctx, 30*time.Second, 200*time.Millisecond, func(ctx context.Context) error {
		return l.get(ctx, "/api/v1/namespaces/"+ns+"/serviceaccounts/default", nil)
	})
}

// clear leaves nothing of the faults.
func (l *Lab) clear(parts []*part) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	for _, p := range parts {
		if p.Alone {
			_ = l.reviveDaemons(ctx)
			_ = l.kubectl(ctx, "uncordon", testbed.Node)
		}
		_ = l.allow(ctx, p.ns)
		_ = l.kubectl(ctx, "delete", "namespace", p.ns, "--ignore-not-found", "--wait=false")
		_ = l.kubectl(ctx, "delete", "pv", p.ns, "--ignore-not-found", "--wait=false")
	}
	_ = l.undisk(ctx, "filling")
	_ = l.undisk(ctx, "volume")
	for _, name := range collectors {
		l.mu.Lock()
		collector := l.processes[name]
		l.mu.Unlock()
		if collector == nil {
			continue
		}
		select {
		case <-collector.Done():
			_ = l.start(name)
		default:
		}
	}
}

func round(d time.Duration) float64 { return math.Round(d.Seconds()*10) / 10 }

func loadAverage() float64 {
	raw, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return 0
	}
	var one float64
	_, _ = fmt.Sscan(string(raw), &one)
	return one
}
