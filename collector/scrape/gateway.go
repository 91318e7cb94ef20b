package scrape

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"sync"

	config_util "github.com/prometheus/common/config"
	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/config"
	"github.com/prometheus/prometheus/model/relabel"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

const (
	headerJob   = "Crowsnest-Job"
	paramScheme = "crowsnest_scheme"
	schemeLabel = model.ParamLabelPrefix + paramScheme
	gatewayWord = "502 crowsnest "
)

// gateway stands between the scrape manager and the targets, inside of the
// process: the manager's requests come to it over pipes, and it makes the real
// ones with the job's own client. It keeps away from the manager what that
// cannot stand (Prometheus v0.315.0):
//
//   - an answer in protobuf that holds nothing but empty families: its parser
//     calls itself for each of them, until the stack of 1 GB overflows and the
//     process ends. Nothing in protobuf is asked for, so nothing is let through;
//   - a body without end, which it would read to the timeout to use the
//     connection again. Here the connection is closed where the limit is.
type gateway struct {
	dial  config_util.DialContextFunc // to targets; nil for the system's
	conns chan net.Conn
	done  chan struct{}
	close func()

	mu      sync.Mutex
	clients map[string]*client // by job
}

type client struct {
	http   *http.Client
	config config_util.HTTPClientConfig
	limit  int64
	fetch  func(ctx context.Context, address string, into io.Writer) error // instead of http
}

func newGateway(dial config_util.DialContextFunc) *gateway {
	g := &gateway{dial: dial, conns: make(chan net.Conn), done: make(chan struct{}), clients: map[string]*client{}}
	g.close = sync.OnceFunc(func() { close(g.done) })
	return g
}

var (
	_ net.Listener = (*gateway)(nil)
	_ http.Handler = (*gateway)(nil)
)

// Accept, Addr and Close make it a net.Listener.
func (g *gateway) Accept() (net.Conn, error) {
	select {
	case c := <-g.conns:
		return c, nil
	case <-g.done:
		return nil, net.ErrClosed
	}
}

func (g *gateway) Addr() net.Addr { return &net.UnixAddr{Name: "scrape", Net: "pipe"} }

func (g *gateway) Close() error {
	g.close()
	return nil
}

// connect is how the manager dials, whatever the address.
func (g *gateway) connect(ctx context.Context, _, _ string) (net.Conn, error) {
	ours, theirs := net.Pipe()
	select {
	case g.conns <- theirs:
		return ours, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-g.done:
		return nil, net.ErrClosed
	}
}

// route makes a job's configuration lead to the gateway, and keeps what the real
// requests need.
func (g *gateway) route(c *config.ScrapeConfig, fetch func(context.Context, string, io.Writer) error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if old := g.clients[c.JobName]; old == nil || !reflect.DeepEqual(old.config, c.HTTPClientConfig) {
		options := []config_util.HTTPClientOption{config_util.WithUserAgent("crowsnest-collector")}
		if g.dial != nil {
			options = append(options, config_util.WithDialContextFunc(g.dial))
		}
		made, err := config_util.NewClientFromConfig(c.HTTPClientConfig, "scrape", options...)
		if err != nil {
			return err
		}
		if old != nil {
			old.http.CloseIdleConnections()
		}
		g.clients[c.JobName] = &client{http: made, config: c.HTTPClientConfig}
	}
	g.clients[c.JobName].limit, g.clients[c.JobName].fetch = int64(c.BodySizeLimit), fetch
	c.HTTPClientConfig = config_util.HTTPClientConfig{
		HTTPHeaders: &config_util.Headers{Headers: map[string]config_util.Header{headerJob: {Values: []string{c.JobName}}}},
	}
	keep, scheme := relabel.DefaultRelabelConfig, relabel.DefaultRelabelConfig
	keep.SourceLabels, keep.TargetLabel = model.LabelNames{model.SchemeLabel}, schemeLabel
	keep.NameValidationScheme, scheme.NameValidationScheme = model.UTF8Validation, model.UTF8Validation
	scheme.TargetLabel, scheme.Replacement = model.SchemeLabel, "http"
	c.RelabelConfigs = append(append([]*relabel.Config{}, c.RelabelConfigs...), &keep, &scheme)
	return nil
}

