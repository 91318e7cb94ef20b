package notify

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/alerting/incident"
)

// verifiers are programs around what docs/webhooks.md shows: they read a case
// and print true or false. The last one is the public library; it is tested
// where it is installed: npm install --prefix alerting/notify/testdata/verify.
var verifiers = map[string]struct {
	lang, file, tail string
	run              []string
}{
	"go": {"go", "main.go", "", []string{"go", "run"}},
	"python": {"python", "verify.py", `
import json, sys
c = json.load(sys.stdin)
print(str(verify(c["secret"], c["headers"], c["body"].encode())).lower())
`, []string{"python3"}},
	"javascript": {"javascript", "verify.cjs", `
const c = JSON.parse(require("node:fs").readFileSync(0, "utf8"));
console.log(verify(c.secret, c.headers, Buffer.from(c.body)));
`, []string{"node"}},
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

// What users copy from the documentation accepts what is sent, also a retry
// after ten minutes and during a rotation, and nothing else.
func TestVerifiers(t *testing.T) {
	page, err := os.ReadFile("../../docs/webhooks.md")
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	before := hook("https://example.com/")
	after := before.Rotate(now, time.Hour)
	body := bodyOf(t, sample(incident.Firing))
	type verifierCase struct {
		Secret  string            `json:"secret"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
	}
	made := func(to Sealed, secret Secret, at time.Time) verifierCase {
		return verifierCase{secret.Reveal(), map[string]string{
			headerID: "ntf_1", headerTimestamp: strconv.FormatInt(at.Unix(), 10), headerSignature: Sign(to.keys(at), "ntf_1", at, body),
		}, string(body)}
	}
	first := made(before, before.Secret, now.Add(-10*time.Minute)) // of which the retry is now
	tampered := made(before, before.Secret, now)
	tampered.Body = strings.Replace(tampered.Body, "critical", "info", 1)
	cases := []struct {
		name string
		c    verifierCase
		want string
	}{
		{"fresh", made(before, before.Secret, now), "true"},
		{"the first attempt, ten minutes late", first, "false"},
		{"its retry after ten minutes", made(before, before.Secret, now), "true"},
		{"rotation, old key", made(after, before.Secret, now), "true"},
		{"rotation, new key", made(after, after.Secret, now), "true"},
		{"another key", made(before, NewSecret(), now), "false"},
		{"tampered with", tampered, "false"},
	}
	for name, v := range verifiers {
		t.Run(name, func(t *testing.T) {
			if _, err := exec.LookPath(v.run[0]); err != nil {
				t.Skipf("%s is not installed", v.run[0])
			}
			dir := t.TempDir()
			code := v.tail
			switch v.lang {
			case "":
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
