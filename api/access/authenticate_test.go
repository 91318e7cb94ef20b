package access

import (
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func given(kind Kind, cluster, token string) Token {
	return Token{Principal: Principal{Kind: kind, Name: "t", Cluster: cluster}, Hash: Hash(token)}
}

func TestAuthenticate(t *testing.T) {
	api, ingest := NewToken(APIToken), NewToken(IngestToken)
	closed := []Token{given(APIToken, "", api), given(IngestToken, "prod-1", ingest)}
	onlyIngest := closed[1:]
	type header map[string]string
	for name, tc := range map[string]struct {
		tokens []Token
		host   string
		method string
		header header
		want   Kind // "" for nobody
		err    error
	}{
		"open: whoever is local is admin":         {nil, "127.0.0.1:7420", "GET", nil, LocalAdmin, nil},
		"open: by name":                           {nil, "localhost:7420", "GET", nil, LocalAdmin, nil},
		"open: IPv6":                              {nil, "[::1]:7420", "GET", nil, LocalAdmin, nil},
		"open: another loopback address":          {nil, "127.1.2.3", "GET", nil, LocalAdmin, nil},
		"open: a rebound name":                    {nil, "evil.example:7420", "GET", nil, "", fault.ErrForbidden},
		"open: a name that only looks local":      {nil, "localhost.evil.example", "GET", nil, "", fault.ErrForbidden},
		"open: an address of another machine":     {nil, "10.0.0.7:7420", "GET", nil, "", fault.ErrForbidden},
		"open: no host":                           {nil, "", "GET", nil, "", fault.ErrForbidden},
		"open: a page of ours":                    {nil, "localhost:7420", "POST", header{"Origin": "http://localhost:7420", "Sec-Fetch-Site": "same-origin"}, LocalAdmin, nil},
		"open: a foreign page":                    {nil, "localhost:7420", "POST", header{"Origin": "https://evil.example"}, "", fault.ErrForbidden},
		"open: a page of another local port":      {nil, "localhost:7420", "POST", header{"Origin": "http://localhost:3000"}, "", fault.ErrForbidden},
		"open: a page without an origin":          {nil, "localhost:7420", "POST", header{"Origin": "null"}, "", fault.ErrForbidden},
		"open: a foreign page's image":            {nil, "localhost:7420", "GET", header{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"}, "", fault.ErrForbidden},
		"open: a link on a foreign page":          {nil, "localhost:7420", "GET", header{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, LocalAdmin, nil},
		"open: a form on a foreign page":          {nil, "localhost:7420", "POST", header{"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}, "", fault.ErrForbidden},
		"open: a wrong token is no local admin":   {nil, "localhost:7420", "GET", header{"Authorization": "Bearer wrongwrongwrongwrong"}, "", fault.ErrUnauthenticated},
		"ingest tokens alone do not close it":     {onlyIngest, "localhost", "GET", nil, LocalAdmin, nil},
		"open: an ingest token is what it is":     {onlyIngest, "localhost", "POST", header{"Authorization": "Bearer " + ingest}, IngestToken, nil},
		"closed: nobody":                          {closed, "crowsnest.example", "GET", nil, "", nil},
		"closed: not even from this machine":      {closed, "127.0.0.1:7420", "GET", nil, "", nil},
		"closed: an API token, under any name":    {closed, "crowsnest.example", "GET", header{"Authorization": "Bearer " + api}, APIToken, nil},
		"closed: the scheme in lower case":        {closed, "crowsnest.example", "GET", header{"Authorization": "bearer " + api}, APIToken, nil},
		"closed: as a password":                   {closed, "crowsnest.example", "GET", header{"Authorization": basic("any", api)}, APIToken, nil},
		"closed: an empty password":               {closed, "crowsnest.example", "GET", header{"Authorization": basic("any", "")}, "", fault.ErrUnauthenticated},
		"closed: an ingest token":                 {closed, "crowsnest.example", "POST", header{"Authorization": "Bearer " + ingest}, IngestToken, nil},
		"closed: a wrong token":                   {closed, "crowsnest.example", "GET", header{"Authorization": "Bearer " + api[:len(api)-1] + "!"}, "", fault.ErrUnauthenticated},
		"closed: another scheme":                  {closed, "crowsnest.example", "GET", header{"Authorization": "Digest x"}, "", fault.ErrUnauthenticated},
		"closed: no token behind the scheme":      {closed, "crowsnest.example", "GET", header{"Authorization": "Bearer "}, "", fault.ErrUnauthenticated},
		"closed: a foreign page with a password":  {closed, "crowsnest.example", "POST", header{"Origin": "https://evil.example", "Authorization": basic("x", api)}, "", fault.ErrForbidden},
		"closed: the hash is not the credential":  {closed, "crowsnest.example", "GET", header{"Authorization": "Bearer " + string(closed[0].Hash[:])}, "", fault.ErrUnauthenticated},
		"closed: behind a proxy, a page of it":    {closed, "crowsnest.example", "POST", header{"Origin": "https://crowsnest.example", "Authorization": "Bearer " + api}, APIToken, nil},
		"closed: a page of another name there":    {closed, "crowsnest.example", "POST", header{"Origin": "https://other.example", "Authorization": "Bearer " + api}, "", fault.ErrForbidden},
		"closed: an origin that cannot be parsed": {closed, "crowsnest.example", "POST", header{"Origin": "::", "Authorization": "Bearer " + api}, "", fault.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			a, err := NewAuthenticator(Options{Given: tc.tokens, Loopback: true}, nil)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(tc.method, "/x", nil)
			r.Host = tc.host
			for k, v := range tc.header {
				r.Header.Set(k, v)
			}
			p, err := a.Authenticate(r)
			if !errors.Is(err, tc.err) || (err == nil) != (tc.err == nil) {
				t.Fatalf("got error %v, want %v", err, tc.err)
			}
			var got Kind
			if p != nil {
				got = p.Kind
			}
			if got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
			if got == IngestToken && p.Cluster != "prod-1" {
				t.Errorf("the ingest token stands for cluster %q", p.Cluster)
			}
		})
	}
}

func basic(user, password string) string {
	r := httptest.NewRequest("GET", "/", nil)
	r.SetBasicAuth(user, password)
	return r.Header.Get("Authorization")
}

func TestOthersReachOnlyAGuardedServer(t *testing.T) {
	if _, err := NewAuthenticator(Options{}, nil); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), "--api-token-file") {
		t.Errorf("got %v, want a refusal that says what to do", err)
	}
	if _, err := NewAuthenticator(Options{}, []Token{given(IngestToken, "a", "x")}); err == nil {
		t.Error("an ingest token guards nothing that is read")
	}
	if _, err := NewAuthenticator(Options{}, []Token{given(APIToken, "", "x")}); err != nil {
		t.Errorf("a stored API token is enough: %v", err)
	}
}

func TestTheFirstStoredAPITokenClosesTheServer(t *testing.T) {
	var used []string
	a, err := NewAuthenticator(Options{Loopback: true, Used: func(id string) { used = append(used, id) }}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !a.Open() {
		t.Fatal("want it open at first")
	}
	token := NewToken(APIToken)
	a.SetStored([]Token{{ID: "tok_1", Principal: Principal{Kind: APIToken}, Hash: Hash(token)}})
	if a.Open() {
		t.Error("still open")
	}
	r := httptest.NewRequest("GET", "/", nil)
	r.Header.Set("Authorization", "Bearer "+token)
	if p, err := a.Authenticate(r); err != nil || p == nil || len(used) != 1 || used[0] != "tok_1" {
		t.Errorf("got %v, %v, used %v", p, err, used)
	}
	a.SetStored(nil)
	if p, err := a.Authenticate(r); err == nil {
		t.Errorf("a deleted token still works: %v", p)
	}
}

func TestMiddleware(t *testing.T) {
	a, err := NewAuthenticator(Options{Given: []Token{given(APIToken, "", "0123456789abcdef")}, Loopback: true}, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := a.Middleware(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p, ok := From(r.Context()); ok {
			w.Header().Set("Principal", string(p.Kind))
		}
	}), func(r *http.Request) bool { return r.URL.Path == "/healthz" || r.URL.Path == "/assets/x.js" },
		func(w http.ResponseWriter, _ *http.Request, err error) {
			w.WriteHeader(http.StatusTeapot)
			_, _ = w.Write([]byte(err.Error()))
		})
	for name, tc := range map[string]struct {
		path, token, origin string
		refused             bool
		principal           string
	}{
		"no credential":                         {path: "/api", refused: true},
		"with one":                              {path: "/api", token: "0123456789abcdef", principal: "api_token"},
		"an open path":                          {path: "/assets/x.js"},
		"an open path with a wrong credential":  {path: "/assets/x.js", token: "no", refused: true},
		"a probe with a wrong credential":       {path: "/healthz", token: "no"},
		"a probe from a foreign page":           {path: "/healthz", origin: "https://evil.example"},
		"an open path asked by a foreign page":  {path: "/assets/x.js", origin: "https://evil.example", refused: true},
		"a credential, asked by a foreign page": {path: "/api", token: "0123456789abcdef", origin: "https://evil.example", refused: true},
	} {
		r := httptest.NewRequest("GET", tc.path, nil)
		if tc.token != "" {
			r.Header.Set("Authorization", "Bearer "+tc.token)
		}
		if tc.origin != "" {
			r.Header.Set("Origin", tc.origin)
		}
		rec := httptest.NewRecorder()
		h.ServeHTTP(rec, r)
		if (rec.Code == http.StatusTeapot) != tc.refused || rec.Header().Get("Principal") != tc.principal {
			t.Errorf("%s: got %d, principal %q, %s", name, rec.Code, rec.Header().Get("Principal"), rec.Body)
		}
	}
}

func TestParseTokens(t *testing.T) {
	got, err := ParseTokens("# old and new\n0123456789abcdef\n\n  fedcba9876543210  \n")
	if err != nil || len(got) != 2 || got[1] != "fedcba9876543210" {
		t.Errorf("got %q, %v", got, err)
	}
	for name, text := range map[string]string{"empty": "\n# nothing\n", "short": "changeme"} {
		if _, err := ParseTokens(text); !errors.Is(err, fault.ErrInvalid) || strings.Contains(err.Error(), "changeme") {
			t.Errorf("%s: got %v, want a refusal without the token", name, err)
		}
	}
}

func TestLoopbackAddress(t *testing.T) {
	for addr, want := range map[string]bool{"127.0.0.1:1": true, "[::1]:1": true, "0.0.0.0:1": false, "[::]:1": false, "10.0.0.1:1": false} {
		tcp, err := net.ResolveTCPAddr("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if got := LoopbackAddress(tcp); got != want {
			t.Errorf("%s: got %v", addr, got)
		}
	}
}
