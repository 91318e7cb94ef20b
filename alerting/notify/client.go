package notify

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

const (
	// maxAnswer is how much of an answer is read; the rest says nothing to us.
	maxAnswer = 64 << 10
	// keepAnswer is how much of it is kept with the attempt.
	keepAnswer  = 1 << 10
	contentJSON = "application/json"
)

// outcome of one attempt.
type outcome string

const (
	delivered outcome = "delivered"
	retry     outcome = "retry"
	final     outcome = "final" // it will never be taken
)

// answer is what came of one attempt.
type answer struct {
	outcome    outcome
	status     int           // of HTTP; 0: no answer, or no HTTP
	maybe      bool          // the receiver may have it
	retryAfter time.Duration // 0: not said
	err        string        // for people; without secrets
	request    string        // what was sent, its secrets masked
	response   string        // the answer's first KiB, secrets masked

	contentType string // of the response
}

// client carries messages out, past the guard.
type client struct {
	guard   *Guard
	timeout time.Duration
	http    *http.Client
	dialer  *net.Dialer
	relay   *relay
	// dial and smtpCA are replaced in tests, which stand in for public services.
	dial   func(ctx context.Context, network, address string) (net.Conn, error)
	smtpCA string // PEM; empty: the system's
}

func newClient(g *Guard, timeout time.Duration) *client {
	c := &client{guard: g, timeout: timeout, dialer: &net.Dialer{Timeout: timeout, Control: g.control}}
	c.dial = c.dialer.DialContext
	c.http = &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			// No proxy: it would resolve the name itself, past the guard.
			DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
				return c.dial(ctx, network, address)
			},
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
			MaxIdleConns:           100,
			MaxIdleConnsPerHost:    perTarget,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.relay = newRelay(c)
	return c
}

func (c *client) close() { c.http.CloseIdleConnections() }

// send makes one attempt by the target's channel.
func (c *client) send(ctx context.Context, to Sealed, n note, now time.Time) (a answer) {
	defer func() {
		a.err, a.request, a.response = mask(a.err, to), mask(a.request, to), mask(a.response, to)
	}()
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	switch to.Spec.Type {
	case TypeWebhook:
		return c.webhook(ctx, to, n, now)
	case TypeEmail:
		return c.email(ctx, to, n)
	case TypeWeCom, TypeDingTalk, TypeFeishu:
		return c.robot(ctx, to, n, now)
	}
	return c.notifier(ctx, to, n, now)
}

// do sends a request and reads its answer.
func (c *client) do(req *http.Request, body []byte, now time.Time) (a answer, text []byte) {
	a.request = describe(req, len(body))
	resp, err := c.http.Do(req)
	if err != nil {
		// Only what failed before a connection was there surely was not received.
		var op *net.OpError
		dial := errors.As(err, &op) && op.Op == "dial"
		a.outcome, a.maybe, a.err = retry, !dial, withoutURL(err)
		return a, nil
	}
	defer resp.Body.Close()
	text, _ = io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status is what counts
	a.contentType = resp.Header.Get("Content-Type")
	a.judge(resp.StatusCode, resp.Header.Get("Retry-After"), text, now)
	return a, text
}

// judge fills in what a status means.
func (a *answer) judge(status int, after string, text []byte, now time.Time) {
	a.status, a.retryAfter, a.response = status, retryAfter(after, now), printable(text, keepAnswer)
	switch {
	case status >= 200 && status < 300:
		a.outcome, a.maybe, a.err = delivered, true, ""
		return
	case status == 400, status == 410, status == 413, status == 422:
		a.outcome = final
	default:
		a.outcome = retry
		// An error of the receiver's own may have come after it acted.
		a.maybe = status >= 500
	}
	a.err = strings.TrimSpace(fmt.Sprintf("answered %d %s", status, http.StatusText(status)))
	if status >= 300 && status < 400 {
		a.err += "; redirects are not followed"
	}
	if said := printable(text, 200); said != "" {
		a.err += ": " + said
	}
}

// describe writes down a request without what is secret in it.
func describe(req *http.Request, size int) string {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s\n", req.Method, MaskURL(req.URL.String()))
	names := make([]string, 0, len(req.Header))
	for name := range req.Header {
		names = append(names, name)
	}
	sort.Strings(names)
	for _, name := range names {
		value := masked
		switch http.CanonicalHeaderKey(name) {
		case "Content-Type", "User-Agent", "Webhook-Id", "Webhook-Timestamp":
			value = req.Header.Get(name)
		}
		fmt.Fprintf(&out, "%s: %s\n", strings.ToLower(name), value)
	}
	fmt.Fprintf(&out, "(%d bytes)", size)
	return out.String()
}

// mask takes a target's secrets out of a text: receivers repeat what they got.
func mask(text string, to Sealed) string {
	if text == "" || to.Spec == nil {
		return text
	}
	hide := []string{string(to.Secret), string(to.Previous)}
	for _, f := range to.Spec.secrets() {
		hide = append(hide, string(f.get()))
		if _, credential, ok := strings.Cut(string(f.get()), " "); ok { // of "Bearer …"
			hide = append(hide, credential)
		}
	}
	if u, err := url.Parse(to.Spec.URL); err == nil {
		hide = append(hide, strings.Trim(u.EscapedPath(), "/"), strings.Trim(u.Path, "/"), u.RawQuery)
		for _, values := range u.Query() {
			hide = append(hide, values...)
		}
	}
	// The longest first: a part must not hide the whole from being found.
	sort.Slice(hide, func(i, j int) bool { return len(hide[i]) > len(hide[j]) })
	for _, h := range hide {
		if len(h) >= 6 { // "hook" is a word, and no secret
			text = strings.ReplaceAll(text, h, masked)
		}
	}
	return text
}

// withoutURL drops what net/http puts before an error: the method and the URL,
// which is a secret.
func withoutURL(err error) string {
	var u *url.Error
	if errors.As(err, &u) {
		if u.Timeout() {
			return "no answer in time"
		}
		err = u.Err
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "no answer in time"
	}
	return err.Error()
}

// printable bounds what a receiver said to one line.
func printable(b []byte, most int) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b[:min(len(b), 4*most)]), " "))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= most {
		return s
	}
	s = strings.ToValidUTF8(s[:most-len("…")], "")
	return s + "…"
}

// retryAfter reads the header: seconds, or a date.
func retryAfter(h string, now time.Time) time.Duration {
	if h == "" {
		return 0
	}
	if n, err := strconv.Atoi(h); err == nil && n > 0 {
		return time.Duration(min(n, int(24*time.Hour/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(h); err == nil {
		return min(max(0, t.Sub(now)), 24*time.Hour)
	}
	return 0
}

// post makes a request with a body.
func post(ctx context.Context, url, contentType string, body []byte) (*http.Request, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return nil, errors.New("the target's address cannot be used")
	}
	req.Header.Set("Content-Type", contentType)
	req.Header.Set("User-Agent", "crowsnest")
	return req, nil
}
