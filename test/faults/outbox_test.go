package faults

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

const envKills = "CROWSNEST_FAULTS_KILLS" // of the whole server while it delivers; default 4

// The server is killed while it delivers to a receiver that fails at random,
// answers slowly, hangs and closes midway. Each firing and each resolve that was
// taken arrives, in order for each incident; what comes twice has the same id
// and says the same; nothing is left behind; and a target that is dead has the
// others wait for nothing.
func TestNothingThatIsToBeToldIsLost(t *testing.T) {
	if testing.Short() {
		t.Skip("it builds the server, and kills it")
	}
	kills := 4
	if n, err := strconv.Atoi(os.Getenv(envKills)); err == nil {
		kills = n
	}
	root, err := testbed.Root()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	program := filepath.Join(dir, "crowsnest")
	build := exec.Command("go", "build", "-o", program, "./cmd/crowsnest")
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	address, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	dead, err := testbed.FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	hook := newMoody(t)
	server := &testbed.Server{URL: "http://" + address}
	start := func() *testbed.Process {
		p, err := testbed.Start(dir, "server", program, "server", "--data", filepath.Join(dir, "data"), "--listen", address, "--allow-webhook-cidr", "127.0.0.1/32",
			"--presets=false", "--log-level", "error")
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := start()
	defer func() { p.Kill() }()
	if err := p.WaitReady(t.Context(), server, time.Minute); err != nil {
		t.Fatal(err)
	}
	const head = `{"apiVersion": "crowsnest.dev/v1", "metadata": {"name": `
	for _, one := range [][2]string{
		{"/targets", head + `"hook"}, "kind": "Target", "spec": {"type": "webhook", "url": "` + hook.URL + `"}}`},
		{"/targets", head + `"dead"}, "kind": "Target", "spec": {"type": "webhook", "url": "http://` + dead + `/"}}`},
		{"/routes", head + `"rest"}, "kind": "Route", "spec": {"default": true, "targets": ["hook", "dead"]}}`},
	} {
		if _, err := server.Do(t.Context(), http.MethodPost, testbed.API+one[0], json.RawMessage(one[1])); err != nil {
			t.Fatal(err)
		}
	}

	// Whoever finds alerts sends each until it was taken, as Prometheus does.
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var posting sync.WaitGroup
	var taken struct {
		sync.Mutex
		firing, resolved []string
	}
	for w := range 3 {
		posting.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				name := fmt.Sprintf("w%d-%d", w, i)
				if !post(ctx, server, name, false) {
					return
				}
				taken.Lock()
				taken.firing = append(taken.firing, name)
				taken.Unlock()
				pause(ctx, time.Duration(rand.IntN(400))*time.Millisecond)
				// One that was begun is ended, also when the kills are over.
				if !post(t.Context(), server, name, true) {
					return
				}
				taken.Lock()
				taken.resolved = append(taken.resolved, name)
				taken.Unlock()
				pause(ctx, time.Duration(rand.IntN(400))*time.Millisecond)
			}
		})
	}
	began := time.Now()
	for i := range kills {
		pause(t.Context(), time.Duration(50+rand.IntN(900))*time.Millisecond)
		p.Kill()
		p = start()
		// It shares the machine with whatever else runs for the hours that a thousand take.
		if err := p.WaitReady(t.Context(), server, 5*time.Minute); err != nil {
			t.Fatalf("after kill %d: %v", i+1, err)
		}
		if (i+1)%50 == 0 {
			fmt.Fprintf(os.Stderr, "%d kills in %s\n", i+1, time.Since(began).Round(time.Second))
		}
	}
	cancel()
	posting.Wait()
	hook.mend()

	// What waits for its back-off is sent by hand: it keeps its id.
	err = testbed.Await(t.Context(), 15*time.Minute, time.Second, func(ctx context.Context) error {
		waiting, err := pending(ctx, server, "hook")
		if err != nil || len(waiting) == 0 {
			return err
		}
		for _, id := range waiting {
			if _, err := server.Do(ctx, http.MethodPost, testbed.API+"/deliveries/"+id+"/resend", nil); err != nil && !strings.Contains(err.Error(), "409") {
				return err
			}
		}
		return fmt.Errorf("%d notifications wait", len(waiting))
	})
	if err != nil {
		t.Errorf("something is left behind: %v", err)
	}

	hook.mu.Lock()
	defer hook.mu.Unlock()
	for _, wrong := range hook.wrong {
		t.Error(wrong)
	}
	lostAll := 0
	for what, names := range map[string][]string{"firing": taken.firing, "resolved": taken.resolved} {
		lost := 0
		for _, name := range names {
			if !hook.told["incident."+what+" "+name] {
				if lost++; lost < 10 {
					t.Errorf("the %s of %s never arrived", what, name)
				}
			}
		}
		if lostAll += lost; lost > 0 {
			t.Errorf("%d of %d %s never arrived", lost, len(names), what)
		}
	}
	order := 0
	for id, sequences := range hook.order {
		if !slices.IsSorted(sequences) {
			if order++; order < 10 {
				t.Errorf("incident %s was told in the order %v", id, sequences)
			}
		}
	}
	t.Logf("%d kills in %s: %d firings and %d resolves taken; %d requests, of which %d answered well, %d of these again with an id that was known; %d lost, %d out of order",
		kills, time.Since(began).Round(time.Second), len(taken.firing), len(taken.resolved), hook.requests, hook.accepted, hook.doubles, lostAll, order)
	if len(taken.firing) < kills || hook.requests == hook.accepted {
		t.Errorf("%d alerts and %d requests of which none failed: nothing was tried", len(taken.firing), hook.requests)
	}
}

