package notify

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"time"

	commoncfg "github.com/prometheus/common/config"
)

// relay stands between Alertmanager's notifiers and the world. They make HTTP
// clients of their own; what those dial is this end of a pipe, whose other end
// makes the request again by our client: guarded, bounded, and on record.
type relay struct {
	client *client
	cert   tls.Certificate
}

func newRelay(c *client) *relay {
	// For the pipe inside the process only; nobody checks it.
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic("BUG: " + err.Error()) // rand.Reader never fails
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Date(2100, 1, 1, 0, 0, 0, 0, time.UTC)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return &relay{client: c, cert: tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
}

// relayCall is one attempt through the relay.
type relayCall struct {
	relay *relay
	ctx   context.Context //nolint:containedctx // of the attempt, which the call belongs to
	now   time.Time
	wg    sync.WaitGroup
	mu    sync.Mutex
	conns []net.Conn
	last  answer
	asked bool
}

func (r *relay) call(ctx context.Context, now time.Time) *relayCall {
	return &relayCall{relay: r, ctx: ctx, now: now}
}

// options make a notifier's client dial the relay.
func (c *relayCall) options() []commoncfg.HTTPClientOption {
	return []commoncfg.HTTPClientOption{
		commoncfg.WithKeepAlivesDisabled(), commoncfg.WithHTTP2Disabled(), commoncfg.WithUserAgent("crowsnest"),
		commoncfg.WithNewTLSConfigFunc(func(context.Context, *commoncfg.TLSConfig, ...commoncfg.TLSConfigOption) (*tls.Config, error) {
			return &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: true}, nil //nolint:gosec // the other end is in this process
		}),
		commoncfg.WithDialContextFunc(func(context.Context, string, string) (net.Conn, error) {
			ours, theirs := net.Pipe()
			c.mu.Lock()
			c.conns = append(c.conns, ours)
			c.mu.Unlock()
			c.wg.Go(func() {
				defer ours.Close()
				c.serve(ours)
			})
			return theirs, nil
		}),
	}
}

// close ends what is still going on.
func (c *relayCall) close() {
	c.mu.Lock()
	for _, conn := range c.conns {
		_ = conn.Close()
	}
	c.mu.Unlock()
	c.wg.Wait()
}

// serve makes one request again, to where it was meant to go.
func (c *relayCall) serve(conn net.Conn) {
	if deadline, ok := c.ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	in := bufio.NewReader(conn)
	first, err := in.Peek(1)
	if err != nil {
		return
	}
	scheme := "http"
	var out io.Writer = conn
	if first[0] == 0x16 { // a TLS handshake
		scheme = "https"
		secure := tls.Server(peeked{conn, in}, &tls.Config{Certificates: []tls.Certificate{c.relay.cert}, MinVersion: tls.VersionTLS12})
		in, out = bufio.NewReader(secure), secure
	}
	asked, err := http.ReadRequest(in)
	if err != nil {
		return
	}
	body, err := io.ReadAll(io.LimitReader(asked.Body, maxMaxBytes+1))
	if err != nil || len(body) > maxMaxBytes {
		return
	}
	req, err := http.NewRequestWithContext(c.ctx, asked.Method, scheme+"://"+asked.Host+asked.URL.RequestURI(), bytes.NewReader(body))
	if err != nil {
		return
	}
	for _, name := range []string{"Content-Type", "Authorization", "Accept"} {
		if v := asked.Header.Get(name); v != "" {
			req.Header.Set(name, v)
		}
	}
	req.Header.Set("User-Agent", "crowsnest")
	a, text := c.relay.client.do(req, body, c.now)
	c.mu.Lock()
	c.last, c.asked = a, true
	c.mu.Unlock()
	if a.status == 0 {
		return // the notifier sees a connection that broke off
	}
	resp := &http.Response{
		StatusCode: a.status, ProtoMajor: 1, ProtoMinor: 1, Request: asked, ContentLength: int64(len(text)), Body: io.NopCloser(bytes.NewReader(text)), Close: true,
		Header: http.Header{"Content-Type": {a.contentType}},
	}
	_ = resp.Write(out) // the notifier says when it did not get it
	if secure, ok := out.(*tls.Conn); ok {
		_ = secure.Close()
	}
}

// answer is what came of the call: what the receiver said, and what the notifier
// made of it.
func (c *relayCall) answer(err error) answer {
	c.mu.Lock()
	a, asked := c.last, c.asked
	c.mu.Unlock()
	switch {
	case err == nil && !asked:
		a.outcome, a.err = retry, "nothing was sent"
	case err == nil: // and it was no error of HTTP's either
	case !asked: // it did not come to a request
		a.outcome, a.err = retry, withoutURL(err)
		if errors.Is(c.ctx.Err(), context.DeadlineExceeded) {
			a.err = "no answer in time"
		}
	case a.outcome == delivered:
		// 200, and "no" in the body. What is wrong there can often be mended, as a
		// channel that was archived, so that it is tried again.
		a.outcome, a.maybe, a.err = retry, false, printable([]byte(withoutURL(err)), 300)
	}
	return a
}

// peeked gives back what was looked at.
type peeked struct {
	net.Conn
	in *bufio.Reader
}

func (p peeked) Read(b []byte) (int, error) { return p.in.Read(b) }

// door is a listener on loopback that leads one connection to a receiver.
type door struct {
	address string
	in      net.Listener
	out     net.Conn
	stop    func() bool
	wg      sync.WaitGroup
	mu      sync.Mutex
	inner   net.Conn
	tail    []byte
}

func openDoor(ctx context.Context, out net.Conn) (*door, error) {
	in, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	d := &door{address: in.Addr().String(), in: in, out: out}
	d.stop = context.AfterFunc(ctx, d.shut)
	d.wg.Go(func() {
		inner, err := in.Accept()
		_ = in.Close() // one connection only
		if err != nil {
			return
		}
		d.mu.Lock()
		d.inner = inner
		d.mu.Unlock()
		if ctx.Err() != nil {
			d.shut()
		}
		d.wg.Go(func() {
			_, _ = io.Copy(out, inner)
			d.shut()
		})
		_, _ = io.Copy(io.MultiWriter(inner, d), out)
		d.shut()
	})
	return d, nil
}

// Write keeps the end of what the receiver said.
func (d *door) Write(p []byte) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tail = append(d.tail, p...)
	if over := len(d.tail) - keepAnswer; over > 0 {
		d.tail = d.tail[over:]
	}
	return len(p), nil
}

// heard is the end of what the receiver said, when it can be read: under TLS it
// cannot.
func (d *door) heard() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, b := range d.tail {
		if b > 0x7e || (b < ' ' && b != '\r' && b != '\n' && b != '\t') {
			return ""
		}
	}
	return printable(d.tail, keepAnswer)
}

func (d *door) shut() {
	_ = d.in.Close()
	_ = d.out.Close()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.inner != nil {
		_ = d.inner.Close()
	}
}

func (d *door) close() {
	d.stop()
	d.shut()
	d.wg.Wait()
}
