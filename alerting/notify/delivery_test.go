package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

var t0 = time.Date(2026, 11, 23, 9, 5, 31, 120e6, time.UTC)

// sample is a message as the book writes them.
func sample(typ incident.Type) incident.Message {
	value := 98.7
	cause := "value_normal"
	m := incident.Message{
		Version: incident.Version, ID: "ntf_01KAXW8Q3Z5V9T2R4M6N8P0QRS", Type: typ, Timestamp: incident.Time(t0), Sequence: 1,
		Incident: incident.MessageIncident{
			ID: "inc_01KAXW8Q3Z5V9T2R4M6N8P0QRT", URL: "https://nest.example/incidents/inc_1", Title: `cart in shop: CPU above 95 % of its "limit"`, State: "open", Severity: "critical",
			Cluster: incident.MessageCluster{ID: "prod-1", Name: "Production 1"}, StartedAt: incident.Time(t0.Add(-time.Minute)), Labels: map[string]string{"team": "shop"},
		},
		Alerts: []incident.MessageAlert{{
			ID: "alt_01KAXW8Q3Z5V9T2R4M6N8P0QRV", State: "firing", Severity: "critical", StartedAt: incident.Time(t0.Add(-time.Minute)),
			Policy:     incident.MessagePolicy{Name: "cart-cpu", Project: "default", Revision: 3, URL: "https://nest.example/policies/cart-cpu"},
			Object:     incident.Object{Level: catalogue.Pod, Cluster: "prod-1", Namespace: "shop", WorkloadType: "deployment", Workload: "cart", Pod: "cart-7c9f", Node: "n-12"},
			Dimensions: map[string]string{}, Explanation: "avg over 1m was 98.7 %; critical above 95 %",
			Conditions:  []incident.Condition{{Metric: "k8s_pod_rate_cpu_core_used_limit", Statistic: "avg", Period: "1m", Op: ">", Threshold: 95, Need: 5, Of: 5, Value: &value, Unit: "%", Holds: true}},
			Annotations: map[string]string{"summary": "cart is {{ slow }}", "runbook_url": "https://wiki.example/cart"},
		}},
	}
	// The series and what else evidence has is in what was encoded before.
	raw, _ := json.Marshal(m)
	_ = json.Unmarshal(bytes.Replace(raw, []byte(`"evidence":{"series":null`), []byte(`"evidence":{"series":[["2026-11-23T09:04:30Z",98.9]]`), 1), &m)
	if typ == incident.Resolved {
		m.Incident.State, m.Incident.Cause, m.Incident.EndedAt = "resolved", &cause, (*incident.Time)(&t0)
		m.Alerts[0].State, m.Alerts[0].Cause, m.Alerts[0].EndedAt = "ended", &cause, (*incident.Time)(&t0)
	}
	return m
}

