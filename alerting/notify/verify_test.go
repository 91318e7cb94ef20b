package notify

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
)

// verifiers are programs around what docs/webhooks.md shows: they read a case
// and print true or false. The public ones are Standard Webhooks' own libraries:
// Go's and Python's come in one module, JavaScript's is tried where it is
// installed, as make test-go does.
var verifiers = map[string]struct {
	lang, file, tail string
	run              []string
}{
	"go":        {"go", "main.go", "", []string{"go", "run"}},
	"public go": {"library", "", "", nil},
	"python": {"python", "verify.py", `
import json, sys
c = json.load(sys.stdin)
print(str(verify(c["secret"], c["headers"], c["body"].encode())).lower())
`, []string{"python3"}},
	"javascript": {"javascript", "verify.cjs", `
const c = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
console.log(verify(c.secret, c.headers, Buffer.from(c.body)));
`, []string{"node"}},
	"public python": {"", "public.py", `
import json, sys
from standardwebhooks.webhooks import Webhook, WebhookVerificationError
c = json.load(sys.stdin)
ok = True
try:
    Webhook(c["secret"]).verify(c["body"], c["headers"])
except WebhookVerificationError:
    ok = False
print(str(ok).lower())
`, []string{"python3"}},
	"public javascript": {"", "public.cjs", `
const { Webhook } = require("standardwebhooks");
const c = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
let ok = true;
try { new Webhook(c.secret).verify(c.body, c.headers); } catch (e) { ok = false; }
console.log(ok);
`, []string{"node"}},
}

// goTail replaces the sample's server.
const goTail = `
func main() {
	var c struct {
		Secret, Body string
		Headers      map[string]string
	}
	json.NewDecoder(os.Stdin).Decode(&c)
	h := http.Header{}
	for k, v := range c.Headers {
		h.Set(k, v)
	}
	fmt.Println(verify(c.Secret, h, []byte(c.Body)))
}
`

func sampleCode(t *testing.T, page, lang string) string {
	t.Helper()
	_, rest, ok := strings.Cut(page, "\n```"+lang+"\n")
	code, _, ok2 := strings.Cut(rest, "\n```")
	if !ok || !ok2 {
		t.Fatalf("docs/webhooks.md shows no %s", lang)
	}
	return code
}

// verifierCase is what a verifier is given: a request as it came, and the secret
// that its receiver knows.
type verifierCase struct {
	Secret  string            `json:"secret"`
	Headers map[string]string `json:"headers"`
	Body    string            `json:"body"`
}

