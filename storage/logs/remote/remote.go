// Package remote owns the way to a VictoriaLogs that keeps rows elsewhere: the
// protocol by which the parts of its cluster speak to each other, which carries
// tenants, hidden fields and blocks of columns as the library has them. It must
// not know what rows mean, who sent them or who asks.
//
// The library's own client (app/vlstorage/netselect) is not used: it has counters
// of the whole process, takes an answer that broke off between two blocks for
// complete, and knows no errors by kind. What the library exports for it (the
// division of a query, the form of blocks) is used.
package remote

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/config"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Versions of the protocol, those of VictoriaLogs v1.52.2 (app/vlstorage/netinsert
// and netselect). An engine that speaks others refuses, and says so.
const (
	insertVersion = "v1"
	selectVersion = "v5"
	deleteVersion = "v2"
	engineVersion = "v1.52.2" // for people
)

// Options of a client.
type Options struct {
	// WriteURL is below which /internal/insert is: a single node's or vlinsert's,
	// for example http://victorialogs:9428. Required.
	WriteURL string
	// QueryURL is below which /internal/select is: a single node's or vlselect's.
	// Required.
	QueryURL string
	// HTTP is how both are reached: headers, credentials, TLS.
	HTTP    config.HTTPClientConfig
	Timeout time.Duration // of one write; default 30 s
	// Stall is how long an answer may make no progress; default 2 min.
	Stall time.Duration
	// MaxBlockBytes bounds one block of an answer, as it comes and unpacked;
	// default 256 MiB.
	MaxBlockBytes int
	Logger        *slog.Logger
	Registerer    prometheus.Registerer // default none
}