func bodyOf(t testing.TB, m incident.Message) []byte {
	t.Helper()
	raw, err := m.Encode(0)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func noteOf(t testing.TB, m incident.Message) note {
	return note{id: m.ID, typ: string(m.Type), body: bodyOf(t, m)}
}

// The published schema is what is sent, and the copy under docs is the same.
func TestWhatIsSentFitsTheSchema(t *testing.T) {
	published, err := os.ReadFile("../../docs/schemas/notification.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(published, Schema()) {
		t.Error("docs/schemas/notification.v1.schema.json differs from alerting/notify's; copy it")
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("v1.json", document); err != nil {
		t.Fatal(err)
	}
	compiled, err := c.Compile("v1.json")
	if err != nil {
		t.Fatal(err)
	}
	check := func(raw []byte) error {
		v, err := jsonschema.UnmarshalJSON(bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		return compiled.Validate(v)
	}
	firing := sample(incident.Firing)
	firing.Alerts[0].Evidence = (&incident.Alert{}).View(incident.Links{}).Evidence
	resolved := sample(incident.Resolved)
	resolved.Alerts[0].Evidence = firing.Alerts[0].Evidence
	for name, m := range map[string]incident.Message{
		"firing": firing, "resolved": resolved, "test": incident.TestMessage(firing.ID, t0, incident.Links{Base: "https://nest.example"}, "a"),
	} {
		if err := check(bodyOf(t, m)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := check(bytes.Replace(bodyOf(t, firing), []byte(`"critical"`), []byte(`"fatal"`), 1)); err == nil {
		t.Error("a severity that there is not fits")
	}
}

func TestFormats(t *testing.T) {
	for name, tc := range map[string]struct {
		format string
		typ    incident.Type
	}{
		"alertmanager-firing":   {FormatAlertmanager, incident.Firing},
		"alertmanager-resolved": {FormatAlertmanager, incident.Resolved},
		"tencent-firing":        {FormatTencent, incident.Firing},
		"tencent-resolved":      {FormatTencent, incident.Resolved},
	} {
		body, contentType, fault := noteOf(t, sample(tc.typ)).render(&TargetSpec{Type: TypeWebhook, Format: tc.format, MaxBytes: defaultMaxLen, Timezone: "Asia/Shanghai"})
		if contentType != contentJSON || fault != "" {
			t.Fatalf("%s: %s, %s", name, contentType, fault)
		}
		var pretty bytes.Buffer
		if err := json.Indent(&pretty, body, "", "  "); err != nil {
			t.Fatal(err)
		}
		golden(t, name+".golden.json", pretty.Bytes())
	}
	title, text := words(sample(incident.Resolved), time.UTC)
	golden(t, "words.golden.txt", []byte(title+"\n"+text+"\n"))
}

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s: got\n%s\nwant\n%s\n(UPDATE_GOLDEN=1 rewrites it)", path, got, want)
	}
}

func TestTemplates(t *testing.T) {
	message := bodyOf(t, sample(incident.Firing))
	for name, tc := range map[string]struct {
		body, contentType string
		want              string // of the body
		fault             string // part of it
	}{
		"a value is escaped":  {body: `{"t": "{{ .incident.title }}"}`, want: `{"t": "cart in shop: CPU above 95 % of its \"limit\""}`},
		"a whole value":       {body: `{"l": {{ json .incident.labels }}, "n": {{ .sequence }}}`, want: `{"l": {"team":"shop"}, "n": 1}`},
		"a list":              {body: `[{{ range $i, $a := .alerts }}{{ if $i }},{{ end }}"{{ $a.object.pod | upper }}"{{ end }}]`, want: `["CART-7C9F"]`},
		"text is not escaped": {body: `{{ .incident.title }}`, contentType: "text/plain", want: `cart in shop: CPU above 95 % of its "limit"`},
		"nothing there":       {body: `{"t": "{{ .incident.nothing }}"}`, want: `{"t": ""}`},
		"loops":               {body: `{{ range 2000000000 }}{{ end }}{}`, fault: "loops or recurses"},
		"loops in loops":      {body: `{{ range 1000 }}{{ range 1000 }}{{ range 1000 }}{{ end }}{{ end }}{{ end }}{}`, fault: "loops or recurses"},
		"recurses":            {body: `{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`, fault: "loops or recurses"},
		"grows":               {body: `{{ $x := "aaaaaaaaaaaaaaaa" }}{{ range 100 }}{{ $x = print $x $x }}{{ end }}{"a":"{{ $x }}"}`, fault: "over 16384 bytes"},
		"writes too much":     {body: `{{ range 19000 }}aaaaaaaaaaaaaaaaaaaaaaaaa{{ end }}`, contentType: "text/plain", fault: "more than maxBytes"},
		"fails":               {body: `{"a": "{{ index .alerts 7 }}"}`, fault: "index"},
		"wide printf":         {body: `{{ printf "%999999d" 1 }}`, fault: "width"},
		"writes an object":    {body: `{"a": "{{ .incident }}"}`, fault: "use {{ json"},
		"no JSON":             {body: `{"a": }`, fault: "no JSON"},
	} {
		t.Run(name, func(t *testing.T) {
			spec := &TargetSpec{Type: TypeWebhook, Format: FormatTemplate, MaxBytes: defaultMaxLen, Template: &BodyTemplate{Body: tc.body, ContentType: firstOf(tc.contentType, contentJSON)}}
			got, contentType, fault := note{id: "ntf_1", body: message}.render(spec)
			if tc.fault == "" {
				if string(got) != tc.want || fault != "" {
					t.Errorf("got %s, fault %q", got, fault)
				}
				return
			}
			if !strings.Contains(fault, tc.fault) {
				t.Errorf("fault %q, want %q", fault, tc.fault)
			}
			if !bytes.Contains(got, []byte("[CRITICAL] cart in shop")) || (contentType == contentJSON && !json.Valid(got)) {
				t.Errorf("instead of it %s was sent", got)
			}
		})
	}
	for name, body := range map[string]string{"unclosed": `{{ range .alerts }}`, "unknown function": `{{ env "HOME" }}`, "too long": strings.Repeat("a", maxBodyTemplate+1)} {
		if _, err := parseBody(&BodyTemplate{Body: body, ContentType: contentJSON}); err == nil {
			t.Errorf("%s: taken", name)
		}
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add(`{"t": "{{ .incident.title }}"}`, true)
	f.Add(`{{ range $i, $a := .alerts }}{{ with $a }}{{ .id }}{{ end }}{{ end }}`, false)
	f.Add(`{{ define "a" }}{{ template "a" . }}{{ end }}{{ template "a" . }}`, true)
	message := []byte(`{"incident":{"title":"a \" b","labels":{"x":"y"}},"alerts":[{"id":"1"},{"id":"2"}]}`)
	f.Fuzz(func(t *testing.T, text string, asJSON bool) {
		b := &BodyTemplate{Body: text, ContentType: "text/plain"}
		if asJSON {
			b.ContentType = contentJSON
		}
		parsed, err := parseBody(b)
		if err != nil {
			return
		}
		began := time.Now()
		out, err := parsed.execute(message, 4<<10)
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("took %v", took)
		}
		if err == nil && (len(out) > 4<<10 || (asJSON && !json.Valid(out))) {
			t.Errorf("got %q", out)
		}
	})
}

// A rotation: whoever knows the old key or the new one accepts; after it, only
// the new one. A retry after ten minutes is accepted by a verifier of then.
func TestRotation(t *testing.T) {
	type got struct {
		body   []byte
		header http.Header
	}
	var last got
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		var b bytes.Buffer
		_, _ = b.ReadFrom(r.Body)
		last = got{b.Bytes(), r.Header.Clone()}
	}))
	defer srv.Close()
	c := newClient(&Guard{Allowed: loopback}, 5*time.Second)
	defer c.close()
	now := time.Now()
	before := hook(srv.URL)
	after := before.Rotate(now, time.Hour)
	old, err := standardwebhooks.NewWebhook(before.Secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	fresh, err := standardwebhooks.NewWebhook(after.Secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	n := noteOf(t, sample(incident.Firing))
	send := func(to Sealed, at time.Time) {
		t.Helper()
		if a := c.send(context.Background(), to, n, at); a.outcome != delivered {
			t.Fatalf("got %+v", a)
		}
	}
	send(after, now)
	if err := old.Verify(last.body, last.header); err != nil {
		t.Errorf("who knows the old key: %v", err)
	}
	if err := fresh.Verify(last.body, last.header); err != nil {
		t.Errorf("who knows the new key: %v", err)
	}
	first := last
	send(after, now.Add(10*time.Minute))
	if !bytes.Equal(first.body, last.body) || last.header.Get(headerID) != first.header.Get(headerID) || last.header.Get(headerSignature) == first.header.Get(headerSignature) {
		t.Error("a retry has another body or id, or the same signature")
	}
	if err := fresh.VerifyIgnoringTimestamp(last.body, last.header); err != nil {
		t.Errorf("the retry: %v", err)
	}
	send(after, now.Add(2*time.Hour))
	if err := old.VerifyIgnoringTimestamp(last.body, last.header); err == nil {
		t.Error("the old key still signs after its time")
	}
	if strings.Contains(fmt.Sprintf("%+v", after), after.Previous.Reveal()) {
		t.Error("the old key prints")
	}
}

func TestWhatIsKeptOfAnAttempt(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "you sent %s to %s?%s; %s", r.Header.Get("Authorization"), r.URL.Path, r.URL.RawQuery, strings.Repeat("long ", 1000))
	}))
	defer srv.Close()
	b := newBox(t, srv.URL)
	spec := *hook(srv.URL + "/services/T000/B000/secretpath?token=secrettoken").Spec
	spec.Headers = map[string]Secret{"Authorization": "Bearer secretbearer"}
	b.target("tgt_1", "hook", spec)
	b.put("a", "inc_1", "incident.firing")
	b.until("a", attempts(1))
	var kept []meta.Attempt
	if err := b.db.View(context.Background(), func(tx *meta.Tx) (err error) { kept, err = tx.Attempts("a"); return err }); err != nil || len(kept) != 1 {
		t.Fatalf("%v, %v", kept, err)
	}
	a := kept[0]
	if a.Status != http.StatusTeapot || len(a.Response) > keepAnswer || len(a.Response) < 500 || !strings.Contains(a.Request, "POST http://127.0.0.1") || !strings.Contains(a.Request, "webhook-id: a") {
		t.Errorf("kept %+v", a)
	}
	all := fmt.Sprintf("%+v %+v %s", a, b.get("a"), b.logs)
	for _, secret := range []string{"secretpath", "secrettoken", "secretbearer"} {
		if strings.Contains(all, secret) {
			t.Errorf("%s is kept: %s", secret, all)
		}
	}
}

