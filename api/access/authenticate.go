package access

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// minTokenLength is what a token in a file must have at least, so that nobody
// runs on "changeme". 16 characters of a random generator are 95 bits.
const minTokenLength = 16

// Token is what the server keeps of a token: never the token itself.
type Token struct {
	ID        string // of a stored token; empty for one given by a file
	Principal Principal
	Hash      [sha256.Size]byte
}

// Hash gives what is kept of a token. Tokens are long and random, so that a
// plain hash cannot be turned back and needs no salt.
func Hash(token string) [sha256.Size]byte { return sha256.Sum256([]byte(token)) }

// NewToken makes a token of a kind: 32 random bytes behind a prefix by which
// people and secret scanners know it.
func NewToken(kind Kind) string {
	prefix := "cna_"
	if kind == IngestToken {
		prefix = "cni_"
	}
	var b [32]byte
	_, _ = rand.Read(b[:]) // never fails
	return prefix + base64.RawURLEncoding.EncodeToString(b[:])
}

// ParseTokens reads the tokens of a file: one a line, so that an old and a new
// one hold at the same time while they are exchanged. Empty lines and lines that
// begin with # are left out.
func ParseTokens(text string) ([]string, error) {
	var tokens []string
	for i, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if len(line) < minTokenLength {
			return nil, fmt.Errorf("line %d: a token needs at least %d characters, this one has %d: %w", i+1, minTokenLength, len(line), fault.ErrInvalid)
		}
		tokens = append(tokens, line)
	}
	if len(tokens) == 0 {
		return nil, fmt.Errorf("no token in it: %w", fault.ErrInvalid)
	}
	return tokens, nil
}

// Options configure an Authenticator.
type Options struct {
	// Given are the tokens of the configuration.
	Given []Token
	// Loopback says that the server can be reached from its own machine only.
	// As long as there is no API token, whoever reaches it is its admin.
	Loopback bool
	// Used is told the ID of each stored token that was accepted; may be nil.
	// It must not block.
	Used func(id string)
}

// Authenticator finds out who asks. Its methods may be called concurrently.
type Authenticator struct {
	opts  Options
	known atomic.Pointer[keyring]

	mu     sync.Mutex
	stored []Token
}

// keyring is all tokens by hash; immutable.
type keyring struct {
	tokens map[[sha256.Size]byte]Token
	api    bool // there is an API token
}

// NewAuthenticator refuses a server that others can reach and nobody guards.
func NewAuthenticator(opts Options, stored []Token) (*Authenticator, error) {
	a := &Authenticator{opts: opts}
	a.SetStored(stored)
	if !opts.Loopback && !a.known.Load().api {
		return nil, fmt.Errorf("no API token is configured, and without one the server listens on loopback only: "+
			"give --api-token-file FILE, or listen on 127.0.0.1 once and run \"crowsnest token create --kind api NAME\": %w", fault.ErrInvalid)
	}
	return a, nil
}

// SetStored replaces the tokens that the store has.
func (a *Authenticator) SetStored(stored []Token) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.stored = stored
	ring := &keyring{tokens: make(map[[sha256.Size]byte]Token, len(stored)+len(a.opts.Given))}
	for _, list := range [][]Token{stored, a.opts.Given} {
		for _, t := range list {
			ring.tokens[t.Hash] = t
			ring.api = ring.api || t.Principal.Kind == APIToken
		}
	}
	a.known.Store(ring)
}

// Open says that requests need no credential now: whoever reaches the loopback
// listener is the local admin.
func (a *Authenticator) Open() bool { return a.opts.Loopback && !a.known.Load().api }

