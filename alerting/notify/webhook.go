package notify

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// Headers of Standard Webhooks.
const (
	headerID        = "webhook-id"
	headerTimestamp = "webhook-timestamp"
	headerSignature = "webhook-signature"
)

// maxAnswer is how much of an answer is read; the rest says nothing to us.
const maxAnswer = 4 << 10

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
	status     int           // of HTTP; 0: no answer
	maybe      bool          // the receiver may have it
	retryAfter time.Duration // 0: not said
	err        string        // for people; without the URL
}

// client posts webhooks.
type client struct{ http *http.Client }

func newClient(g *Guard, timeout time.Duration) *client {
	dialer := &net.Dialer{Timeout: timeout, Control: g.control}
	return &client{http: &http.Client{
		Timeout: timeout,
		Transport: &http.Transport{
			// No proxy: it would resolve the name itself, past the guard.
			DialContext:            dialer.DialContext,
			TLSClientConfig:        &tls.Config{MinVersion: tls.VersionTLS12},
			TLSHandshakeTimeout:    timeout,
			ResponseHeaderTimeout:  timeout,
			MaxIdleConns:           100,
			MaxIdleConnsPerHost:    2,
			IdleConnTimeout:        time.Minute,
			ForceAttemptHTTP2:      true,
			MaxResponseHeaderBytes: 64 << 10,
			DisableCompression:     true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}
}

func (c *client) close() { c.http.CloseIdleConnections() }

// Sign gives the signature header's value as Standard Webhooks has it.
func Sign(key []byte, id string, at time.Time, body []byte) string {
	mac := hmac.New(sha256.New, key)
	fmt.Fprintf(mac, "%s.%d.", id, at.Unix())
	mac.Write(body)
	return "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
}

// post makes one attempt.
func (c *client) post(ctx context.Context, to Sealed, id string, body []byte, now time.Time) answer {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, to.URL, bytes.NewReader(body))
	if err != nil {
		return answer{outcome: final, err: "the target's address cannot be used"}
	}
	key := to.Secret.key()
	if len(key) == 0 {
		return answer{outcome: final, err: "the target's signing key cannot be used"}
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", "crowsnest")
	req.Header.Set(headerID, id)
	req.Header.Set(headerTimestamp, strconv.FormatInt(now.Unix(), 10))
	req.Header.Set(headerSignature, Sign(key, id, now, body))
	resp, err := c.http.Do(req)
	if err != nil {
		// Only what failed before a connection was there surely was not received.
		var op *net.OpError
		dial := errors.As(err, &op) && op.Op == "dial"
		return answer{outcome: retry, maybe: !dial, err: withoutURL(err)}
	}
	defer resp.Body.Close()
	text, _ := io.ReadAll(io.LimitReader(resp.Body, maxAnswer)) // the status is what counts
	a := answer{status: resp.StatusCode, retryAfter: retryAfter(resp.Header.Get("Retry-After"), now)}
	switch {
	case resp.StatusCode >= 200 && resp.StatusCode < 300:
		a.outcome, a.maybe = delivered, true
		return a
	case resp.StatusCode == 400, resp.StatusCode == 410, resp.StatusCode == 413, resp.StatusCode == 422:
		a.outcome = final
	default:
		a.outcome = retry
		// An error of the receiver's own may have come after it acted.
		a.maybe = resp.StatusCode >= 500
	}
	a.err = "answered " + resp.Status
	if resp.StatusCode >= 300 && resp.StatusCode < 400 {
		a.err += "; redirects are not followed"
	}
	if said := printable(text); said != "" {
		a.err += ": " + said
	}
	return a
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
	return err.Error()
}

// printable bounds what a receiver said to one short line.
func printable(b []byte) string {
	s := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\uFFFD' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(string(b), " "))
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > 200 {
		s = string(r[:200]) + "…"
	}
	return s
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
