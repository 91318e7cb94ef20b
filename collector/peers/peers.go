// Package peers asks a few other nodes, from this one, whether they are there:
// anything at their address, their kubelet, the collector on them. It owns what
// counts as an answer and which failures say something of the peer. Which nodes
// are asked is the server's word; it must not know what is made of the answers.
package peers

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/collector/state"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	// every is how often a peer is asked at most, whatever the interval.
	every = 30 * time.Second
	// patience is for one question. The kernel asks a second time after one
	// second, so that a single lost packet is no silence.
	patience = 1500 * time.Millisecond
	// learnEvery is how often the server is asked for the peers. After a failure it
	// is asked at once: a collector that was replaced has another address.
	learnEvery = time.Minute
	// most bounds the peers, whatever the server says.
	most = 5
)

// Options of a Source.
type Options struct {
	Node string // this one; required
	// Ask gives the peers; push.Client has it. Required.
	Ask    func(ctx context.Context, node string) ([]wire.Peer, error)
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Source asks peers. Read must not be called concurrently with itself.
type Source struct {
	o    Options
	now  func() time.Time
	http *http.Client

	asked   time.Time
	learned time.Time
	failed  bool // the last answers had a failure that a new address may explain
	said    string
	reached map[string]bool // kinds of probes that some peer has answered

	mu      sync.Mutex
	known   bool // the server has named the peers, none perhaps
	peers   []wire.Peer
	answers []wire.PeerAnswer
}

// New checks the options; it does not connect.
func New(o Options) (*Source, error) {
	if o.Node == "" || o.Ask == nil {
		return nil, errors.New("peers: Node and Ask are required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Source{o: o, now: o.Now, reached: map[string]bool{}, http: &http.Client{
		// A connection of its own for each question: an open one would hide that no
		// new one can be made.
		Transport:     &http.Transport{DisableKeepAlives: true, Proxy: nil},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Name of the source, for health and metrics.
func (s *Source) Name() string { return string(catalogue.Peers) }

// Answers are the newest, by node and probe.
func (s *Source) Answers() []wire.PeerAnswer {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.answers)
}

// Read asks every peer, and gives what it answered, as long as that says
// something of the peer. That a server cannot be asked for the peers is no error:
// those of before are asked.
func (s *Source) Read(ctx context.Context, _ time.Time, _ *state.Snapshot) []reading.Set {
	began := s.now()
	s.mu.Lock()
	peers := s.peers // what is learned meanwhile is for the next time
	s.mu.Unlock()
	var wg sync.WaitGroup
	if s.failed || began.Sub(s.learned) >= learnEvery {
		s.learned = began
		wg.Go(func() { s.learn(ctx) })
	}
	if began.Sub(s.asked) >= every-every/6 {
		if answers := s.ask(ctx, peers); ctx.Err() == nil {
			s.asked = began
			s.note(answers)
		}
	}
	wg.Wait()
	set := reading.Set{Node: s.o.Node, Source: catalogue.Peers, Partial: true, Took: s.now().Sub(began)}
	answers := s.Answers()
	for _, a := range answers {
		if a.Result != wire.PeerForbidden {
			set.Peers = append(set.Peers, reading.Peer{Node: a.Node, Probe: a.Probe, Reached: a.Result == wire.PeerReached, At: a.At})
		}
	}
	s.mu.Lock()
	known := s.known
	s.mu.Unlock()
	lacking := func(why string) {
		set.Lacking = map[string]string{catalogue.NodePeerReached: why, catalogue.NodePeersReached: why}
	}
	switch {
	case len(set.Peers) > 0 || !known:
	case len(answers) > 0:
		lacking("no other node has ever answered this one: a network policy may forbid that it asks")
	case len(peers) == 0:
		lacking("there is no other node to ask")
	}
	return []reading.Set{set}
}

// learn asks the server for the peers.
func (s *Source) learn(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	peers, err := s.o.Ask(ctx, s.o.Node)
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text != s.said && text != "" {
		s.o.Logger.Debug("learn peers", "err", err)
	}
	s.said = text
	if err != nil {
		return
	}
	peers = slices.DeleteFunc(peers, func(p wire.Peer) bool { return p.Node == "" || p.Node == s.o.Node })
	peers = peers[:min(len(peers), most)]
	s.mu.Lock()
	defer s.mu.Unlock()
	s.peers, s.known = peers, true
}

// ask asks all peers at the same time.
func (s *Source) ask(ctx context.Context, peers []wire.Peer) []wire.PeerAnswer {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var (
		wg  sync.WaitGroup
		mu  sync.Mutex
		out []wire.PeerAnswer
	)
	put := func(answers ...wire.PeerAnswer) {
		mu.Lock()
		defer mu.Unlock()
		out = append(out, answers...)
	}
	for _, p := range peers {
		if ip, err := netip.ParseAddr(p.Address); err == nil && allowed(ip) {
			at := net.JoinHostPort(p.Address, strconv.Itoa(int(cmp.Or(p.KubeletPort, 10250))))
			wg.Go(func() { put(s.askNode(ctx, p.Node, at)...) })
		}
		if at, err := netip.ParseAddrPort(p.Collector); err == nil && allowed(at.Addr()) {
			wg.Go(func() { put(s.askCollector(ctx, p.Node, p.Collector)) })
		}
	}
	wg.Wait()
	slices.SortFunc(out, func(a, b wire.PeerAnswer) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.Probe, b.Probe))
	})
	return out
}

