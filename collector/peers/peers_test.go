package peers

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a network of one peer: its kubelet, its collector, and the server that
// names it.
type world struct {
	t       *testing.T
	source  *Source
	now     time.Time
	asked   int
	answer  []wire.Peer
	err     error
	healthy int // status of the collector
	lacking string
}

func newWorld(t *testing.T) *world {
	w := &world{t: t, now: time.Unix(1_800_000_000, 0), healthy: http.StatusOK}
	var err error
	w.source, err = New(Options{
		Node: "n-1", Now: func() time.Time { return w.now },
		Ask: func(_ context.Context, node string) ([]wire.Peer, error) {
			w.asked++
			if node != "n-1" {
				t.Errorf("asked for the peers of %q", node)
			}
			return w.answer, w.err
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

func (w *world) collector() *httptest.Server {
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/healthz" || r.Header.Get("Authorization") != "" {
			w.t.Errorf("asked for %s with credential %q", r.URL.Path, r.Header.Get("Authorization"))
		}
		rw.WriteHeader(w.healthy)
	}))
	w.t.Cleanup(s.Close)
	return s
}

func (w *world) kubelet() *httptest.Server {
	s := httptest.NewTLSServer(http.NotFoundHandler())
	w.t.Cleanup(s.Close)
	return s
}

func peer(kubelet, collector string) wire.Peer {
	at := netip.MustParseAddrPort(kubelet)
	return wire.Peer{Node: "n-2", Address: at.Addr().String(), KubeletPort: int32(at.Port()), Collector: collector}
}

func address(s *httptest.Server) string { return s.Listener.Addr().String() }

