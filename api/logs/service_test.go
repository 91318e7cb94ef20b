package logs

import (
	"bufio"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
)

// behindCart knows one Service of the cluster prod.
type behindCart struct {
	mu   sync.Mutex
	pods []string
}

func (b *behindCart) PodsBehind(cluster, namespace, service string) ([]string, error) {
	if cluster != "prod" || namespace != "shop" || service != "cart" {
		return nil, fmt.Errorf("service %s/%s in cluster %s: %w", namespace, service, cluster, fault.ErrNotFound)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.pods), nil
}

func (b *behindCart) add(pod string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pods = append(b.pods, pod)
}

func putOf(t *testing.T, s *logs.Store, namespace, pod, message string, at time.Time) {
	t.Helper()
	if err := s.Append(t.Context(), "prod", &wire.LogBatch{Sender: "s", ID: namespace + pod + message, Groups: []wire.LogGroup{{
		Stream: wire.LogStream{Namespace: namespace, Pod: pod, Container: "app", Stream: "stdout"},
		Lines:  []wire.LogLine{{Time: at.UnixNano(), Message: message}},
	}}}); err != nil {
		t.Fatal(err)
	}
}

func TestLinesOfAService(t *testing.T) {
	s, behind := logstest.Open(t), &behindCart{pods: []string{"cart-1", "cart-2"}}
	with := func(o *Options) { o.Services = behind }
	base, own := serve(t, s, admin, with), routes(t, s, admin, with)
	putOf(t, s, "shop", "cart-1", "one", t0)
	putOf(t, s, "shop", "cart-2", "two", t0.Add(time.Second))
	putOf(t, s, "shop", "cart-3", "of no service", t0.Add(2*time.Second))
	putOf(t, s, "other", "cart-1", "of another namespace", t0.Add(3*time.Second))
	cart := func(more url.Values) url.Values {
		out := url.Values{"query": {"*"}, "service": {"cart"}, "namespace": {"shop"}, "cluster": {"prod"}, "start": {t0.Format(time.RFC3339)}}
		for name, v := range more {
			out[name] = v
		}
		return out
	}
	for path, tc := range map[string]struct {
		args url.Values
		want string
	}{
		"query":        {cart(url.Values{"query": {"* | fields _time, _msg"}, "limit": {"1"}}), `"_msg":"two"}` + "\n"},
		"stats_query":  {cart(url.Values{"query": {"* | stats count() n"}, "extra_filters": {"two or three"}}), `"1"]`},
		"hits":         {cart(url.Values{"step": {"1h"}}), `"total":2`},
		"field_values": {cart(url.Values{"field": {"pod"}}), `{"value":"cart-1","hits":1},{"value":"cart-2","hits":1}]`},
	} {
		if status, body, _ := get(t, http.MethodGet, base, path, tc.args); status != http.StatusOK || !strings.Contains(body, tc.want) {
			t.Errorf("%s: %d %s, want %s", path, status, body, tc.want)
		}
	}
	if status, body, _ := get(t, http.MethodGet, own, "download", cart(nil)); status != http.StatusOK || strings.Count(body, "\n") != 2 || !strings.Contains(body, "two") {
		t.Errorf("download: %d %s", status, body)
	}
	for name, tc := range map[string]struct {
		args url.Values
		own  bool
		want int
	}{
		"an unknown one":          {args: cart(url.Values{"service": {"web"}}), want: http.StatusNotFound},
		"to download":             {args: cart(url.Values{"service": {"web"}}), own: true, want: http.StatusNotFound},
		"without a namespace":     {args: cart(url.Values{"namespace": nil}), want: http.StatusBadRequest},
		"without a cluster":       {args: cart(url.Values{"cluster": nil}), want: http.StatusBadRequest},
		"of two clusters":         {args: cart(url.Values{"cluster": {"prod", "edge"}}), own: true, want: http.StatusUnprocessableEntity},
		"a namespace without one": {args: cart(url.Values{"service": nil}), want: http.StatusBadRequest},
	} {
		where, path := base, "query"
		if tc.own {
			where, path = own, "download"
		}
		if status, body, _ := get(t, http.MethodGet, where, path, tc.args); status != tc.want {
			t.Errorf("%s: %d %s, want %d", name, status, body, tc.want)
		}
	}
	behind.pods = nil
	if status, body, _ := get(t, http.MethodGet, base, "query", cart(nil)); status != http.StatusOK || body != "" {
		t.Errorf("without pods: %d %s", status, body)
	}
}

// A tail follows pods that come to a Service.
func TestATailOfAServiceFollowsNewPods(t *testing.T) {
	s, behind := logstest.Open(t), &behindCart{pods: []string{"cart-1"}}
	base := serve(t, s, admin, func(o *Options) { o.Services = behind })
	resp, err := http.Get(base + "tail?query=*&cluster=prod&namespace=shop&service=cart")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Fatal(resp.Status)
	}
	lines := bufio.NewScanner(resp.Body)
	putOf(t, s, "shop", "cart-2", "not yet", time.Now())
	putOf(t, s, "shop", "cart-1", "first", time.Now())
	if !lines.Scan() || !strings.Contains(lines.Text(), `"first"`) {
		t.Fatalf("got %s %v", lines.Text(), lines.Err())
	}
	behind.add("cart-2")
	putOf(t, s, "shop", "cart-2", "second", time.Now())
	if !lines.Scan() || !strings.Contains(lines.Text(), `"second"`) {
		t.Fatalf("got %s %v", lines.Text(), lines.Err())
	}
}