// switched answers as it is told to.
type switched struct {
	mu   sync.Mutex
	code int
	got  []string
}

func (s *switched) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.got = append(s.got, r.Header.Get(headerID))
	w.WriteHeader(s.code)
}

func (s *switched) say(code int) {
	s.mu.Lock()
	s.code = code
	s.mu.Unlock()
}

func (s *switched) ids() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.got...)
}

func TestCircuit(t *testing.T) {
	s := &switched{code: 500}
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := newBox(t, srv.URL)
	for i := range 30 {
		b.put(fmt.Sprintf("n%02d", i), fmt.Sprintf("inc_%02d", i), "incident.firing")
	}
	b.await("the circuit to open", func() bool {
		c, ok := b.outbox.Circuit("tgt_1")
		return ok && c.State == "open" && len(s.ids()) >= openAfter
	})
	asked := len(s.ids())
	if asked > openAfter+perTarget {
		t.Errorf("a dead target was asked %d times at once", asked)
	}
	// A test does not wait for the circuit.
	b.put("t", "test_1", typeTest)
	b.until("t", attempts(1))
	s.say(200)
	b.pass(maxPause)
	b.await("all to arrive", func() bool {
		b.pass(time.Minute)
		for i := range 30 {
			if b.get(fmt.Sprintf("n%02d", i)).State != meta.NotificationDelivered {
				return false
			}
		}
		return true
	})
	if _, ok := b.outbox.Circuit("tgt_1"); ok {
		t.Error("the circuit is still open")
	}
}

