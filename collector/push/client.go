// Package push brings what a collector has to its server: samples as remote
// write, live first and what waited on disk behind it; log batches and the
// inventory as compressed JSON. It owns retries, back-off and what counts as
// refused for good. It must not know how samples are made.
package push

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	attemptTimeout = 15 * time.Second
	maxAnswerBytes = 4 << 20
	userAgent      = "crowsnest-collector"
)

// ClientOptions say which server, and who asks.
type ClientOptions struct {
	Server    string        // URL; required
	Token     config.Secret // sent as bearer token; TokenFile wins over it
	TokenFile string        // read again when it changes
	CAFile    string        // PEM; empty means the system's
	// InsecureSkipVerify leaves the server's certificate unchecked.
	InsecureSkipVerify bool
	Sender             string            // wire.Sender; required
	Transport          http.RoundTripper // default: one made of the fields above
	Now                func() time.Time  // default time.Now
}

// Client talks HTTP with one server. It is for concurrent use.
type Client struct {
	base   *url.URL
	http   *http.Client
	sender string
	token  *tokenSource
	zstd   *zstd.Encoder
	now    func() time.Time
	timed  atomic.Pointer[func(sent time.Time, trip time.Duration, server time.Time)]
}

// NewClient checks the options; it connects to nothing.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Sender == "" {
		return nil, errors.New("push: Sender is required")
	}
	base, err := url.Parse(o.Server)
	if err != nil || (base.Scheme != "http" && base.Scheme != "https") || base.Host == "" {
		return nil, fmt.Errorf("push: %w", fault.Field{Path: "server", Reason: "must be a URL as https://crowsnest.example:7420", Value: o.Server})
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Transport == nil {
		tlsConfig, err := TLSConfig(o.CAFile, o.InsecureSkipVerify)
		if err != nil {
			return nil, err
		}
		o.Transport = &http.Transport{
			Proxy:               http.ProxyFromEnvironment,
			DialContext:         (&net.Dialer{Timeout: 5 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
			TLSClientConfig:     tlsConfig,
			TLSHandshakeTimeout: 5 * time.Second,
			MaxIdleConnsPerHost: 4,
			IdleConnTimeout:     90 * time.Second,
			ForceAttemptHTTP2:   true,
		}
	}
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderLevel(zstd.SpeedFastest), zstd.WithEncoderConcurrency(1), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(512<<10))
	if err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	token := &tokenSource{file: o.TokenFile, value: o.Token, now: o.Now}
	if _, err := token.get(); err != nil {
		return nil, fmt.Errorf("push: %w", err)
	}
	return &Client{base: base, http: &http.Client{Transport: o.Transport}, sender: o.Sender, token: token, zstd: enc, now: o.Now}, nil
}

// TLSConfig trusts the certificates in a PEM file, or the system's where there
// is none.
func TLSConfig(caFile string, insecure bool) (*tls.Config, error) {
	c := &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure}
	if caFile == "" {
		return c, nil
	}
	pem, err := os.ReadFile(caFile)
	if err != nil {
		return nil, fmt.Errorf("read CA certificates: %w", err)
	}
	c.RootCAs = x509.NewCertPool()
	if !c.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("read CA certificates: %s holds no PEM certificate", caFile)
	}
	return c, nil
}

// OnTime has fn told the times of each request that the server answered with
// its own time.
func (c *Client) OnTime(fn func(sent time.Time, trip time.Duration, server time.Time)) {
	c.timed.Store(&fn)
}

// Close lets go of idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Server is the server's address, for messages.
func (c *Client) Server() string { return c.base.Redacted() }

// Authorize adds the credential and the sender's name to a request's headers.
func (c *Client) Authorize(h http.Header) error {
	token, err := c.token.get()
	if err != nil {
		return err
	}
	if !token.Empty() {
		h.Set("Authorization", "Bearer "+token.Reveal())
	}
	h.Set("User-Agent", userAgent)
	h.Set(wire.HeaderVersion, strconv.Itoa(wire.Version))
	h.Set(wire.HeaderSender, c.sender)
	return nil
}