// allowed keeps this node's own addresses and groups of machines from being asked.
func allowed(ip netip.Addr) bool {
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && !ip.IsLinkLocalUnicast()
}

// askNode connects to the kubelet's port. A refused connection is an answer of the
// node, a TLS handshake one of the kubelet: nothing secret is said, and the
// certificate is not looked at, so that no credential is needed.
func (s *Source) askNode(ctx context.Context, node, at string) []wire.PeerAnswer {
	answer := func(probe string, err error) wire.PeerAnswer { return s.answer(node, probe, err) }
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", at)
	if err != nil {
		there := err
		if errors.Is(err, syscall.ECONNREFUSED) {
			there = nil
		}
		return []wire.PeerAnswer{answer(wire.ProbeNode, there), answer(wire.ProbeKubelet, err)}
	}
	defer conn.Close()
	// Nothing is sent over it but the handshake.
	err = tls.Client(conn, &tls.Config{InsecureSkipVerify: true, MinVersion: tls.VersionTLS12}).HandshakeContext(ctx)
	return []wire.PeerAnswer{answer(wire.ProbeNode, nil), answer(wire.ProbeKubelet, err)}
}

// errUnwell is an answer of a collector that is not well.
var errUnwell = errors.New("it is not well")

func (s *Source) askCollector(ctx context.Context, node, at string) wire.PeerAnswer {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+at+"/healthz", nil)
	if err != nil {
		return s.answer(node, wire.ProbeCollector, err)
	}
	resp, err := s.http.Do(req)
	if err != nil {
		return s.answer(node, wire.ProbeCollector, err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 200))
		err = fmt.Errorf("%w: %s: %s", errUnwell, resp.Status, strings.TrimSpace(strings.ToValidUTF8(string(text), "?")))
	}
	return s.answer(node, wire.ProbeCollector, err)
}

// answer says what an error means.
func (s *Source) answer(node, probe string, err error) wire.PeerAnswer {
	a := wire.PeerAnswer{Node: node, Probe: probe, Result: wire.PeerReached, At: s.now().UTC()}
	if err == nil {
		return a
	}
	a.Error = err.Error()
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		a.Result = wire.PeerRefused
	case errors.Is(err, errUnwell):
		a.Result = wire.PeerUnwell
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(),
		errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTDOWN):
		a.Result = wire.PeerSilent
	default:
		a.Result = wire.PeerUnwell
	}
	return a
}

// note keeps answers. A failure of a probe that no peer has ever answered says
// nothing of the peer: a policy of the network forbids it, or it is asked of the
// wrong port.
func (s *Source) note(answers []wire.PeerAnswer) {
	for _, a := range answers {
		if a.Result == wire.PeerReached {
			s.reached[a.Probe] = true
		}
	}
	s.failed = false
	for i := range answers {
		a := &answers[i]
		switch {
		case a.Result == wire.PeerReached:
		case !s.reached[a.Probe]:
			a.Result = wire.PeerForbidden
		default:
			s.failed = true
		}
	}
	s.mu.Lock()
	s.answers = answers
	s.mu.Unlock()
}