func (b *box) await(what string, ok func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(60 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("waited in vain for %s", what)
		}
	}
}

func (b *box) all(target string) []meta.Notification {
	b.t.Helper()
	var out []meta.Notification
	if err := b.db.View(context.Background(), func(tx *meta.Tx) (err error) {
		out, err = tx.Notifications(meta.NotificationFilter{TargetID: target})
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
	return out
}

func TestFallback(t *testing.T) {
	main, other := &switched{code: 500}, &switched{code: 200}
	mainSrv, otherSrv := httptest.NewServer(main), httptest.NewServer(other)
	defer mainSrv.Close()
	defer otherSrv.Close()
	b := newBox(t, mainSrv.URL)
	spec := *hook(mainSrv.URL).Spec
	spec.Fallback = "other"
	b.target("tgt_1", "hook", spec)
	b.target("tgt_2", "other", *hook(otherSrv.URL).Spec)
	b.put("a1", "inc_a", "incident.firing")
	for i := range fallbackAfter {
		b.until("a1", attempts(i+1))
		if got := b.all("tgt_2"); i+1 < fallbackAfter && len(got) != 0 {
			t.Fatalf("told after %d failures: %+v", i+1, got)
		}
		b.pass(time.Minute)
	}
	b.await("the copy", func() bool { all := b.all("tgt_2"); return len(all) == 1 && all[0].State == meta.NotificationDelivered })
	copied := b.all("tgt_2")[0]
	if copied.CopyOf != "a1" || copied.ID == "a1" || copied.Type != "incident.firing" {
		t.Errorf("the copy is %+v", copied)
	}
	// The target works again and gets both; the end also goes to who was told in
	// its place. The attempt of the last minute has failed by then: it would go by the
	// later clock and be due behind it.
	b.until("a1", attempts(fallbackAfter+1))
	main.say(200)
	b.pass(10 * time.Minute)
	b.until("a1", state(meta.NotificationDelivered))
	b.put("a2", "inc_a", typeResolved)
	b.until("a2", state(meta.NotificationDelivered))
	b.await("the resolve", func() bool { all := b.all("tgt_2"); return len(all) == 2 && all[0].State == meta.NotificationDelivered })
	if got := b.all("tgt_2")[0]; got.Type != typeResolved || got.CopyOf != "a2" {
		t.Errorf("got %+v", got)
	}
	// What is refused for good is told elsewhere at once; who has a thread of its
	// own is not told twice.
	main.say(400)
	b.putTo("tgt_2", "own", "inc_b", "incident.firing")
	b.until("own", state(meta.NotificationDelivered))
	b.put("b1", "inc_b", "incident.firing")
	b.put("c1", "inc_c", "incident.firing")
	b.until("b1", state(meta.NotificationDead))
	b.until("c1", state(meta.NotificationDead))
	b.await("the copy of c1", func() bool { return len(b.all("tgt_2")) == 4 })
	if got := b.all("tgt_2")[0]; got.CopyOf != "c1" {
		t.Errorf("got %+v", got)
	}
}

func TestCalendarOfATarget(t *testing.T) {
	day, night := &switched{code: 200}, &switched{code: 200}
	daySrv, nightSrv := httptest.NewServer(day), httptest.NewServer(night)
	defer daySrv.Close()
	defer nightSrv.Close()
	b := newBox(t, daySrv.URL)
	b.pass(11 * time.Hour) // 20:00 UTC, a Monday
	spec := *hook(daySrv.URL).Spec
	spec.Calendar = &Calendar{Timezone: "UTC", Within: []Within{{From: "08:00", To: "18:00"}}}
	b.target("tgt_1", "hook", spec)
	b.target("tgt_2", "night", *hook(nightSrv.URL).Spec)
	b.put("a1", "inc_a", "incident.firing")
	b.put("u1", "inc_a", "incident.updated")
	b.put("u2", "inc_a", "incident.updated")
	b.putTo("tgt_2", "n1", "inc_n", "incident.firing")
	b.until("n1", state(meta.NotificationDelivered))
	if n := b.get("u1"); n.State != meta.NotificationSuperseded {
		t.Errorf("updates that wait do not collapse: %+v", n)
	}
	if n := b.get("a1"); n.Attempts != 0 {
		t.Errorf("it was sent outside the calendar: %+v", n)
	}
	b.pass(12 * time.Hour)
	b.until("u2", state(meta.NotificationDelivered))
	if got := strings.Join(day.ids(), " "); got != "a1 u2" {
		t.Errorf("got %s", got)
	}
	// With somebody for the night, it goes there, and so does the end.
	spec.Calendar.Outside = "night"
	b.pass(12 * time.Hour)
	b.target("tgt_1", "hook", spec)
	b.put("b1", "inc_b", "incident.firing")
	b.until("b1", state(meta.NotificationSkipped))
	b.await("the night to be told", func() bool { all := b.all("tgt_2"); return len(all) == 2 && all[0].State == meta.NotificationDelivered })
	b.pass(12 * time.Hour)
	b.put("b2", "inc_b", typeResolved)
	b.until("b2", state(meta.NotificationSkipped))
	b.await("the night to hear the end", func() bool {
		all := b.all("tgt_2")
		return len(all) == 3 && all[0].Type == typeResolved && all[0].State == meta.NotificationDelivered
	})
	// What began by day ends at any time.
	b.put("c1", "inc_c", "incident.firing")
	b.until("c1", state(meta.NotificationDelivered))
	b.pass(12 * time.Hour)
	b.put("c2", "inc_c", typeResolved)
	b.until("c2", state(meta.NotificationDelivered))
}

// A test that failed is tried again when its time has come, not when the target
// is looked at anyway.
func TestATestIsTriedAgainInTime(t *testing.T) {
	b := newBox(t, "http://127.0.0.1:1/")
	b.stop()
	n := meta.Notification{ID: "t", IncidentID: "test_t", TargetID: "tgt_1", Type: typeTest, Body: []byte("t"), CreatedAt: b.clock(), NextAt: b.clock().Add(2 * time.Second), GiveUpAt: b.clock().Add(24 * time.Hour)}
	if err := b.db.Update(context.Background(), func(tx *meta.Tx) error { return tx.Enqueue(n) }); err != nil {
		t.Fatal(err)
	}
	s := &scheduler{outbox: b.outbox, queues: map[string]*queue{}, begin: func(Sealed, meta.Notification) { t.Error("it is sent at once") }, all: true}
	if next, err := s.look(context.Background()); err != nil || next != 2*time.Second {
		t.Errorf("it is looked at again in %s, %v", next, err)
	}
}

func TestCalendarState(t *testing.T) {
	at := func(s string) time.Time {
		v, err := time.Parse(time.RFC3339, s)
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
	week := &Calendar{Timezone: "Europe/Berlin", Within: []Within{{Days: []string{"mon", "tue", "wed", "thu", "fri"}, From: "08:00", To: "18:00"}}}
	night := &Calendar{Timezone: "Europe/Berlin", Within: []Within{{Days: []string{"sat"}, From: "22:00", To: "06:00"}}}
	early := &Calendar{Timezone: "Europe/Berlin", Within: []Within{{From: "02:30", To: "04:00"}}}
	for name, tc := range map[string]struct {
		c     *Calendar
		at    string
		open  bool
		opens string
	}{
		"within":                        {week, "2026-11-23T09:00:00Z", true, ""},
		"its first minute":              {week, "2026-11-23T07:00:00Z", true, ""},
		"before":                        {week, "2026-11-23T06:59:00Z", false, "2026-11-23T07:00:00Z"},
		"its end":                       {week, "2026-11-23T17:00:00Z", false, "2026-11-24T07:00:00Z"},
		"over the weekend":              {week, "2026-11-27T20:00:00Z", false, "2026-11-30T07:00:00Z"},
		"summer time":                   {week, "2026-07-06T06:30:00Z", true, ""},
		"past midnight":                 {night, "2026-11-29T04:00:00Z", true, ""},
		"the night before":              {night, "2026-11-28T04:00:00Z", false, "2026-11-28T21:00:00Z"},
		"after spring's gap":            {early, "2026-03-29T01:10:00Z", true, ""},
		"autumn's first half past two":  {early, "2026-10-25T00:40:00Z", true, ""},
		"autumn's second half past two": {early, "2026-10-25T01:40:00Z", true, ""},
	} {
		open, opens := tc.c.State(at(tc.at))
		if open != tc.open || (tc.opens != "" && !opens.Equal(at(tc.opens))) {
			t.Errorf("%s: open %t, opens %s", name, open, opens)
		}
	}
	if open, _ := (*Calendar)(nil).State(t0); !open {
		t.Error("no calendar is closed")
	}
}

func TestRateLimit(t *testing.T) {
	s := &switched{code: 200}
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := newBox(t, srv.URL)
	spec := *hook(srv.URL).Spec
	spec.RateLimit = &RateLimit{Count: 3}
	if err := spec.RateLimit.Per.UnmarshalText([]byte("1m")); err != nil {
		t.Fatal(err)
	}
	b.target("tgt_1", "hook", spec)
	for i := range 5 {
		b.put(fmt.Sprintf("n%d", i), fmt.Sprintf("inc_%d", i), "incident.firing")
	}
	for i := range 3 { // in whatever order: they are of different incidents
		b.until(fmt.Sprintf("n%d", i), state(meta.NotificationDelivered))
	}
	if got := len(s.ids()); got != 3 {
		t.Errorf("%d went out", got)
	}
	b.pass(21 * time.Second) // one more is due every 20 s
	b.until("n3", state(meta.NotificationDelivered))
	if n := b.get("n4"); n.State != meta.NotificationPending {
		t.Errorf("got %+v", n)
	}
	b.pass(21 * time.Second)
	b.until("n4", state(meta.NotificationDelivered))
}

func TestSendAsNew(t *testing.T) {
	s := &switched{code: 200}
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := newBox(t, srv.URL)
	m := sample(incident.Firing)
	n := meta.Notification{ID: m.ID, IncidentID: "inc_1", TargetID: "tgt_1", Type: string(m.Type), Sequence: 1, Body: bodyOf(t, m), CreatedAt: b.clock(), NextAt: b.clock(), GiveUpAt: b.clock().Add(time.Hour)}
	if err := b.db.Update(context.Background(), func(tx *meta.Tx) error { return tx.Enqueue(n) }); err != nil {
		t.Fatal(err)
	}
	b.outbox.Wake()
	b.until(m.ID, state(meta.NotificationDelivered))
	var fresh meta.Notification
	for _, asNew := range []bool{false, true} {
		if err := b.db.Update(context.Background(), func(tx *meta.Tx) (err error) { fresh, err = b.outbox.Again(tx, m.ID, asNew, b.clock()); return err }); err != nil {
			t.Fatal(err)
		}
		b.outbox.Wake()
		b.until(fresh.ID, func(n meta.Notification) bool { return n.State == meta.NotificationDelivered && n.Attempts > 0 })
	}
	if fresh.ID == m.ID || !bytes.Contains(fresh.Body, []byte(`"id":"`+fresh.ID+`"`)) || bytes.Contains(fresh.Body, []byte(m.ID)) || !json.Valid(fresh.Body) {
		t.Errorf("as new it is %s", fresh.Body)
	}
	if got := s.ids(); len(got) != 3 || got[0] != got[1] || got[2] == got[0] {
		t.Errorf("sent %v", got)
	}
}

// One target that hangs takes nothing from another.
func TestADeadTargetSlowsNoOther(t *testing.T) {
	hang := make(chan struct{})
	dead := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer dead.Close()
	defer close(hang)
	s := &switched{code: 200}
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := newBox(t, dead.URL)
	b.target("tgt_2", "works", *hook(srv.URL).Spec)
	for i := range 200 {
		b.put(fmt.Sprintf("d%d", i), fmt.Sprintf("inc_%d", i), "incident.firing")
	}
	began := time.Now()
	for i := range 20 {
		b.putTo("tgt_2", fmt.Sprintf("w%d", i), fmt.Sprintf("inc_%d", i), "incident.firing")
	}
	b.until("w19", state(meta.NotificationDelivered))
	if took := time.Since(began); took > 30*time.Second { // 200 attempts of 5 s are before them
		t.Errorf("it took %v", took)
	}
}

// A template that fails when it is rendered keeps nobody from being told: a plain
// text arrives, and the delivery says what is wrong with the template.
func TestTheFaultOfATemplateIsShown(t *testing.T) {
	s := &script{answers: []int{200}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := newBox(t, srv.URL)
	spec := *hook(srv.URL).Spec
	spec.Format, spec.Template = FormatTemplate, &BodyTemplate{Body: `{"a": "{{ index .alerts 7 }}"}`, ContentType: contentJSON}
	b.target("tgt_1", "hook", spec)
	m := sample(incident.Firing)
	n := meta.Notification{ID: m.ID, IncidentID: "inc_1", TargetID: "tgt_1", Type: string(m.Type), Sequence: 1, Body: bodyOf(t, m), CreatedAt: b.clock(), NextAt: b.clock(), GiveUpAt: b.clock().Add(time.Hour)}
	if err := b.db.Update(context.Background(), func(tx *meta.Tx) error { return tx.Enqueue(n) }); err != nil {
		t.Fatal(err)
	}
	b.outbox.Wake()
	n = b.until(m.ID, state(meta.NotificationDelivered))
	if !strings.Contains(n.Error, "template: ") || !strings.Contains(n.Error, "index") || !strings.Contains(n.Error, "a plain text was sent") {
		t.Errorf("the fault is %q", n.Error)
	}
	if got := s.got(); !strings.Contains(got, `{"text":"[CRITICAL] cart in shop`) {
		t.Errorf("sent %s", got)
	}
}