// URL gives the address of a path of the server.
func (c *Client) URL(path string) *url.URL { return c.base.JoinPath(path) }

// HTTP1 is a client of its own for the control stream, which is an upgrade that
// HTTP/2 does not have.
func (c *Client) HTTP1() *http.Client {
	t, ok := c.http.Transport.(*http.Transport)
	if !ok {
		return c.http
	}
	t = t.Clone()
	t.ForceAttemptHTTP2 = false
	if t.TLSClientConfig != nil {
		t.TLSClientConfig.NextProtos = []string{"http/1.1"}
	}
	return &http.Client{Transport: t}
}

// refusal is an answer that is not 2xx. It unwraps to the kind of fault it is.
type refusal struct {
	status int
	after  time.Duration // Retry-After
	text   string
	kind   error
}

func (r *refusal) Error() string {
	return strings.TrimSpace(fmt.Sprintf("server answered %d: %s", r.status, r.text))
}
func (r *refusal) Unwrap() error { return r.kind }

// final says whether sending the same again can never help. A credential that
// is refused can be mended while the data waits, and so can a wrong address.
func final(err error) bool {
	var r *refusal
	if !errors.As(err, &r) {
		return false
	}
	switch r.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired,
		http.StatusRequestTimeout, http.StatusMisdirectedRequest, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusUnsupportedMediaType:
		return false
	}
	return r.status >= 300 && r.status < 500
}

func kindOf(status int) error {
	switch {
	case status == http.StatusUnauthorized:
		return fault.ErrUnauthenticated
	case status == http.StatusForbidden:
		return fault.ErrForbidden
	case status == http.StatusNotFound:
		return fault.ErrNotFound
	case status == http.StatusConflict:
		return fault.ErrConflict
	case status == http.StatusRequestEntityTooLarge:
		return fault.ErrTooLarge
	case status == http.StatusTooManyRequests:
		return fault.ErrLimited
	case status >= 500:
		return fault.ErrUnavailable
	}
	return fault.ErrInvalid
}

// do sends one request and reads the whole answer.
func (c *Client) do(ctx context.Context, method string, u *url.URL, header http.Header, body []byte) (http.Header, []byte, error) {
	ctx, cancel := context.WithTimeout(ctx, attemptTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, nil, err
	}
	for k, v := range header {
		req.Header[k] = v
	}
	if err := c.Authorize(req.Header); err != nil {
		return nil, nil, err
	}
	sent := c.now()
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", fault.ErrUnavailable, err)
	}
	defer resp.Body.Close()
	if fn := c.timed.Load(); fn != nil {
		if server, err := wire.ParseMillis(resp.Header.Get(wire.HeaderTime)); err == nil {
			(*fn)(sent, c.now().Sub(sent), server)
		}
	}
	answer, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes))
	if resp.StatusCode/100 != 2 {
		r := &refusal{status: resp.StatusCode, text: firstLine(answer), kind: kindOf(resp.StatusCode)}
		if s, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && s >= 0 {
			r.after = time.Duration(min(s, 3600)) * time.Second
		}
		return resp.Header, answer, r
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%w: read answer: %v", fault.ErrUnavailable, err)
	}
	return resp.Header, answer, nil
}

func firstLine(b []byte) string {
	s, _, _ := strings.Cut(strings.TrimSpace(string(b[:min(len(b), 500)])), "\n")
	return s
}

// post sends a body, compressed by zstd.
func (c *Client) post(ctx context.Context, path, mediaType string, raw []byte) error {
	h := http.Header{}
	h.Set("Content-Type", mediaType)
	h.Set("Content-Encoding", "zstd")
	_, _, err := c.do(ctx, http.MethodPost, c.URL(path), h, c.zstd.EncodeAll(raw, make([]byte, 0, len(raw)/4)))
	return err
}