// post sends an alert until it is taken; false when ctx ended before.
func post(ctx context.Context, server *testbed.Server, name string, ended bool) bool {
	alert := map[string]any{"labels": map[string]string{
		"alertname": name, "severity": "warning", "cluster": "c", "namespace": "ns", "deployment": name, "workload_type": "deployment", "workload": name,
	}}
	if ended {
		alert["endsAt"] = time.Now().Add(-time.Second).UTC().Format(time.RFC3339Nano)
	} else {
		alert["endsAt"] = time.Now().Add(12 * time.Hour).UTC().Format(time.RFC3339Nano)
	}
	for {
		asked, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		_, err := server.Do(asked, http.MethodPost, "/api/v2/alerts", []any{alert})
		cancel()
		if err == nil {
			return true
		}
		if ctx.Err() != nil {
			return false
		}
		pause(ctx, 100*time.Millisecond)
	}
}

// pending gives what waits for a target.
func pending(ctx context.Context, server *testbed.Server, target string) ([]string, error) {
	var out []string
	cursor := ""
	for {
		var page struct {
			Items []struct{ ID, Target, State string }
			Next  *string
		}
		if err := server.GetJSON(ctx, testbed.API+"/deliveries?state=pending&limit=1000&cursor="+cursor, &page); err != nil {
			return nil, err
		}
		for _, d := range page.Items {
			if d.Target == target {
				out = append(out, d.ID)
			}
		}
		if page.Next == nil {
			return out, nil
		}
		cursor = *page.Next
	}
}

// moody is a receiver that cannot be relied on.
type moody struct {
	*httptest.Server
	mu       sync.Mutex
	well     bool
	requests int
	accepted int
	doubles  int
	bodies   map[string]string // by id: a repeated one says the same
	told     map[string]bool   // by type and alert
	order    map[string][]int  // sequences by incident, as they were first taken
	wrong    []string
}

func newMoody(t *testing.T) *moody {
	m := &moody{bodies: map[string]string{}, told: map[string]bool{}, order: map[string][]int{}}
	m.Server = httptest.NewServer(m)
	t.Cleanup(func() {
		m.CloseClientConnections()
		m.Close()
	})
	return m
}

func (m *moody) mend() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.well = true
}

func (m *moody) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	mood := rand.IntN(100)
	m.mu.Lock()
	m.requests++
	if m.well {
		mood = 99
	}
	m.mu.Unlock()
	hangUp := func() {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	}
	if mood < 8 { // before it has read all
		_, _ = io.ReadFull(r.Body, make([]byte, 20))
		hangUp()
		return
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the server was killed
	}
	switch {
	case mood < 16: // after it has read all
		hangUp()
		return
	case mood < 30:
		w.WriteHeader(http.StatusInternalServerError)
		return
	case mood < 35:
		w.Header().Set("Retry-After", "1")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	case mood < 38: // hangs
		select {
		case <-r.Context().Done():
		case <-time.After(60 * time.Second):
		}
		return
	case mood < 50: // slow
		select {
		case <-r.Context().Done():
			return
		case <-time.After(time.Duration(rand.IntN(1500)) * time.Millisecond):
		}
	}
	m.take(r.Header.Get("webhook-id"), string(body))
	w.WriteHeader(http.StatusNoContent)
}

func (m *moody) take(id, body string) {
	var n testbed.Notification
	err := json.Unmarshal([]byte(body), &n)
	m.mu.Lock()
	defer m.mu.Unlock()
	m.accepted++
	if err != nil || n.ID != id || id == "" {
		m.wrong = append(m.wrong, fmt.Sprintf("a body under id %q is %.200s (%v)", id, body, err))
		return
	}
	if before, known := m.bodies[id]; known {
		m.doubles++
		if before != body {
			m.wrong = append(m.wrong, fmt.Sprintf("%s came twice and said another thing", id))
		}
		return
	}
	m.bodies[id] = body
	m.order[n.Incident.ID] = append(m.order[n.Incident.ID], n.Sequence)
	for _, a := range n.Alerts {
		m.told[n.Type+" "+a.Policy.Name] = true
	}
}
