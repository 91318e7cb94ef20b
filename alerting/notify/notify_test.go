package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hook is a webhook in the format crowsnest/v1.
func hook(url string) Sealed {
	return Sealed{Secret: NewSecret(), Spec: &TargetSpec{Type: TypeWebhook, Format: FormatV1, URL: url, MaxBytes: defaultMaxLen}}
}

var loopback = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}

func TestGuard(t *testing.T) {
	g := &Guard{Allowed: []netip.Prefix{netip.MustParsePrefix("10.1.0.0/16"), netip.MustParsePrefix("fd00:1::/32")}}
	for addr, allowed := range map[string]bool{
		"93.184.216.34": true, "2606:2800:220:1::1": true, "10.1.2.3": true, "fd00:1::5": true, "::ffff:10.1.2.3": true, "::ffff:93.184.216.34": true,
		"127.0.0.1": false, "127.8.8.8": false, "::1": false, "::ffff:127.0.0.1": false, "10.2.0.1": false, "172.16.0.1": false, "192.168.1.1": false,
		"169.254.169.254": false, "fe80::1": false, "0.0.0.0": false, "::": false, "224.0.0.1": false, "ff02::1": false, "fd00:2::1": false,
		"100.64.1.1": false, "100.100.100.200": false, "198.18.0.1": false, "255.255.255.255": false, "0.1.2.3": false,
		"64:ff9b::7f00:1": false, "2002:7f00:1::": false, "::7f00:1": false,
	} {
		if err := g.Check(netip.MustParseAddr(addr)); (err == nil) != allowed {
			t.Errorf("%s: %v", addr, err)
		}
	}
	if g.Check(netip.Addr{}) == nil {
		t.Error("no address at all is allowed")
	}
}

// A name that leads to a forbidden address is refused when it is dialled.
func TestTheGuardSeesWhatNamesLeadTo(t *testing.T) {
	hit := false
	srv := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { hit = true }))
	defer srv.Close()
	c := newClient(&Guard{}, 5*time.Second)
	defer c.close()
	_, port, err := net.SplitHostPort(srv.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	a := c.send(context.Background(), hook("http://localhost:"+port+"/"), note{id: "ntf_1", body: []byte("{}")}, time.Now())
	if hit || a.outcome != retry || a.maybe || !strings.Contains(a.err, "loopback") {
		t.Errorf("got %+v, reached: %v", a, hit)
	}
}

func TestAnswers(t *testing.T) {
	var status int
	var header http.Header
	var body string
	reached := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		reached++
		for k, vs := range header {
			w.Header()[k] = vs
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	defer srv.Close()
	c := newClient(&Guard{Allowed: loopback}, 5*time.Second)
	defer c.close()
	to := hook(srv.URL + "/path-that-is-secret")
	now := time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)
	for _, tc := range []struct {
		status int
		header http.Header
		want   outcome
		maybe  bool
		after  time.Duration
	}{
		{200, nil, delivered, true, 0},
		{204, nil, delivered, true, 0},
		{400, nil, final, false, 0},
		{410, nil, final, false, 0},
		{413, nil, final, false, 0},
		{422, nil, final, false, 0},
		{401, nil, retry, false, 0},
		{404, nil, retry, false, 0},
		{429, http.Header{"Retry-After": {"120"}}, retry, false, 2 * time.Minute},
		{503, http.Header{"Retry-After": {"Mon, 23 Nov 2026 09:05:00 GMT"}}, retry, true, 5 * time.Minute},
		{500, http.Header{"Retry-After": {"99999999999"}}, retry, true, 24 * time.Hour},
		{500, http.Header{"Retry-After": {"-5"}}, retry, true, 0},
		{302, http.Header{"Location": {srv.URL + "/elsewhere"}}, retry, false, 0},
	} {
		status, header, body, reached = tc.status, tc.header, "bad\x00 \nthing "+strings.Repeat("é", 10_000), 0
		a := c.send(context.Background(), to, note{id: "ntf_1", body: []byte("{}")}, now)
		if a.outcome != tc.want || a.maybe != tc.maybe || a.retryAfter != tc.after || a.status != tc.status || reached != 1 {
			t.Errorf("%d: got %+v, reached %d times", tc.status, a, reached)
		}
		if len(a.err) > 600 || strings.ContainsAny(a.err, "\x00\n") || strings.Contains(a.err, "path-that-is-secret") {
			t.Errorf("%d: the reason is %q", tc.status, a.err)
		}
	}
	srv.Close()
	c.close() // else it may find out only with the next request that its connection is gone
	if a := c.send(context.Background(), to, note{id: "ntf_1", body: []byte("{}")}, now); a.outcome != retry || a.maybe || strings.Contains(a.err, "path-that-is-secret") {
		t.Errorf("refused connection: %+v", a)
	}
	if a := c.send(context.Background(), Sealed{Spec: to.Spec, Secret: "whsec_???"}, note{id: "x", body: []byte("{}")}, now); a.outcome != final {
		t.Errorf("without a key: %+v", a)
	}
}