// free is an address at which nobody listens.
func free(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// read asks half a minute later, and gives the answers and the votes as text.
func (w *world) read() (answers, votes string) {
	w.t.Helper()
	w.now = w.now.Add(30 * time.Second)
	sets := w.source.Read(w.t.Context(), w.now, nil)
	if len(sets) != 1 || sets[0].Counts() || sets[0].Node != "n-1" || sets[0].Err != nil {
		w.t.Fatalf("sets are %+v", sets)
	}
	w.lacking = sets[0].Lacking[catalogue.NodePeerReached]
	var as, vs []string
	for _, a := range w.source.Answers() {
		as = append(as, a.Probe+" "+a.Result)
		if (a.Error == "") != (a.Result == wire.PeerReached) {
			w.t.Errorf("%s is %s, with error %q", a.Probe, a.Result, a.Error)
		}
	}
	for _, p := range sets[0].Peers {
		vs = append(vs, fmt.Sprintf("%s %s %v", p.Node, p.Probe, p.Reached))
	}
	return strings.Join(as, ", "), strings.Join(vs, ", ")
}

func TestWhatAnswers(t *testing.T) {
	w := newWorld(t)
	kubelet, collector := w.kubelet(), w.collector()
	w.answer = []wire.Peer{peer(address(kubelet), address(collector))}
	if got, _ := w.read(); got != "" {
		t.Fatalf("before there are peers: %q", got)
	}
	const well = "collector reached, kubelet reached, node reached"
	if got, votes := w.read(); got != well || votes != "n-2 collector true, n-2 kubelet true, n-2 node true" {
		t.Fatalf("%s; %s", got, votes)
	}
	w.healthy = http.StatusServiceUnavailable
	if got, _ := w.read(); got != "collector unwell, kubelet reached, node reached" {
		t.Errorf("a collector that does not work: %s", got)
	}
	// The collector is replaced, and has another address: the failure has the server
	// asked at once, though a minute has not passed.
	collector.Close()
	w.healthy = http.StatusOK
	before := w.asked
	w.answer = []wire.Peer{peer(address(kubelet), address(w.collector()))}
	if got, votes := w.read(); got != "collector refused, kubelet reached, node reached" || votes != "n-2 collector false, n-2 kubelet true, n-2 node true" {
		t.Errorf("no collector: %s; %s", got, votes)
	}
	if w.asked != before+1 {
		t.Errorf("the server was asked %d times", w.asked-before)
	}
	if got, _ := w.read(); got != well {
		t.Errorf("the new collector: %s", got)
	}
	kubelet.Close()
	if got, _ := w.read(); got != "collector reached, kubelet refused, node reached" {
		t.Errorf("the kubelet is gone, its node is not: %s", got)
	}
	// What was known stays while the server cannot be asked.
	w.answer, w.err = nil, errors.New("server is away")
	if got, _ := w.read(); got != "collector reached, kubelet refused, node reached" {
		t.Errorf("without the server: %s", got)
	}
	w.err = nil
	w.read()
	if got, votes := w.read(); got != "" || votes != "" || w.lacking != "there is no other node to ask" {
		t.Errorf("without peers: %s; %s; %s", got, votes, w.lacking)
	}
}

// A kubelet that accepts and says nothing is down, its node is not.
func TestAStuckKubelet(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // nobody accepts: the kernel does
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	w := newWorld(t)
	w.source.reached[wire.ProbeKubelet] = true
	w.answer = []wire.Peer{peer(l.Addr().String(), "")}
	w.read()
	if got, votes := w.read(); got != "kubelet no_answer, node reached" || votes != "n-2 kubelet false, n-2 node true" {
		t.Errorf("%s; %s", got, votes)
	}
}

// Where a policy of the network drops what is asked, nothing is ever answered;
// that says nothing of the peers.
func TestWhatIsForbiddenIsNoVote(t *testing.T) {
	w := newWorld(t)
	kubelet := w.kubelet()
	w.answer = []wire.Peer{peer(address(kubelet), free(t))}
	w.read()
	if got, votes := w.read(); got != "collector forbidden, kubelet reached, node reached" || votes != "n-2 kubelet true, n-2 node true" {
		t.Errorf("%s; %s", got, votes)
	}
	kubelet.Close()
	w.source.reached = map[string]bool{} // as after a start
	if got, votes := w.read(); got != "collector forbidden, kubelet forbidden, node reached" || votes != "n-2 node true" || w.lacking != "" {
		t.Errorf("%s; %s; %s", got, votes, w.lacking) // a refusal is an answer of the node
	}
	kubelet = w.kubelet()
	w.answer = []wire.Peer{peer(address(kubelet), w.answer[0].Collector)}
	w.now = w.now.Add(learnEvery)
	w.read()
	// Another peer answers: now it is known to be allowed.
	other := peer(address(kubelet), address(w.collector()))
	other.Node = "n-3"
	w.answer = append(w.answer, other)
	w.now = w.now.Add(learnEvery)
	w.read()
	if got, _ := w.read(); !strings.HasPrefix(got, "collector refused, kubelet reached, node reached, collector reached") {
		t.Errorf("%s", got)
	}
}

func TestErrorsAndWhatTheyMean(t *testing.T) {
	w := newWorld(t)
	for want, errs := range map[string][]error{
		wire.PeerReached: {nil},
		wire.PeerRefused: {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}},
		wire.PeerSilent:  {context.DeadlineExceeded, &net.OpError{Op: "dial", Err: syscall.EHOSTUNREACH}, &net.OpError{Op: "read", Err: syscall.ETIMEDOUT}},
		wire.PeerUnwell:  {errUnwell, errors.New("tls: first record does not look like a TLS handshake")},
	} {
		for _, err := range errs {
			if a := w.source.answer("n", wire.ProbeNode, err); a.Result != want {
				t.Errorf("%v is %s, want %s", err, a.Result, want)
			}
		}
	}
}

func TestWhoIsNotAsked(t *testing.T) {
	w := newWorld(t)
	w.answer = []wire.Peer{
		{Node: "n-1", Address: "127.0.0.1"}, {Address: "127.0.0.1"},
		{Node: "a", Address: "0.0.0.0", Collector: "224.0.0.1:80"}, {Node: "b", Address: "169.254.169.254", Collector: "169.254.169.254:80"},
		{Node: "c", Address: "not an address", Collector: "crowsnest.example:80"},
	}
	w.read()
	if got, _ := w.read(); got != "" {
		t.Errorf("asked %s", got)
	}
	w.answer = nil
	for i := range 50 {
		w.answer = append(w.answer, wire.Peer{Node: fmt.Sprint("p", i)})
	}
	w.now = w.now.Add(learnEvery)
	w.read()
	if len(w.source.peers) != most {
		t.Errorf("%d peers are asked", len(w.source.peers))
	}
}

// At an interval of 10 s peers are asked at every third.
func TestPeersAreNotAskedMoreOften(t *testing.T) {
	w := newWorld(t)
	w.answer = []wire.Peer{peer(address(w.kubelet()), "")}
	w.read()
	w.read()
	at := w.source.Answers()[0].At
	w.now = w.now.Add(10 * time.Second)
	if sets := w.source.Read(t.Context(), w.now, nil); len(sets[0].Peers) != 2 || !w.source.Answers()[0].At.Equal(at) {
		t.Errorf("asked again after 10 s: %+v", sets)
	}
}