// Authenticate gives the principal of a request and nil, or no principal and
// nil when the request brings no credential but needs one, or an error: a
// credential that is unknown (fault.ErrUnauthenticated), or a request that a
// foreign web page made (fault.ErrForbidden).
func (a *Authenticator) Authenticate(r *http.Request) (*Principal, error) {
	if err := a.checkOrigin(r); err != nil {
		return nil, err
	}
	token, err := credential(r)
	if err != nil {
		return nil, err
	}
	ring := a.known.Load()
	if token == "" {
		if a.Open() {
			return &Principal{Kind: LocalAdmin, Name: "local"}, nil
		}
		return nil, nil
	}
	hash := Hash(token)
	t, ok := ring.tokens[hash]
	// The map is asked by hash, which tells an attacker by its timing nothing
	// about the token; the comparison is constant in time all the same.
	if !ok || subtle.ConstantTimeCompare(t.Hash[:], hash[:]) != 1 {
		return nil, fault.Because(fault.ErrUnauthenticated, fault.TokenUnknown)
	}
	if t.ID != "" && a.opts.Used != nil {
		a.opts.Used(t.ID)
	}
	p := t.Principal
	return &p, nil
}

// credential gives the token of the Authorization header: as a bearer token, or
// as the password of basic authentication, which is what browsers and Grafana's
// data sources can send by themselves.
func credential(r *http.Request) (string, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return "", nil
	}
	if len(values) > 1 {
		return "", fmt.Errorf("more than one Authorization header: %w", fault.ErrUnauthenticated)
	}
	if _, password, ok := r.BasicAuth(); ok {
		if password == "" {
			return "", fmt.Errorf("basic authentication without a password, which should be an API token: %w", fault.ErrUnauthenticated)
		}
		return password, nil
	}
	scheme, token, _ := strings.Cut(values[0], " ")
	token = strings.TrimSpace(token)
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return "", fmt.Errorf("the Authorization header is not \"Bearer TOKEN\": %w", fault.ErrUnauthenticated)
	}
	return token, nil
}

// checkOrigin refuses what web pages of others make a browser send. Without
// credentials the browser's place on this machine would be enough, so the name
// under which it was reached must be this machine's too: a page whose name was
// rebound to 127.0.0.1 still names itself.
func (a *Authenticator) checkOrigin(r *http.Request) error {
	if a.Open() && !loopbackHost(r.Host) {
		return fmt.Errorf("without API tokens the server answers only to its loopback names (localhost, 127.0.0.1, [::1]), not to %q: "+
			"open it by such a name, or create an API token: %w", r.Host, fault.ErrForbidden)
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		u, err := url.Parse(origin)
		if err != nil || !strings.EqualFold(u.Host, r.Host) || u.Host == "" {
			return fmt.Errorf("the request comes from a page of %q, which is not this server (%s): %w", origin, r.Host, fault.ErrForbidden)
		}
		return nil
	}
	// Browsers say more than Origin: a plain GET by an image or a script tag of a
	// foreign page has none. Following a link is allowed.
	site := r.Header.Get("Sec-Fetch-Site")
	navigates := r.Header.Get("Sec-Fetch-Mode") == "navigate" && (r.Method == http.MethodGet || r.Method == http.MethodHead)
	if site != "" && site != "same-origin" && site != "none" && !navigates {
		return fmt.Errorf("the request comes from a page that is not this server's: %w", fault.ErrForbidden)
	}
	return nil
}

func loopbackHost(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// LoopbackAddress says whether a listener on addr can be reached from its own
// machine only.
func LoopbackAddress(addr net.Addr) bool {
	tcp, ok := addr.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}

// Middleware puts the principal into the request's context. A request without
// one goes on only where open says so; refuse answers all that is refused.
func (a *Authenticator) Middleware(next http.Handler, open func(*http.Request) bool, refuse func(http.ResponseWriter, *http.Request, error)) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p, err := a.Authenticate(r)
		switch {
		case err != nil && !(open(r) && isProbe(r)):
			refuse(w, r, err)
			return
		case p != nil:
			r = r.WithContext(With(r.Context(), *p))
		case p == nil && !open(r):
			refuse(w, r, fault.Because(fault.ErrUnauthenticated, fault.CredentialNone))
			return
		}
		next.ServeHTTP(w, r)
	})
}

// isProbe tells the two routes that a kubelet or a load balancer asks by
// whatever name and address it has.
func isProbe(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/readyz" }