// A receiver that takes the message and never answers may have it.
func TestNoAnswerInTime(t *testing.T) {
	done := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-done
	}))
	defer srv.Close()
	defer close(done)
	c := newClient(&Guard{Allowed: loopback}, 50*time.Millisecond)
	defer c.close()
	if a := c.send(context.Background(), hook(srv.URL), note{id: "ntf_1", body: []byte("{}")}, time.Now()); a.outcome != retry || !a.maybe {
		t.Errorf("got %+v", a)
	}
}

func TestSignatureIsThatOfTheStandard(t *testing.T) {
	secret := NewSecret()
	hook, err := standardwebhooks.NewWebhook(secret.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	at := time.Now()
	want, err := hook.Sign("msg_1", at, []byte(`{"a":1}`))
	if err != nil {
		t.Fatal(err)
	}
	if got := Sign([][]byte{secret.key()}, "msg_1", at, []byte(`{"a":1}`)); got != want || len(secret.key()) != 32 {
		t.Errorf("got %s, want %s", got, want)
	}
	if NewSecret() == secret {
		t.Error("two secrets are the same")
	}
}

func TestSecretsDoNotPrint(t *testing.T) {
	s := NewSecret()
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %s", s, Sealed{Secret: s}, s, s)} {
		if strings.Contains(text, s.Reveal()) {
			t.Errorf("printed: %s", text)
		}
	}
}

