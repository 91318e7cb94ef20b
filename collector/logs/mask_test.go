package logs

import (
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const jwt = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"

func TestMask(t *testing.T) {
	counted := map[string]int{}
	m, err := newMasker(MaskOptions{Patterns: []string{`card=(\d{4})-(\d{4})`, `employee [0-9]+`}}, func(rule string) { counted[rule]++ })
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{
		"nothing to hide":                        "nothing to hide",
		"":                                       "",
		"x":                                      "x",
		"Authorization: Bearer abcdefgh12345678": "Authorization: Bearer ***",
		"sent bearer abcdefgh12345678, ok":       "sent bearer ***, ok",
		"the bearer of this":                     "the bearer of this",
		`{"authorization":"Basic dXNlcjpwYXNz","n":1}`: `{"authorization":"Basic ***","n":1}`,
		"token " + jwt + " end":                        "token *** end",
		"eyJ.a.b":                                      "eyJ.a.b",
		"key AKIAIOSFODNN7EXAMPLE used":                "key *** used",
		"AKIAIOSFODNN7EXAMPLEX":                        "AKIAIOSFODNN7EXAMPLEX",
		"aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY": "aws_secret_access_key = ***",
		"postgres://cart:s3cr3t@db:5432/shop?sslmode=off":                  "postgres://cart:***@db:5432/shop?sslmode=off",
		"redis://:p@ss@cache:6379":                                         "redis://:***@cache:6379",
		"GET https://shop.example:8443/a@b":                                "GET https://shop.example:8443/a@b",
		"https://shop.example/ for a@b.c":                                  "https://shop.example/ for a@b.c",
		"password=hunter2&user=a":                                          "password=***&user=a",
		"DB_PASSWORD: hunter2 and more":                                    "DB_PASSWORD: *** and more",
		`{"user":"a","password":"hun\"ter2","n":1}`:                        `{"user":"a","password":"***","n":1}`,
		`{"password":12345}`:                                               `{"password":12345}`,
		`msg="{\"token\":\"abc\"}" n=1`:                                    `msg="{\"token\":\"***\"}" n=1`,
		`clientSecret: 'x y'`:                                              `clientSecret: '***'`,
		"X-Api-Key: abcdef":                                                "X-Api-Key: ***",
		"max_tokens=512 tokens: 12":                                        "max_tokens=512 tokens: 12",
		"password=null secret=nil token=":                                  "password=null secret=nil token=",
		`secret="shop/db-password" not found`:                              `secret="shop/db-password" not found`,
		"if token == other":                                                "if token == other",
		"password: ***":                                                    "password: ***",
		"ghp_" + strings.Repeat("a", 36) + " x":                            "*** x",
		"xoxb-1234567890-abc":                                              "***",
		"github_pat_" + strings.Repeat("A1", 20):                           "***",
		"glpat-" + strings.Repeat("a", 20):                                 "***",
		"a=b AIza" + strings.Repeat("x", 35):                               "a=b ***",
		"-----BEGIN RSA PRIVATE KEY-----\nMIIE\nabcd\n-----END RSA PRIVATE KEY-----\nx": "-----BEGIN RSA PRIVATE KEY-----***-----END RSA PRIVATE KEY-----\nx",
		`{"key":"-----BEGIN PRIVATE KEY-----\nMIIE\n-----END PRIVATE KEY-----\n"}`:      `{"key":"-----BEGIN PRIVATE KEY-----***-----END PRIVATE KEY-----\n"}`,
		"-----BEGIN EC PRIVATE KEY-----\ncut off":                                       "-----BEGIN EC PRIVATE KEY-----***",
		"-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----":                  "-----BEGIN CERTIFICATE-----\nMIIE\n-----END CERTIFICATE-----",
		"card=1234-5678 of employee 4711":                                               "card=***-*** of ***",
		"token=a token=b password=c":                                                    "token=*** token=*** password=***",
		"Authorization: Token abcdefgh":                                                 "Authorization: Token ***",
		"map[Authorization:[Bearer abcdefgh12345678] X-Api-Key:[abc]]":                  "map[Authorization:[Bearer ***] X-Api-Key:[***]]",
		"{Authorization=[Basic dXNlcjpwYXNz], Accept=[*/*]}":                            "{Authorization=[Basic ***], Accept=[*/*]}",
		`{"Authorization":["Basic dXNlcjpwYXNz"],"X-Api-Key":["abc"],"token":[1,2]}`:    `{"Authorization":["Basic ***"],"X-Api-Key":["***"],"token":[1,2]}`,
		`{"user"=>"a", "password"=>"hunter2", :api_key=>"x"}`:                           `{"user"=>"a", "password"=>"***", :api_key=>"***"}`,
		"'password' => 'hunter2', [secret] => hunter2 [n] => 1":                         "'password' => '***', [secret] => *** [n] => 1",
		"password:\thunter2":                                "password:\t***",
		"Authorization: Negotiate YIIabc":                   "Authorization: Negotiate ***",
		"AccountName=a;AccountKey=abc/d==;EndpointSuffix=b": "AccountName=a;AccountKey=***;EndpointSuffix=b",
		"postgres://u:a,B;3@db, redis://:p)q@cache":         "postgres://u:***@db, redis://:***@cache",
		"see http://a:80, http://b:80 or mail c@d":          "see http://a:80, http://b:80 or mail c@d",
	} {
		for _, pad := range []string{"", " "} { // either parity
			if got := m.mask(pad + in); got != pad+want {
				t.Errorf("%q: got %q, want %q", pad+in, got, pad+want)
			}
		}
	}
	for _, r := range maskRules {
		if counted[r] == 0 {
			t.Errorf("%s is not counted", r)
		}
	}
	off, _ := newMasker(MaskOptions{Off: true}, func(string) {})
	if got := off.mask("password=x"); got != "password=x" {
		t.Errorf("got %q with masking off", got)
	}
}

func TestMaskPatternsAreChecked(t *testing.T) {
	for _, p := range []string{"(", "", "a*", strings.Repeat("a", wire.MaxMaskBytes+1)} {
		if _, err := newMasker(MaskOptions{Patterns: []string{p}}, func(string) {}); err == nil {
			t.Errorf("%.20q is taken", p)
		}
	}
}

// maskSlowly looks for each trigger at each byte.
func maskSlowly(s string) string {
	var out strings.Builder
	taken := 0
	for at := 0; at+3 <= len(s); at++ {
		for t, f := range triggers {
			if at < taken || lower(s[at]) != t[0] || lower(s[at+1]) != t[1] || lower(s[at+2]) != t[2] {
				continue
			}
			if from, to, ok := f.find(s, at); ok && from >= taken && from < to {
				out.WriteString(s[taken:from] + masked)
				taken = to
			}
		}
	}
	return out.String() + s[taken:]
}

// A text is never longer to mask than its length warrants, and the same is masked as
// by who looks at each byte.
func FuzzMask(f *testing.F) {
	f.Add("token=a://b:c@d Bearer abcdefgh " + jwt + ` {"password":"x"} -----BEGIN PRIVATE KEY-----`)
	f.Add("apikey=a API_KEY: b accessKey=cd my-private-key: 'x' is liked, AIza" + strings.Repeat("x", 35) + " PASSWD=1 pwd:2 Passphrase=3")
	f.Add("secret: \\\"x\\\" AKIAIOSFODNN7EXAMPLE ghp_ authorization: basic x")
	m, err := newMasker(MaskOptions{}, func(string) {})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, s string) {
		began := time.Now()
		got := m.mask(s)
		if len(got) > 4*len(s)+16 {
			t.Errorf("%d bytes of %d", len(got), len(s))
		}
		if want := maskSlowly(s); len(s) < 10_000 && got != want {
			t.Errorf("%q becomes %q, want %q", s, got, want)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("took %v for %d bytes", took, len(s))
		}
	})
}

func TestMaskedBeforeItLeaves(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.raw("0.log", cri(1, "stdout", "F", `{"level":"info","msg":"login","password":"hunter2"}`)+
		cri(2, "stdout", "F", "-----BEGIN PRIVATE KEY-----")+cri(2, "stdout", "F", "hunter2")+cri(2, "stdout", "F", "-----END PRIVATE KEY-----"))
	_, stop := tr.run(s)
	got := s.await(key, 2)
	stop()
	if got[0] != "login" || s.fields[0]["password"] != masked || strings.Contains(got[1], "hunter2") {
		t.Errorf("got %q, fields %v", got, s.fields)
	}
}

func BenchmarkMask(b *testing.B) {
	m, err := newMasker(MaskOptions{}, func(string) {})
	if err != nil {
		b.Fatal(err)
	}
	line := `{"level":"info","ts":"2026-11-23T10:00:00.123Z","msg":"request handled","method":"GET","path":"/api/v1/cart/items","status":200,"duration_ms":12.345,"user_id":004711,"trace_id":"4bf92f3577b34da6a3ce929d0e004711"}`
	b.SetBytes(int64(len(line)))
	for b.Loop() {
		m.mask(line)
	}
}