func (o *Options) complete() error {
	var errs []error
	for name, text := range map[string]string{"WriteURL": o.WriteURL, "QueryURL": o.QueryURL} {
		if u, err := url.Parse(text); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.RawQuery != "" {
			errs = append(errs, fmt.Errorf("remote log engine: %s must be a URL of http or https without a query, not %q: %w", name, text, fault.ErrInvalid))
		}
	}
	o.WriteURL, o.QueryURL = strings.TrimSuffix(o.WriteURL, "/"), strings.TrimSuffix(o.QueryURL, "/")
	if err := o.HTTP.Validate(); err != nil {
		errs = append(errs, fmt.Errorf("remote log engine: HTTP: %w: %w", fault.ErrInvalid, err))
	}
	if o.Timeout == 0 {
		o.Timeout = 30 * time.Second
	}
	if o.Stall == 0 {
		o.Stall = 2 * time.Minute
	}
	if o.MaxBlockBytes == 0 {
		o.MaxBlockBytes = 256 << 20
	}
	if o.Timeout < 0 || o.Stall < 0 || o.MaxBlockBytes < 0 {
		errs = append(errs, fmt.Errorf("remote log engine: Timeout, Stall and MaxBlockBytes must be positive: %w", fault.ErrInvalid))
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	return errors.Join(errs...)
}

// Client is the way to one engine. All methods may be called concurrently.
type Client struct {
	opts    Options
	http    *http.Client
	metrics *metrics
}

// idleFor is how long a connection waits for its next request, as in VictoriaLogs' own client:
// an engine gives it a minute (-http.idleConnTimeout), what stands in front of it may give it
// less, and a write that is on its way as that ends may have been taken for all that is known.
const idleFor = 5 * time.Second

// New makes the client. It asks nobody yet.
func New(o Options) (*Client, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	rt, err := config.NewRoundTripperFromConfig(o.HTTP, "crowsnest-logs", config.WithIdleConnTimeout(idleFor))
	if err != nil {
		return nil, fmt.Errorf("remote log engine: HTTP: %w: %w", fault.ErrInvalid, err)
	}
	m, err := newMetrics(o.Registerer)
	if err != nil {
		return nil, fmt.Errorf("remote log engine: %w", err)
	}
	return &Client{opts: o, http: &http.Client{
		Transport: rt,
		// A write that is led elsewhere is not kept where queries look.
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}, metrics: m}, nil
}

// Close ends idle connections and takes the metrics back. Requests are not waited
// for; their callers are.
func (c *Client) Close() {
	c.http.CloseIdleConnections()
	c.metrics.forget()
}

// MaxInsertBytes bounds the rows of one Insert: half of what an engine takes by
// default (-internalinsert.maxRequestSize).
const MaxInsertBytes = 32 << 20

// Insert hands over rows, one logstorage.InsertRow.Marshal behind the other. It
// returns nil when the engine has them in its memory; it shows them to queries
// about a second later and writes them to its disk some seconds later. After an
// error, a fault.ErrUnavailable, it may have them or not.
func (c *Client) Insert(ctx context.Context, rows []byte) (err error) {
	began := time.Now()
	defer func() { c.metrics.wrote(err, time.Since(began)) }()
	ctx, cancel := context.WithTimeout(ctx, c.opts.Timeout)
	defer cancel()
	body := zstd.CompressLevel(nil, rows, 1)
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.opts.WriteURL+"/internal/insert?version="+insertVersion, bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/octet-stream")
	req.Header.Set("Content-Encoding", "zstd")
	res, err := c.http.Do(req)
	if err != nil {
		return unavailable("write", err)
	}
	defer drain(res.Body)
	if res.StatusCode/100 != 2 {
		return answered("write", res, readText(res.Body))
	}
	return nil
}

// Alive says whether both ways answer at all.
func (c *Client) Alive(ctx context.Context) error {
	bases := []string{c.opts.WriteURL}
	if c.opts.QueryURL != c.opts.WriteURL {
		bases = append(bases, c.opts.QueryURL)
	}
	for _, base := range bases {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/health", nil)
		if err != nil {
			return err
		}
		res, err := c.http.Do(req)
		if err != nil {
			return unavailable("reach", err)
		}
		text := readText(res.Body)
		drain(res.Body)
		// What stands in front of an engine may not have /health, and is there.
		if res.StatusCode >= http.StatusInternalServerError {
			return answered("reach", res, text)
		}
	}
	return nil
}

// post sends a form to the query side and gives the answer's body of a 200. What
// the engine refuses is a *Refusal, all else a fault.ErrUnavailable.
func (c *Client) post(ctx context.Context, path string, form url.Values) (_ io.ReadCloser, err error) {
	defer func() { c.metrics.asked(err) }()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.opts.QueryURL+path, strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	if strings.HasPrefix(path, "/internal/select/") {
		req.Header["Idempotency-Key"] = nil // net/http sends none, and asks again where an idle connection was at its end
	}
	res, err := c.http.Do(req)
	if err != nil {
		return nil, unavailable("ask", err)
	}
	if res.StatusCode == http.StatusOK {
		return res.Body, nil
	}
	defer drain(res.Body)
	return nil, answered("ask", res, readText(res.Body))
}

// Refusal is what the engine says against a request that reached it. It is kept
// apart from a fault of the engine, as the text of a query may be to blame.
type Refusal struct{ Text string }

func (r *Refusal) Error() string { return r.Text }

// unavailable says that the engine could not be reached. The URL is left out: it
// may hold credentials.
func unavailable(what string, err error) error {
	var u *url.Error
	if errors.As(err, &u) {
		err = u.Err
	}
	return fmt.Errorf("%s the remote log engine: %w (%w)", what, err, fault.ErrUnavailable)
}

// answered makes an error of an answer that is no success.
func answered(what string, res *http.Response, text string) error {
	switch {
	case strings.Contains(text, "protocol version"):
		return fmt.Errorf("%s the remote log engine: it speaks another version of VictoriaLogs' cluster protocol than this server, which has that of %s (insert %s, select %s): %s (%w)",
			what, engineVersion, insertVersion, selectVersion, text, fault.ErrUnavailable)
	case what == "ask" && (res.StatusCode == http.StatusBadRequest || failed(res, text)):
		return &Refusal{text}
	case res.StatusCode == http.StatusUnauthorized, res.StatusCode == http.StatusForbidden:
		return fmt.Errorf("%s the remote log engine: it does not take the credentials (status %d): %s (%w)", what, res.StatusCode, text, fault.ErrUnavailable)
	}
	return fmt.Errorf("%s the remote log engine: it answered with status %d: %s (%w)", what, res.StatusCode, text, fault.ErrUnavailable)
}

// failed says that a query failed at the engine. Since v1.52 it answers so with the status
// of a storage node that is away or goes away, and only its text tells one from the other;
// its header tells it from what stands in front of it.
func failed(res *http.Response, text string) bool {
	return res.StatusCode == http.StatusBadGateway && res.Header.Get("X-Server-Hostname") != "" && !nodeAway.MatchString(text)
}

// nodeAway is how the engine says so (app/vlstorage/netselect/netselect.go).
var nodeAway = regexp.MustCompile(`cannot (connect to storage node|read block|read response from)`)

// readText reads the beginning of an answer that people are to see.
func readText(r io.Reader) string {
	b, _ := io.ReadAll(io.LimitReader(r, 2<<10)) // as far as it goes
	return strings.TrimSpace(strings.ToValidUTF8(string(b), "?"))
}

// drain lets the connection be used again.
func drain(body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	_ = body.Close()
}