// only forgets the jobs that are no more.
func (g *gateway) only(jobs func(string) bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for name, c := range g.clients {
		if !jobs(name) {
			c.http.CloseIdleConnections()
			delete(g.clients, name)
		}
	}
}

// ServeHTTP makes the real request. What fails is told in the status line, as
// that is all that the manager keeps of an answer that is not 200.
func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	g.mu.Lock()
	c := g.clients[r.Header.Get(headerJob)]
	var limit int64
	var fetch func(context.Context, string, io.Writer) error
	if c != nil {
		limit, fetch = c.limit, c.fetch
	}
	g.mu.Unlock()
	if c == nil {
		fail(w, failedConnect, errors.New("the job is no more"))
		return
	}
	if fetch != nil {
		into := &capped{w: w, left: limit + 1}
		w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
		err := fetch(r.Context(), r.Host, into)
		switch {
		case err == nil, into.left == 0: // the manager sees that it is too large
		case into.begun:
			panic(http.ErrAbortHandler)
		default:
			fail(w, reasonOf(err), err)
		}
		return
	}
	u := *r.URL
	q := u.Query()
	u.Scheme, u.Host = q.Get(paramScheme), r.Host
	q.Del(paramScheme)
	u.RawQuery = q.Encode()
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, u.String(), http.NoBody)
	if err != nil {
		fail(w, failedConnect, err)
		return
	}
	for _, h := range []string{"Accept", "Accept-Encoding", "X-Prometheus-Scrape-Timeout-Seconds"} {
		req.Header.Set(h, r.Header.Get(h))
	}
	resp, err := c.http.Do(req)
	if err != nil {
		fail(w, reasonOf(err), err)
		return
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		fail(w, failedStatus, errors.New(resp.Status))
		return
	}
	kind := resp.Header.Get("Content-Type")
	if strings.Contains(strings.ToLower(kind), "protobuf") {
		fail(w, failedParse, fmt.Errorf("it answers as %.100q, which was not asked for", kind))
		return
	}
	for _, h := range []string{"Content-Type", "Content-Encoding"} {
		if v := resp.Header.Get(h); v != "" {
			w.Header().Set(h, v)
		}
	}
	if kind == "" {
		w.Header()["Content-Type"] = nil // or it would be guessed
	}
	if _, err := io.Copy(w, io.LimitReader(resp.Body, limit+1)); err != nil {
		panic(http.ErrAbortHandler) // the manager must not take a part for the whole
	}
}

// capped takes so many bytes and then refuses.
type capped struct {
	w     io.Writer
	left  int64
	begun bool
}

func (c *capped) Write(p []byte) (int, error) {
	if c.left == 0 {
		return 0, fault.ErrTooLarge
	}
	c.begun = true
	n, err := c.w.Write(p[:min(int64(len(p)), c.left)])
	if c.left -= int64(n); err == nil && n < len(p) {
		err = fault.ErrTooLarge
	}
	return n, err
}

// fail answers with the reason and the error as status line.
func fail(w http.ResponseWriter, reason string, err error) {
	conn, _, hijackErr := http.NewResponseController(w).Hijack()
	if hijackErr != nil {
		w.WriteHeader(http.StatusBadGateway)
		return
	}
	defer conn.Close()
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return ' '
		}
		return r
	}, err.Error())
	_, _ = fmt.Fprintf(conn, "HTTP/1.1 %s%s: %.400s\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", gatewayWord, reason, text)
}

// told takes apart what fail said; false when the error is the manager's own.
func told(err error) (reason, text string, ok bool) {
	if err == nil {
		return "", "", false
	}
	_, rest, ok := strings.Cut(err.Error(), gatewayWord)
	if !ok {
		return "", err.Error(), false
	}
	reason, text, ok = strings.Cut(rest, ": ")
	return reason, text, ok
}