// askTime has the server answer, which OnTime's function learns its time from;
// what it answers matters not.
func (c *Client) askTime(ctx context.Context) error {
	_, _, err := c.do(ctx, http.MethodGet, c.URL(wire.PathOwners), nil, nil)
	var r *refusal
	if errors.As(err, &r) {
		return nil
	}
	return err
}

// Owners asks the server for the top workloads of a node's pods, by UID. It
// tries once.
func (c *Client) Owners(ctx context.Context, node string) (map[string]object.WorkloadRef, error) {
	u := c.URL(wire.PathOwners)
	u.RawQuery = url.Values{"node": {node}}.Encode()
	_, body, err := c.do(ctx, http.MethodGet, u, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for owners: %w", err)
	}
	var answer wire.OwnersResponse
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("ask for owners: %w: %v", fault.ErrMalformed, err)
	}
	owners := make(map[string]object.WorkloadRef, len(answer.Owners))
	for uid, o := range answer.Owners {
		owners[uid] = object.WorkloadRef{Type: o.Type, Name: o.Name}
	}
	return owners, nil
}

// Services asks the server which Services there are in some namespaces. It tries once.
func (c *Client) Services(ctx context.Context, namespaces []string) ([]*object.Service, error) {
	u := c.URL(wire.PathServices)
	u.RawQuery = url.Values{"namespace": namespaces}.Encode()
	_, body, err := c.do(ctx, http.MethodGet, u, nil, nil)
	if errors.Is(err, fault.ErrNotFound) {
		return nil, fmt.Errorf("ask for Services: the server is older than this collector and does not know: bring it up to date: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for Services: %w", err)
	}
	var answer wire.ServicesResponse
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("ask for Services: %w: %v", fault.ErrMalformed, err)
	}
	services := make([]*object.Service, len(answer.Services))
	for i, v := range answer.Services {
		services[i] = &object.Service{Meta: object.Meta{Namespace: v.Namespace, Name: v.Name}, Selector: v.Selector, Pods: v.Pods}
	}
	return services, nil
}

// LogPositions asks the server how far containers' logs were taken. Those of which it
// has nothing are left out. It tries once.
func (c *Client) LogPositions(ctx context.Context, sources []wire.LogSource) ([]wire.LogPosition, error) {
	raw, err := json.Marshal(wire.LogPositionsRequest{Sources: sources})
	if err != nil {
		return nil, fmt.Errorf("ask for log positions: %w", err)
	}
	h := http.Header{}
	h.Set("Content-Type", "application/json")
	_, body, err := c.do(ctx, http.MethodPost, c.URL(wire.PathLogPositions), h, raw)
	if errors.Is(err, fault.ErrNotFound) {
		return nil, fmt.Errorf("ask for log positions: the server is older than this collector and does not know: bring it up to date: %w", err)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for log positions: %w", err)
	}
	var answer wire.LogPositionsResponse
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("ask for log positions: %w: %v", fault.ErrMalformed, err)
	}
	return answer.Positions, nil
}

// Readers asks the server which of some nodes are read by collectors of their own. It
// tries once.
func (c *Client) Readers(ctx context.Context, nodes []string) ([]string, error) {
	return c.readers(ctx, nodes, url.Values{})
}

// LogReaders asks the server of which of some nodes a collector of their own follows the
// logs. It tries once.
func (c *Client) LogReaders(ctx context.Context, nodes []string) ([]string, error) {
	return c.readers(ctx, nodes, url.Values{"logs": {"true"}})
}

