// Package rules runs Prometheus' rule groups beside the policies: recording and
// alerting rules, from files and from the API, by Prometheus' own manager. What
// they find goes to whoever receives alerts here, and to other Alertmanagers. It
// must not know policies, incidents or targets.
package rules

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/discovery/targetgroup"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/rulefmt"
	"github.com/prometheus/prometheus/notifier"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/parser"
	"github.com/prometheus/prometheus/rules"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const (
	// fromAPI marks the groups of a row, where Prometheus has a file's name.
	fromAPI = "api:"
	// defaultInterval of a group that names none; Prometheus' own.
	defaultInterval = time.Minute
	// queryOffset lets rollups be written before they are looked at: their
	// deadline, and a moment for the write.
	queryOffset = 11 * time.Second
	// resendDelay, outageTolerance and forGrace are Prometheus' own.
	resendDelay     = time.Minute
	outageTolerance = time.Hour
	forGrace        = 10 * time.Minute
	// lookEvery is how often files are looked at for changes.
	lookEvery = 30 * time.Second
	maxFile   = 4 << 20
	maxFiles  = 1000
	// Bounds of one evaluation: Prometheus' own.
	maxSamples   = 50_000_000
	queryTimeout = 2 * time.Minute
)

// Store is where samples are read and written.
type Store interface {
	storage.Queryable
	storage.Appendable
}

// Receiver takes the alerts; *engine.Engine is one.
type Receiver interface {
	Received(ctx context.Context, alerts []incident.External) error
}

// Rows is where the API's groups are kept; *meta.DB is one.
type Rows interface {
	View(ctx context.Context, fn func(tx *meta.Tx) error) error
}

// Options of a Manager.
type Options struct {
	Store Store // required
	// PromQL gives what rules are evaluated by, of what evaluates them here; default
	// the latter. A remote engine takes whole expressions.
	PromQL        func(promql.QueryEngine) promql.QueryEngine
	Rows          Rows         // required
	Receiver      Receiver     // required
	Files         []string     // globs; a file that is wrong is reported, the others are used
	Alertmanagers []*url.URL   // told too, under their own /api/v2/alerts
	ExternalURL   string       // where people reach us; in generatorURL
	Logger        *slog.Logger // default: discards
	Registerer    prometheus.Registerer
	Now           func() time.Time // default time.Now
}

// Manager runs rule groups. Changed, Groups and Problems may be called
// concurrently; Run once.
type Manager struct {
	opts    Options
	log     *slog.Logger
	manager *rules.Manager
	engine  promql.QueryEngine
	notify  *notifier.Manager
	loader  *loader
	wake    chan struct{}
	cancel  context.CancelFunc

	mu       sync.Mutex
	problems map[string]string
	seen     [sha256.Size]byte
}