// What users copy from the documentation, and what the standard's authors offer,
// accepts what is sent, also a retry after ten minutes and during a rotation, and
// nothing else.
func TestVerifiers(t *testing.T) {
	page, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	var last verifierCase // as it came
	status := http.StatusOK
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		last = verifierCase{Body: string(body), Headers: map[string]string{}}
		for _, name := range []string{headerID, headerTimestamp, headerSignature} {
			last.Headers[name] = r.Header.Get(name)
		}
		w.WriteHeader(status)
	}))
	defer srv.Close()
	c := newClient(&Guard{Allowed: loopback}, time.Minute)
	defer c.close()
	now := time.Now()
	before := hook(srv.URL)
	after := before.Rotate(now, time.Hour)
	message := noteOf(t, sample(incident.Firing))
	made := func(to Sealed, secret Secret, at time.Time) verifierCase {
		t.Helper()
		want := delivered
		if status != http.StatusOK {
			want = retry
		}
		if a := c.send(context.Background(), to, message, at); a.outcome != want {
			t.Fatalf("got %+v", a)
		}
		out := last
		out.Secret = secret.Reveal()
		return out
	}
	status = http.StatusServiceUnavailable
	first := made(before, before.Secret, now.Add(-10*time.Minute))
	status = http.StatusOK
	again := made(before, before.Secret, now)
	if first.Body != again.Body || first.Headers[headerID] != again.Headers[headerID] {
		t.Errorf("the retry is another message: %v, %v", first.Headers, again.Headers)
	}
	tampered := made(before, before.Secret, now)
	tampered.Body = strings.Replace(tampered.Body, "critical", "info", 1)
	cases := []struct {
		name string
		c    verifierCase
		want string
	}{
		{"fresh", made(before, before.Secret, now), "true"},
		{"the first attempt, ten minutes late", first, "false"},
		{"its retry after ten minutes", again, "true"},
		{"rotation, old key", made(after, before.Secret, now), "true"},
		{"rotation, new key", made(after, after.Secret, now), "true"},
		{"another key", made(before, NewSecret(), now), "false"},
		{"tampered with", tampered, "false"},
	}
	for name, v := range verifiers {
		t.Run(name, func(t *testing.T) {
			if v.lang == "library" {
				for _, tc := range cases {
					if got := strconv.FormatBool(verifiedByLibrary(t, tc.c)); got != tc.want {
						t.Errorf("%s: %s, want %s", tc.name, got, tc.want)
					}
				}
				return
			}
			if _, err := exec.LookPath(v.run[0]); err != nil {
				t.Skipf("%s is not installed", v.run[0])
			}
			dir := t.TempDir()
			code := v.tail
			switch v.lang {
			case "":
				if v.run[0] == "python3" {
					t.Setenv("PYTHONPATH", filepath.Join(publicLibraries(t), "python"))
					t.Setenv("PYTHONDONTWRITEBYTECODE", "1") // the module's folder is not ours
					break
				}
				dir = filepath.Join("testdata", "verify")
				if _, err := os.Stat(filepath.Join(dir, "node_modules", "standardwebhooks")); errors.Is(err, os.ErrNotExist) {
					t.Skip("the public library is not installed: npm ci --prefix alerting/notify/testdata/verify")
				}
			case "go":
				if testing.Short() {
					t.Skip("it compiles")
				}
				code = sampleCode(t, string(page), "go")
				code, _, _ = strings.Cut(code, "\nfunc main()")
				code = strings.Replace(code, "import (\n", "import (\n\t\"encoding/json\"\n\t\"fmt\"\n", 1) + goTail
				code = strings.Replace(code, "\t\"io\"\n", "\t\"io\"\n", 1)
			default:
				code = sampleCode(t, string(page), v.lang) + code
			}
			path := filepath.Join(dir, v.file)
			if err := os.WriteFile(path, []byte(code), 0o644); err != nil {
				t.Fatal(err)
			}
			run := append(append([]string(nil), v.run...), path)
			if v.lang == "go" { // once for all cases
				binary := filepath.Join(dir, "verify")
				if out, err := exec.Command("go", "build", "-o", binary, path).CombinedOutput(); err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				run = []string{binary}
			} else if v.lang == "" {
				defer os.Remove(path)
			}
			for _, tc := range cases {
				in, err := json.Marshal(tc.c)
				if err != nil {
					t.Fatal(err)
				}
				cmd := exec.Command(run[0], run[1:]...)
				cmd.Stdin = bytes.NewReader(in)
				var said bytes.Buffer
				cmd.Stderr = &said
				out, err := cmd.Output()
				if err != nil || strings.TrimSpace(string(out)) != tc.want {
					t.Errorf("%s: %s %v %s, want %s", tc.name, out, err, said.String(), tc.want)
				}
			}
		})
	}
}

// publicLibraries is the folder of the module in which the authors of Standard
// Webhooks publish their libraries, a folder for each language.
func publicLibraries(t *testing.T) string {
	t.Helper()
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}", "github.com/standard-webhooks/standard-webhooks/libraries").Output()
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(out))
}

func verifiedByLibrary(t *testing.T, c verifierCase) bool {
	t.Helper()
	library, err := standardwebhooks.NewWebhook(c.Secret)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{}
	for name, value := range c.Headers {
		h.Set(name, value)
	}
	return library.Verify([]byte(c.Body), h) == nil
}