func (c *Client) readers(ctx context.Context, nodes []string, q url.Values) ([]string, error) {
	var out []string
	for some := range slices.Chunk(nodes, wire.MaxReaderNodes) {
		u := c.URL(wire.PathReaders)
		q["node"] = some
		u.RawQuery = q.Encode()
		_, body, err := c.do(ctx, http.MethodGet, u, nil, nil)
		if err != nil {
			return nil, fmt.Errorf("ask for nodes' collectors: %w", err)
		}
		var answer wire.ReadersResponse
		if err := json.Unmarshal(body, &answer); err != nil {
			return nil, fmt.Errorf("ask for nodes' collectors: %w: %v", fault.ErrMalformed, err)
		}
		out = append(out, answer.Nodes...)
	}
	return out, nil
}

// Peers asks the server which nodes a node's collector is to ask. It tries once.
func (c *Client) Peers(ctx context.Context, node string) ([]wire.Peer, error) {
	u := c.URL(wire.PathPeers)
	u.RawQuery = url.Values{"node": {node}}.Encode()
	_, body, err := c.do(ctx, http.MethodGet, u, nil, nil)
	if err != nil {
		return nil, fmt.Errorf("ask for peers: %w", err)
	}
	var answer wire.PeersResponse
	if err := json.Unmarshal(body, &answer); err != nil {
		return nil, fmt.Errorf("ask for peers: %w: %v", fault.ErrMalformed, err)
	}
	return answer.Peers, nil
}

// Send brings a log batch to the server and returns nil once it is durable
// there. What can be tried again is, until ctx ends; a batch that the server
// refuses for good is an error of kind fault.ErrInvalid or fault.ErrTooLarge, one
// that begins before what it has, fault.ErrConflict.
func (c *Client) Send(ctx context.Context, b *wire.LogBatch) error {
	var never error // it is not sent at all
	err := retry(ctx, func() error {
		raw, err := b.Encode() // each time: what it says to be complete may not hold any more
		switch {
		case err != nil:
			never = fmt.Errorf("%w: %v", fault.ErrInvalid, err)
			return nil
		case len(raw) > wire.MaxLogBatchBytes:
			never = fmt.Errorf("%w: %d bytes", fault.ErrTooLarge, len(raw))
			return nil
		}
		return c.post(ctx, wire.PathLogs, wire.LogBatchType, raw)
	})
	if err = cmp.Or(never, err); err != nil {
		return fmt.Errorf("send logs: %w", err)
	}
	return nil
}

// retry tries until it succeeded, the server refused for good or ctx ended.
func retry(ctx context.Context, try func() error) error {
	var wait backoff
	for {
		err := try()
		if err == nil || final(err) {
			return err
		}
		if ctx.Err() != nil || !sleep(ctx, wait.next(err)) {
			return err
		}
	}
}

// backoff gives the waits between attempts: doubling from half a second to half
// a minute, with jitter, and never less than the server asked for.
type backoff struct{ last time.Duration }

func (b *backoff) next(err error) time.Duration {
	b.last = min(max(2*b.last, 500*time.Millisecond), 30*time.Second)
	wait := b.last/2 + rand.N(b.last/2)
	var r *refusal
	if errors.As(err, &r) {
		wait = max(wait, r.after)
	}
	return wait
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// tokenSource reads a token file again when it changed, at most every 5 s.
type tokenSource struct {
	file string
	now  func() time.Time

	mu      sync.Mutex
	value   config.Secret
	checked time.Time
	changed time.Time
}

func (t *tokenSource) get() (config.Secret, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.file == "" || (!t.value.Empty() && t.now().Sub(t.checked) < 5*time.Second) {
		return t.value, nil
	}
	info, err := os.Stat(t.file)
	if err == nil && !info.ModTime().Equal(t.changed) {
		var s config.Secret
		if s, err = config.SecretFromFile(t.file); err == nil {
			t.value, t.changed = s, info.ModTime()
		}
	}
	t.checked = t.now()
	if err != nil && t.value.Empty() {
		return t.value, fmt.Errorf("read token: %w", err)
	}
	return t.value, nil // a file that is being replaced leaves the old one in force
}