func TestKeyring(t *testing.T) {
	path := filepath.Join(t.TempDir(), "secrets.key")
	k, err := OpenKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	sealed := k.Seal([]byte("hello"), "tgt_1")
	if bytes.Contains(sealed, []byte("hello")) {
		t.Error("it is not encrypted")
	}
	again, err := OpenKeyring(path)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := again.Open(sealed, "tgt_1"); err != nil || string(got) != "hello" {
		t.Errorf("got %q, %v", got, err)
	}
	if _, err := again.Open(sealed, "tgt_2"); err == nil {
		t.Error("another target's secret opens")
	}
	if _, err := again.Open([]byte("x"), "tgt_1"); err == nil {
		t.Error("nonsense opens")
	}
	if err := os.WriteFile(path, []byte("short"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenKeyring(path); err == nil || !strings.Contains(err.Error(), "restore it") {
		t.Errorf("a damaged key file: %v", err)
	}
}

func TestTargets(t *testing.T) {
	doc := `{"apiVersion":"crowsnest.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"type":"webhook","url":%q}}`
	g := &Guard{}
	stored := &TargetSpec{URL: "https://example.com/secret"}
	tg, err := ParseTarget(fmt.Appendf(nil, doc, "https://example.com/secret"), nil, g)
	if err != nil || tg.Spec.MaxBytes != 64<<10 || tg.Spec.Format != FormatV1 {
		t.Fatalf("got %+v, %v", tg, err)
	}
	if tg, err = ParseTarget(fmt.Appendf(nil, doc, "https://example.com/***"), stored, g); err != nil || tg.Spec.URL != "https://example.com/secret" {
		t.Errorf("the masked URL gave %+v, %v", tg, err)
	}
	if _, err = ParseTarget(fmt.Appendf(nil, doc, "https://other.example/***"), stored, g); !errors.Is(err, fault.ErrInvalid) {
		t.Errorf("another masked URL: %v", err)
	}
	_, err = ParseTarget(fmt.Appendf(nil, doc, "htps://example.com/secret"), nil, g)
	if !errors.Is(err, fault.ErrInvalid) || strings.Contains(err.Error(), "secret") {
		t.Errorf("a mistyped URL gave %v", err)
	}
}

func FuzzParseTarget(f *testing.F) {
	f.Add([]byte(`{"apiVersion":"crowsnest.dev/v1","kind":"Target","metadata":{"name":"a"},"spec":{"type":"webhook","url":"https://example.com/x"}}`))
	f.Fuzz(func(t *testing.T, doc []byte) {
		tg, err := ParseTarget(doc, nil, &Guard{})
		if err != nil {
			if !errors.Is(err, fault.ErrInvalid) && !errors.Is(err, fault.ErrMalformed) && !errors.Is(err, fault.ErrTooLarge) {
				t.Errorf("an error without a kind: %v", err)
			}
			return
		}
		if !strings.HasPrefix(tg.Spec.URL, "http") && tg.Spec.Type == TypeWebhook {
			t.Errorf("taken: %q", tg.Spec.URL)
		}
	})
}

// box is an outbox on a real database with a fake clock.
type box struct {
	t       *testing.T
	db      *meta.DB
	keyring *Keyring
	outbox  *Outbox
	logs    *syncBuffer
	mu      sync.Mutex
	now     time.Time
	stop    func()
}

type syncBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *syncBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func newBox(t *testing.T, url string) *box {
	t.Helper()
	dir := t.TempDir()
	db, err := meta.Open(filepath.Join(dir, "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	k, err := OpenKeyring(filepath.Join(dir, "key"))
	if err != nil {
		t.Fatal(err)
	}
	b := &box{t: t, db: db, keyring: k, logs: &syncBuffer{}, now: time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC)}
	reg := prometheus.NewPedanticRegistry()
	if b.outbox, err = New(Options{
		Store: db, Keyring: k, Allowed: loopback, Timeout: 5 * time.Second, Now: b.clock, Jitter: func() float64 { return 1 }, Registerer: reg,
		Logger: slog.New(slog.NewTextHandler(b.logs, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}); err != nil {
		t.Fatal(err)
	}
	b.target("tgt_1", "hook", *hook(url).Spec)
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { _ = b.outbox.Run(ctx) })
	b.stop = sync.OnceFunc(func() { cancel(); wg.Wait() })
	t.Cleanup(func() {
		b.stop()
		if err := db.Close(); err != nil {
			t.Error(err)
		}
		if problems, err := testutil.GatherAndLint(reg); err != nil || len(problems) > 0 {
			t.Errorf("%v %v", problems, err)
		}
	})
	return b
}

// target makes a target, or changes it.
func (b *box) target(id, name string, spec TargetSpec) {
	b.t.Helper()
	row := meta.Resource{ID: id, Kind: meta.KindTarget, Project: "default", Name: name, ManagedBy: "console", CreatedAt: b.now, UpdatedAt: b.now, Revision: 1}
	var err error
	if row.Spec, row.Sealed, err = Seal(b.keyring, id, &Target{Spec: spec}, Sealed{Secret: NewSecret()}); err != nil {
		b.t.Fatal(err)
	}
	if err := b.db.Update(context.Background(), func(tx *meta.Tx) error {
		there, err := tx.ResourceByID(id)
		if err != nil {
			return tx.CreateResource(row)
		}
		row.Revision = there.Revision
		_, err = tx.UpdateResource(row)
		return err
	}); err != nil {
		b.t.Fatal(err)
	}
}

func (b *box) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

// pass lets time pass and wakes the outbox.
func (b *box) pass(d time.Duration) {
	b.mu.Lock()
	b.now = b.now.Add(d)
	b.mu.Unlock()
	b.outbox.Wake()
}

func (b *box) put(id, incident, typ string) { b.t.Helper(); b.putTo("tgt_1", id, incident, typ) }

func (b *box) putTo(target, id, incident, typ string) {
	b.t.Helper()
	n := meta.Notification{ID: id, IncidentID: incident, TargetID: target, Type: typ, Body: []byte(id), CreatedAt: b.clock(), NextAt: b.clock(), GiveUpAt: b.clock().Add(24 * time.Hour)}
	if err := b.db.Update(context.Background(), func(tx *meta.Tx) error { return tx.Enqueue(n) }); err != nil {
		b.t.Fatal(err)
	}
	b.outbox.Wake()
}

func (b *box) get(id string) (n meta.Notification) {
	b.t.Helper()
	if err := b.db.View(context.Background(), func(tx *meta.Tx) (err error) { n, err = tx.Notification(id); return err }); err != nil {
		b.t.Fatal(err)
	}
	return n
}

// until waits until a notification is as asked for.
func (b *box) until(id string, ok func(meta.Notification) bool) meta.Notification {
	b.t.Helper()
	deadline := time.Now().Add(60 * time.Second)
	for {
		n := b.get(id)
		if ok(n) {
			return n
		}
		if time.Now().After(deadline) {
			b.t.Fatalf("%s stays %+v", id, n)
		}
		time.Sleep(time.Millisecond)
	}
}

func state(s string) func(meta.Notification) bool {
	return func(n meta.Notification) bool { return n.State == s }
}

func attempts(n int) func(meta.Notification) bool {
	return func(x meta.Notification) bool { return x.Attempts == n }
}

// script answers requests one after the other; the last answer stays.
type script struct {
	mu      sync.Mutex
	answers []int
	bodies  []string
}

func (s *script) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bodies = append(s.bodies, string(b))
	w.WriteHeader(s.answers[0])
	if len(s.answers) > 1 {
		s.answers = s.answers[1:]
	}
}

func (s *script) got() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return strings.Join(s.bodies, " ")
}

func TestBackoffAndGivingUp(t *testing.T) {
	s := &script{answers: []int{500}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := newBox(t, srv.URL+"/very-secret")
	b.put("a", "inc_1", "incident.firing")
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 600, 600}
	for i, w := range want {
		n := b.until("a", attempts(i+1))
		if wait := n.NextAt.Sub(b.clock()); wait != w*time.Second {
			t.Fatalf("after attempt %d it waits %v, want %v s", i+1, wait, int(w))
		}
		b.pass(w * time.Second)
	}
	b.until("a", attempts(len(want)+1))
	b.pass(24 * time.Hour)
	n := b.until("a", state(meta.NotificationDead))
	if !strings.Contains(n.Error, "given up") || !n.Maybe {
		t.Errorf("got %+v", n)
	}
	// By hand it is tried again, as the same.
	s.mu.Lock()
	s.answers = []int{200}
	s.mu.Unlock()
	if err := b.db.Update(context.Background(), func(tx *meta.Tx) error { _, err := b.outbox.Again(tx, "a", false, b.clock()); return err }); err != nil {
		t.Fatal(err)
	}
	b.outbox.Wake()
	if n := b.until("a", state(meta.NotificationDelivered)); n.Error != "" {
		t.Errorf("got %+v", n)
	}
	if logs := b.logs.String(); strings.Contains(logs, "very-secret") || !strings.Contains(logs, "send notification") {
		t.Errorf("the log has the URL, or nothing: %s", logs)
	}
}

func TestOrderWithinAThreadOnly(t *testing.T) {
	s := &script{answers: []int{500, 200}}
	srv := httptest.NewServer(s)
	defer srv.Close()
	b := newBox(t, srv.URL)
	b.put("a1", "a", "incident.firing")
	b.until("a1", attempts(1))
	b.put("a2", "a", "incident.resolved")
	b.put("b1", "b", "incident.firing")
	b.until("b1", state(meta.NotificationDelivered)) // one incident does not wait for another
	if n := b.get("a2"); n.Attempts != 0 {
		t.Errorf("the resolve overtook its firing: %+v", n)
	}
	b.pass(time.Second)
	b.until("a2", state(meta.NotificationDelivered))
	if got := s.got(); got != "a1 b1 a1 a2" {
		t.Errorf("got %s", got)
	}
}

func TestAResolveFollowsOnlyWhatMayHaveBeenTold(t *testing.T) {
	for name, tc := range map[string]struct {
		answer int
		want   string
	}{
		"refused for good":       {400, meta.NotificationSkipped},
		"accepted":               {200, meta.NotificationDelivered},
		"may have been received": {500, meta.NotificationDelivered},
	} {
		t.Run(name, func(t *testing.T) {
			s := &script{answers: []int{tc.answer, 200}}
			srv := httptest.NewServer(s)
			defer srv.Close()
			b := newBox(t, srv.URL)
			b.put("a1", "a", "incident.firing")
			b.until("a1", attempts(1))
			if tc.answer == 500 { // it was given up
				n := b.get("a1")
				n.State = meta.NotificationDead
				if err := b.db.Update(context.Background(), func(tx *meta.Tx) error { return tx.CloseNotification(n) }); err != nil {
					t.Fatal(err)
				}
			}
			b.put("a2", "a", "incident.resolved")
			b.until("a2", state(tc.want))
		})
	}
}

func TestTargetsThatAreGone(t *testing.T) {
	b := newBox(t, "http://127.0.0.1:1/")
	if err := b.db.Update(context.Background(), func(tx *meta.Tx) error { return tx.DeleteResource(meta.KindTarget, "default", "hook") }); err != nil {
		t.Fatal(err)
	}
	b.put("a", "a", "incident.firing")
	if n := b.until("a", state(meta.NotificationDead)); !strings.Contains(n.Error, "deleted") {
		t.Errorf("got %+v", n)
	}
}

func TestRunEndsInTheMiddleOfAnAttempt(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		close(entered)
		<-release
	}))
	defer srv.Close()
	b := newBox(t, srv.URL)
	b.put("a", "a", "incident.firing")
	<-entered
	go func() {
		time.Sleep(20 * time.Millisecond)
		close(release)
	}()
	b.stop() // waits for the answer that comes within the grace
	if n := b.get("a"); n.State != meta.NotificationDelivered {
		t.Errorf("what was answered is forgotten: %+v", n)
	}
}

