package incident

import (
	"context"
	"encoding/json"
	"fmt"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/alerting/evaluate"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var t0 = time.Date(2026, 11, 23, 9, 5, 31, 120e6, time.UTC)

func sample(id string) *Alert {
	v := 98.7
	return &Alert{
		ID: id, Key: id, Firing: true, Severity: catalogue.Warning, StartedAt: t0,
		Data: Data{
			Policy: PolicyRef{ID: "pol_1", Name: "cart-cpu", Project: "default", Revision: 3}, Labels: map[string]string{"team": "shop"},
			Object:     Object{Level: catalogue.Pod, Cluster: "prod-1", Namespace: "shop", WorkloadType: "deployment", Workload: "cart", Pod: "cart-7c9f", Node: "n-12"},
			Targets:    []policy.TargetRef{{Name: "oncall"}},
			Group:      Grouping{Interval: 5 * time.Minute},
			Title:      "CPU of limit above 95 %",
			Conditions: []Condition{{Metric: "k8s_pod_rate_cpu_core_used_limit", Statistic: "avg", Period: "1m", Op: ">", Threshold: 95, Need: 5, Of: 5, Value: &v, Unit: "%", Holds: true}},
			Series:     []Point{{T: t0.Truncate(time.Second), V: 98.9}},
		},
	}
}

// The shape is a contract: it is compared to the byte.
func TestMessageShape(t *testing.T) {
	a := sample("alt_1")
	a.Explanation = "avg over 1m was 98.7 % in the last period; critical above 95 %"
	previous := "warning"
	m := Message{
		Version: Version, ID: "ntf_1", Type: Severity, Timestamp: Time(t0), Sequence: 2, Alerts: []MessageAlert{a.View(Links{"https://c.example"})},
		Incident: MessageIncident{
			ID: "inc_1", URL: Links{"https://c.example"}.Incident("inc_1"), Title: a.title(), State: "open", Severity: "critical", PreviousSeverity: &previous,
			Cluster: MessageCluster{"prod-1", "Production 1"}, StartedAt: Time(t0), Labels: a.Labels,
		},
	}
	got, err := m.Encode(0)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":"crowsnest/v1","id":"ntf_1","type":"incident.severity","timestamp":"2026-11-23T09:05:31.120Z","sequence":2,` +
		`"incident":{"id":"inc_1","url":"https://c.example/incidents/inc_1","title":"cart in shop: CPU of limit above 95 %","state":"open","severity":"critical","previous_severity":"warning",` +
		`"cluster":{"id":"prod-1","name":"Production 1"},"started_at":"2026-11-23T09:05:31.120Z","ended_at":null,"cause":null,"acknowledged_by":null,"reopened":0,"labels":{"team":"shop"}},` +
		`"alerts":[{"id":"alt_1","state":"firing","severity":"warning","started_at":"2026-11-23T09:05:31.120Z","ended_at":null,"cause":null,"stale":false,` +
		`"policy":{"name":"cart-cpu","project":"default","revision":3,"url":"https://c.example/policies/cart-cpu"},` +
		`"object":{"level":"pod","cluster":"prod-1","namespace":"shop","workload_type":"deployment","workload":"cart","pod":"cart-7c9f","node":"n-12"},"dimensions":{},` +
		`"conditions":[{"metric":"k8s_pod_rate_cpu_core_used_limit","statistic":"avg","period":"1m","op":">","threshold":95,"need":5,"of":5,"value":98.7,"unit":"%","holds":true}],` +
		`"explanation":"avg over 1m was 98.7 % in the last period; critical above 95 %","annotations":{},` +
		`"evidence":{"series":[["2026-11-23T09:05:31Z",98.9]],"logs":[],"events":[],"rollout":null}}],"truncated":{"alerts":0,"logs":0,"events":0}}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	var back Message
	if err := json.Unmarshal(got, &back); err != nil {
		t.Errorf("it cannot be read back: %v", err)
	}
}

func TestMessagesAreCutInOrder(t *testing.T) {
	m := Message{Version: Version, ID: "ntf_1", Type: Firing, Incident: MessageIncident{ID: "inc_1", Title: "t"}, Alerts: []MessageAlert{}}
	for i := range 200 {
		a := sample(fmt.Sprintf("alt_%03d", i))
		a.StartedAt = t0.Add(time.Duration(i) * time.Second)
		a.Severity = catalogue.Severities[i%3]
		a.Series = nil
		for j := range 60 {
			a.Series = append(a.Series, Point{t0.Add(time.Duration(j) * time.Second), float64(j)})
		}
		m.Alerts = append(m.Alerts, a.View(Links{}))
	}
	last := 201
	for _, limit := range []int{10 << 20, 400 << 10, 64 << 10, 8 << 10, 600, 10} {
		body, err := m.Encode(limit)
		if err != nil {
			t.Fatal(err)
		}
		var got Message
		if err := json.Unmarshal(body, &got); err != nil {
			t.Fatal(err)
		}
		if len(body) > limit && len(got.Alerts) > 0 {
			t.Errorf("limit %d: %d bytes", limit, len(body))
		}
		if got.Incident.ID != "inc_1" || got.Truncated.Alerts+len(got.Alerts) != 200 || len(got.Alerts) > last {
			t.Errorf("limit %d: %d alerts, %d cut", limit, len(got.Alerts), got.Truncated.Alerts)
		}
		if last = len(got.Alerts); last > 0 && last < 200 {
			if got.Alerts[0].Severity != "critical" || len(got.Alerts[0].Evidence.Series) != 0 {
				t.Errorf("limit %d: the first is %+v", limit, got.Alerts[0])
			}
			if newest := time.Time(got.Alerts[0].StartedAt); newest.Before(t0.Add(190 * time.Second)) {
				t.Errorf("limit %d: an old one is kept before a new one", limit)
			}
		}
	}
	if len(m.Alerts) != 200 || len(m.Alerts[0].Evidence.Series) != 60 {
		t.Error("encoding changed the message")
	}
}

func TestGroups(t *testing.T) {
	pod, node, cluster := sample("a"), sample("b"), sample("c")
	node.Object = Object{Level: catalogue.Node, Cluster: "prod-1", Node: "n-12"}
	cluster.Object = Object{Level: catalogue.Cluster, Cluster: "prod-1"}
	f := func(a *Alert, by []string, key, subject string) {
		t.Helper()
		a.Group.By = by
		if got := a.GroupKey(); got != key {
			t.Errorf("key %q, want %q", got, key)
		}
		if got := a.subject(); got != subject {
			t.Errorf("subject %q, want %q", got, subject)
		}
	}
	f(pod, nil, "cluster=prod-1,workload=shop/deployment/cart", "cart in shop")
	f(node, nil, "cluster=prod-1,node=n-12", "node n-12")
	f(cluster, nil, "cluster=prod-1", "cluster prod-1")
	f(pod, []string{"workload", "cluster", "cluster"}, "cluster=prod-1,workload=shop/deployment/cart", "cart in shop")
	f(pod, []string{"cluster", "pod"}, "cluster=prod-1,pod=shop/cart-7c9f", "cart-7c9f in shop")
	f(pod, []string{"policy"}, "policy=default/cart-cpu", "cart-cpu")
	f(pod, []string{"cluster", "namespace"}, "cluster=prod-1,namespace=shop", "namespace shop")
}

// play applies changes to a book and gives what each target was told, in order.
type play struct {
	t    *testing.T
	db   *meta.DB
	book *Book
	seen int64
}

func newPlay(t *testing.T) *play {
	t.Helper()
	db, err := meta.Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	return &play{t: t, db: db, book: &Book{
		Targets:     func() []Target { return []Target{{ID: "tgt_1", Name: "oncall"}, {ID: "tgt_2", Name: "chat"}} },
		ClusterName: func(id string) string { return id },
	}}
}

// at applies alerts at a minute and gives "target type severity alerts" of each
// new notification.
func (p *play) at(minute int, alerts ...*Alert) string {
	p.t.Helper()
	now := t0.Add(time.Duration(minute) * time.Minute)
	var out []string
	err := p.db.Update(context.Background(), func(tx *meta.Tx) error {
		if _, err := p.book.Apply(tx, now, alerts); err != nil {
			return err
		}
		if _, err := p.book.Flush(tx, now); err != nil {
			return err
		}
		ns, err := tx.Notifications(meta.NotificationFilter{})
		for i := len(ns) - 1; i >= 0; i-- {
			n := ns[i]
			if n.Position <= p.seen {
				continue
			}
			p.seen = n.Position
			var m Message
			if err := json.Unmarshal(n.Body, &m); err != nil {
				return err
			}
			out = append(out, fmt.Sprintf("%s:%s:%s:%d", map[string]string{"tgt_1": "oncall", "tgt_2": "chat"}[n.TargetID], strings.TrimPrefix(n.Type, "incident."), m.Incident.Severity, len(m.Alerts)))
		}
		return err
	})
	if err != nil {
		p.t.Fatal(err)
	}
	return strings.Join(out, " ")
}

func (p *play) want(got, want string) {
	p.t.Helper()
	if got != want {
		p.t.Errorf("told %q, want %q", got, want)
	}
}

func end(a *Alert, minute int) *Alert {
	b := *a
	b.Firing, b.EndedAt, b.Cause = false, t0.Add(time.Duration(minute)*time.Minute), evaluate.ValueNormal
	return &b
}

func severity(a *Alert, s catalogue.Severity) *Alert {
	b := *a
	b.Severity = s
	return &b
}

func TestThreads(t *testing.T) {
	p := newPlay(t)
	a, b := sample("alt_1"), sample("alt_2")
	a.Targets = []policy.TargetRef{{Name: "oncall", Severities: []string{"critical"}}, {Name: "chat"}}
	p.want(p.at(0, a), "chat:firing:warning:1")
	a = severity(a, catalogue.Critical)
	p.want(p.at(1, a), "oncall:firing:critical:1 chat:severity:critical:1")
	p.want(p.at(2, a), "") // nothing new
	a = severity(a, catalogue.Warning)
	// Who was told of the beginning follows it, below what it asked for too.
	p.want(p.at(3, a), "oncall:severity:warning:1 chat:severity:warning:1")
	b.Targets = []policy.TargetRef{{Name: "chat"}}
	p.want(p.at(4, b), "") // it joins; updates come five minutes apart
	p.want(p.at(7), "")
	p.want(p.at(8), "chat:updated:warning:2")
	p.want(p.at(20, end(b, 20)), "chat:updated:warning:2")
	p.want(p.at(21, end(a, 21)), "oncall:resolved:warning:1 chat:resolved:warning:2")
	p.want(p.at(22), "")
	// Again within 15 min: the same incident, a new episode.
	c := sample("alt_3")
	c.StartedAt, c.Targets = t0.Add(30*time.Minute), []policy.TargetRef{{Name: "chat"}}
	p.want(p.at(30, c), "chat:firing:warning:1")
	if c.IncidentID != b.IncidentID {
		t.Error("it is another incident")
	}
	p.want(p.at(31, end(c, 31)), "chat:resolved:warning:1")
	// Later: another one.
	d := sample("alt_4")
	d.StartedAt = t0.Add(60 * time.Minute)
	p.want(p.at(60, d), "oncall:firing:warning:1")
	if d.IncidentID == c.IncidentID {
		t.Error("an incident of an hour ago was opened again")
	}
}

func TestWhatEndsWithinTheWaitIsNotTold(t *testing.T) {
	p := newPlay(t)
	a := sample("alt_1")
	a.Group.Wait = 5 * time.Minute
	p.want(p.at(0, a), "")
	p.want(p.at(3, end(a, 3)), "")
	p.want(p.at(10), "")
	b := sample("alt_2")
	b.Group.Wait, b.StartedAt = 5*time.Minute, t0.Add(12*time.Minute)
	p.want(p.at(12, b), "") // the wait begins anew
	p.want(p.at(16), "")
	p.want(p.at(17), "oncall:firing:warning:1")
}

func TestWaitingUpdatesCollapse(t *testing.T) {
	p := newPlay(t)
	alerts := []*Alert{sample("alt_0"), sample("alt_1"), sample("alt_2")}
	for _, a := range alerts {
		a.Group.Interval = time.Second
	}
	for i, a := range alerts {
		p.at(i, a)
	}
	p.at(5, end(alerts[0], 5))
	err := p.db.View(context.Background(), func(tx *meta.Tx) error {
		ns, err := tx.Notifications(meta.NotificationFilter{State: meta.NotificationPending})
		if len(ns) != 2 || ns[1].Type != string(Firing) || ns[0].Type != string(Updated) || ns[0].Sequence != 4 {
			t.Errorf("%d wait: %+v", len(ns), ns)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestAlertRowsKeepEverything(t *testing.T) {
	a := sample("alt_1")
	a.IncidentID, a.State = "inc_1", evaluate.State{Latches: [3]evaluate.Latch{1: {Closed: true, Since: t0}}, Newest: t0, At: t0}
	row, err := a.Row()
	if err != nil {
		t.Fatal(err)
	}
	back, err := FromRow(row)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(back.State, a.State) {
		t.Errorf("got %+v, want %+v", back.State, a.State)
	}
	if fmt.Sprintf("%+v", back.Series) != fmt.Sprintf("%+v", a.Series) || back.Object != a.Object || !back.Firing {
		t.Errorf("got %+v", back)
	}
}

// A timeline tells the alerts of an incident apart.
func TestTimelineNamesWhatIsBad(t *testing.T) {
	for want, a := range map[string]*Alert{
		"p: cart-1: CPU above 80 % (warning)":                         {Severity: "warning", Data: Data{Policy: PolicyRef{Name: "p"}, Title: "CPU above 80 %", Object: Object{Namespace: "shop", Workload: "cart", Pod: "cart-1"}}},
		"p: cart-1/app: CPU above 80 % (warning)":                     {Severity: "warning", Data: Data{Policy: PolicyRef{Name: "p"}, Title: "CPU above 80 %", Object: Object{Namespace: "shop", Pod: "cart-1", Container: "app"}}},
		"p: mountpoint /var: full (critical)":                         {Severity: "critical", Data: Data{Policy: PolicyRef{Name: "p"}, Title: "full", Object: Object{Node: "n-1"}, Dimensions: map[string]string{"mountpoint": "/var"}}},
		"p: node n-1: down (critical): " + CauseWords("value_normal"): {Severity: "critical", Data: Data{Policy: PolicyRef{Name: "p"}, Title: "down", Object: Object{Node: "n-1"}}, Cause: "value_normal"},
	} {
		if got := a.line(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