// New makes a manager; nothing is evaluated before Run.
func New(o Options) (*Manager, error) {
	if o.Store == nil || o.Rows == nil || o.Receiver == nil {
		return nil, errors.New("rules: Store, Rows and Receiver are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	external, err := url.Parse(o.ExternalURL)
	if err != nil {
		return nil, fmt.Errorf("rules: ExternalURL: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	m := &Manager{opts: o, log: o.Logger, wake: make(chan struct{}, 1), problems: map[string]string{}, cancel: cancel, loader: &loader{texts: map[string]string{}, parser: parser.NewParser(parser.Options{}), log: o.Logger}}
	if len(o.Alertmanagers) > 0 {
		m.notify = notifier.NewManager(&notifier.Options{QueueCapacity: 10_000, Registerer: o.Registerer}, model.UTF8Validation, o.Logger)
	}
	// Apart from the engine of queries by people: theirs must not make rules wait.
	m.engine = promql.NewEngine(promql.EngineOpts{Logger: o.Logger, MaxSamples: maxSamples, Timeout: queryTimeout, EnableAtModifier: true, EnableNegativeOffset: true, Parser: m.loader.parser})
	if o.PromQL != nil {
		m.engine = o.PromQL(m.engine)
	}
	m.manager = rules.NewManager(&rules.ManagerOptions{
		ExternalURL: external, QueryFunc: rules.EngineQueryFunc(m.engine, o.Store), NotifyFunc: m.send, Context: ctx, Appendable: o.Store, Queryable: o.Store,
		Logger: o.Logger, Registerer: o.Registerer, OutageTolerance: outageTolerance, ForGracePeriod: forGrace, ResendDelay: resendDelay, GroupLoader: m.loader,
		DefaultRuleQueryOffset: func() time.Duration { return queryOffset }, RestoreNewRuleGroups: true, Parser: m.loader.parser,
	})
	return m, nil
}

// Changed says that rows were written. It never blocks.
func (m *Manager) Changed() {
	select {
	case m.wake <- struct{}{}:
	default: // it is awake already
	}
}

// RuleGroups gives the groups that run, for Prometheus' API.
func (m *Manager) RuleGroups() []*rules.Group { return m.manager.RuleGroups() }

// AlertingRules gives the alerting rules that run, for Prometheus' API.
func (m *Manager) AlertingRules() []*rules.AlertingRule { return m.manager.AlertingRules() }

// Alertmanagers gives the others that are told, for Prometheus' API.
func (m *Manager) Alertmanagers() []*url.URL {
	if m.notify == nil {
		return nil
	}
	return m.notify.Alertmanagers()
}

// DroppedAlertmanagers is there for Prometheus' API; none is dropped.
func (m *Manager) DroppedAlertmanagers() []*url.URL { return nil }

// Problem says why a row's groups do not run as written; empty when they do.
func (m *Manager) Problem(name string) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.problems[fromAPI+name]
}

// Problems says which files and rows could not be used, and why.
func (m *Manager) Problems() map[string]string {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make(map[string]string, len(m.problems))
	for k, v := range m.problems {
		out[k] = v
	}
	return out
}

// Run evaluates until ctx ends.
func (m *Manager) Run(ctx context.Context) error {
	defer m.cancel()
	var running sync.WaitGroup
	if m.notify != nil {
		sets := make(chan map[string][]*targetgroup.Group, 1)
		if err := m.tellOthers(sets); err != nil {
			return err
		}
		running.Go(func() { m.notify.Run(sets) })
	}
	m.load(ctx)
	running.Go(m.manager.Run)
	defer func() {
		m.manager.Stop()
		if m.notify != nil { // after the last rule has spoken
			m.notify.Stop()
		}
		running.Wait()
	}()
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-m.wake:
		}
		m.load(ctx)
	}
}

// tellOthers configures Prometheus' own sender.
func (m *Manager) tellOthers(sets chan<- map[string][]*targetgroup.Group) error {
	conf := config.DefaultConfig
	groups := map[string][]*targetgroup.Group{}
	for i, u := range m.opts.Alertmanagers {
		am := config.DefaultAlertmanagerConfig
		am.Scheme, am.PathPrefix = u.Scheme, u.Path
		conf.AlertingConfig.AlertmanagerConfigs = append(conf.AlertingConfig.AlertmanagerConfigs, &am)
		groups[fmt.Sprintf("config-%d", i)] = []*targetgroup.Group{{Targets: []model.LabelSet{{model.AddressLabel: model.LabelValue(u.Host)}}}}
	}
	if err := m.notify.ApplyConfig(&conf); err != nil {
		return fmt.Errorf("rules: other Alertmanagers: %w", err)
	}
	sets <- groups
	return nil
}

// load reads files and rows, and changes what runs when they changed. What
// cannot be read stays as it was.
func (m *Manager) load(ctx context.Context) {
	texts, problems := map[string]string{}, map[string]string{}
	for _, glob := range m.opts.Files {
		paths, err := filepath.Glob(glob)
		if err != nil || (len(paths) == 0 && !strings.ContainsAny(glob, "*?[")) {
			problems[glob] = "there is no such file"
			continue
		}
		for _, path := range paths {
			if len(texts) >= maxFiles {
				problems[path] = fmt.Sprintf("over %d files of rules", maxFiles)
				continue
			}
			text, err := readFile(path)
			if err != nil {
				problems[path] = err.Error()
				continue
			}
			texts[path] = text
		}
	}
	var rows []meta.Resource
	if err := m.opts.Rows.View(ctx, func(tx *meta.Tx) (err error) { rows, err = tx.Resources(meta.KindRuleGroups); return err }); err != nil {
		if ctx.Err() == nil {
			m.log.Error("read rule groups", "err", err)
		}
		return
	}
	for _, r := range rows {
		o, err := Of(r)
		if err != nil {
			problems[fromAPI+r.Name] = err.Error()
			continue
		}
		texts[fromAPI+r.Name] = o.Spec.Text()
	}
	names := make([]string, 0, len(texts))
	hash := sha256.New()
	for name, text := range texts {
		if _, err := Parse(text); err != nil {
			problems[name] = err.Error()
			if before, ok := m.loader.get(name); ok { // what ran goes on
				texts[name] = before
			} else {
				continue
			}
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(hash, "%q%q", name, texts[name])
	}
	m.mu.Lock()
	for name, problem := range problems {
		if m.problems[name] != problem {
			m.log.Error("rule groups cannot be used", "file", name, "err", problem)
		}
	}
	m.problems = problems
	same := [sha256.Size]byte(hash.Sum(nil)) == m.seen
	m.seen = [sha256.Size]byte(hash.Sum(nil))
	m.mu.Unlock()
	if same {
		return
	}
	m.loader.set(texts)
	if err := m.manager.Update(defaultInterval, names, labels.EmptyLabels(), m.opts.ExternalURL, nil); err != nil {
		m.log.Error("change rule groups", "err", err)
		return
	}
	m.log.Info("rule groups loaded", "files", len(names))
}

func readFile(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(b) > maxFile {
		err = fmt.Errorf("over %d bytes", maxFile)
	}
	return string(b), err
}

// send hands alerts on. What cannot be handed on comes again with the next
// resend.
func (m *Manager) send(ctx context.Context, expr string, alerts ...*rules.Alert) {
	if len(alerts) == 0 {
		return
	}
	link := strings.TrimRight(m.opts.ExternalURL, "/") + "/explore?q=" + url.QueryEscape(expr)
	out, others, now := make([]incident.External, 0, len(alerts)), make([]*notifier.Alert, 0, len(alerts)), m.opts.Now()
	for _, a := range alerts {
		ends := a.ValidUntil
		if !a.ResolvedAt.IsZero() {
			ends = a.ResolvedAt
		}
		out = append(out, incident.External{Labels: a.Labels.Map(), Annotations: a.Annotations.Map(), StartsAt: a.FiredAt, EndsAt: ends, UpdatedAt: now, GeneratorURL: link, Expr: expr})
		others = append(others, &notifier.Alert{Labels: a.Labels, Annotations: a.Annotations, StartsAt: a.FiredAt, EndsAt: ends, GeneratorURL: link})
	}
	if err := m.opts.Receiver.Received(ctx, out); err != nil && ctx.Err() == nil {
		m.log.Error("hand on alerts of rules", "alerts", len(out), "err", err)
	}
	if m.notify != nil {
		m.notify.Send(others...)
	}
}

// loader gives Prometheus the groups by the name of what they are from.
type loader struct {
	parser parser.Parser
	log    *slog.Logger
	mu     sync.Mutex
	texts  map[string]string
}

func (l *loader) get(name string) (string, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	text, ok := l.texts[name]
	return text, ok
}

func (l *loader) set(texts map[string]string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.texts = texts
}

// Load is asked by Prometheus' manager.
func (l *loader) Load(name string, ignoreUnknown bool, scheme model.ValidationScheme) (*rulefmt.RuleGroups, []error) {
	text, ok := l.get(name)
	if !ok {
		return nil, []error{fmt.Errorf("%s: %w", name, fault.ErrNotFound)}
	}
	return rulefmt.Parse([]byte(text), ignoreUnknown, scheme, l.parser, l.log)
}

// Parse is asked by Prometheus' manager.
func (l *loader) Parse(query string) (parser.Expr, error) { return l.parser.ParseExpr(query) }