func TestTheSecretIsEncryptedAtRest(t *testing.T) {
	b := newBox(t, "https://example.com/a-secret-path")
	var r meta.Resource
	if err := b.db.View(context.Background(), func(tx *meta.Tx) (err error) { r, err = tx.Resource(meta.KindTarget, "default", "hook"); return err }); err != nil {
		t.Fatal(err)
	}
	raw, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	if bytes.Contains(raw, []byte("a-secret-path")) || bytes.Contains(r.Sealed, []byte("whsec_")) {
		t.Errorf("the row holds secrets: %s", raw)
	}
}

// A receiver cannot have us call another one, the least one that the guard refuses.
func TestRedirectsAreNotFollowed(t *testing.T) {
	elsewhere := 0
	other := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { elsewhere++ }))
	defer other.Close()
	var to string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, to, http.StatusTemporaryRedirect) // keeps the method and the body
	}))
	defer srv.Close()
	c := newClient(&Guard{Allowed: loopback}, 5*time.Second)
	defer c.close()
	for _, to = range []string{other.URL, "http://169.254.169.254/latest/meta-data/", "file:///etc/passwd"} {
		a := c.send(context.Background(), hook(srv.URL), note{id: "ntf_1", body: []byte("{}")}, time.Now())
		if a.outcome != retry || a.maybe || a.status != http.StatusTemporaryRedirect || !strings.Contains(a.err, "redirects are not followed") || strings.Contains(a.err, "meta-data") {
			t.Errorf("%s: got %+v", to, a)
		}
	}
	if elsewhere > 0 {
		t.Errorf("the other receiver was called %d times", elsewhere)
	}
}
