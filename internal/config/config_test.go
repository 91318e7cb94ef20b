package config

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

type settings struct {
	server   string
	interval time.Duration
	deep     bool
	names    []string
	token    Secret
}

func flagsOf(s *settings) *pflag.FlagSet {
	fs := pflag.NewFlagSet("test", pflag.ContinueOnError)
	fs.StringVar(&s.server, "server", "http://default", "")
	fs.DurationVar(&s.interval, "scrape-interval", 30*time.Second, "")
	fs.BoolVar(&s.deep, "deep", false, "")
	fs.StringSliceVar(&s.names, "names", nil, "")
	fs.Var(&s.token, "token", "")
	fs.String("config", "", "")
	return fs
}

func write(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func lookup(env map[string]string) func(string) (string, bool) {
	return func(k string) (string, bool) { v, ok := env[k]; return v, ok }
}

func TestPrecedenceIsFlagEnvironmentFileDefault(t *testing.T) {
	const file = "server: http://file\nscrape_interval: 10s\ndeep: true\nnames: [a, b]\n"
	for name, tc := range map[string]struct {
		args []string
		env  map[string]string
		file string
		want string
		from Origin
	}{
		"default":                    {nil, nil, "deep: true\n", "http://default", FromDefault},
		"file over default":          {nil, nil, file, "http://file", FromFile},
		"environment over file":      {nil, map[string]string{"X_SERVER": "http://env"}, file, "http://env", FromEnv},
		"flag over environment":      {[]string{"--server=http://flag"}, map[string]string{"X_SERVER": "http://env"}, file, "http://flag", FromFlag},
		"flag equal to the default ": {[]string{"--server=http://default"}, nil, file, "http://default", FromFlag},
	} {
		var s settings
		fs := flagsOf(&s)
		if err := fs.Parse(tc.args); err != nil {
			t.Fatal(err)
		}
		origins, err := Load(fs, Options{EnvPrefix: "X", File: write(t, tc.file), Lookup: lookup(tc.env)})
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if s.server != tc.want || origins["server"] != tc.from {
			t.Errorf("%s: server %q from %s, want %q from %s", name, s.server, origins["server"], tc.want, tc.from)
		}
	}
}

func TestFileSetsEveryKindOfValue(t *testing.T) {
	var s settings
	fs := flagsOf(&s)
	_, err := Load(fs, Options{EnvPrefix: "X", Lookup: lookup(nil),
		File: write(t, "scrape_interval: 10s\ndeep: true\nnames: [a, \"b,c\"]\ntoken: hush\n")})
	if err != nil {
		t.Fatal(err)
	}
	if s.interval != 10*time.Second || !s.deep || len(s.names) != 2 || s.names[1] != "b,c" || s.token.Reveal() != "hush" {
		t.Errorf("got %+v, names %q", s, s.names)
	}
}

func TestEveryWrongSettingIsNamed(t *testing.T) {
	var s settings
	_, err := Load(flagsOf(&s), Options{EnvPrefix: "X", Lookup: lookup(map[string]string{"X_DEEP": "perhaps"}),
		File: write(t, "sever: http://x\nscrape-interval: soon\nserver: [a]\n")})
	if !errors.Is(err, fault.ErrInvalid) {
		t.Fatalf("got %v, want an invalid configuration", err)
	}
	for _, part := range []string{`sever: is not a setting, did you mean "server"?`, "scrape-interval: must be a duration",
		"X_DEEP: must be a bool", "server: must be a string: must be a single value, not a list"} {
		if !strings.Contains(err.Error(), part) {
			t.Errorf("error %q does not say %q", err, part)
		}
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	for text, want := range map[string]error{
		"a: [":                   fault.ErrMalformed,
		"server: a\nserver: b\n": fault.ErrMalformed,
		"scrape-interval: 10s\nscrape_interval: 20s": fault.ErrInvalid,
		strings.Repeat("#", MaxFileBytes+1):          fault.ErrTooLarge,
	} {
		var s settings
		if _, err := Load(flagsOf(&s), Options{EnvPrefix: "X", File: write(t, text), Lookup: lookup(nil)}); !errors.Is(err, want) {
			t.Errorf("%.20q: got %v, want %v", text, err, want)
		}
	}
	var s settings
	if _, err := Load(flagsOf(&s), Options{EnvPrefix: "X", File: "/does/not/exist"}); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file gave %v", err)
	}
}

func TestSecretsAreNeverShown(t *testing.T) {
	s := NewSecret("hush-hush")
	js, _ := json.Marshal(map[string]Secret{"token": s})
	for _, text := range []string{fmt.Sprint(s), fmt.Sprintf("%v %+v %#v %q %x", s, s, s, s, s), fmt.Sprintf("%v", struct{ S Secret }{s}), string(js)} {
		if strings.Contains(text, "hush") || strings.Contains(text, fmt.Sprintf("%x", "hush")) {
			t.Errorf("the secret shows in %q", text)
		}
	}
	var set settings
	fs := flagsOf(&set)
	_, err := Load(fs, Options{EnvPrefix: "X", Lookup: lookup(nil), File: write(t, "token: [hush-hush]\n")})
	if err == nil || strings.Contains(err.Error(), "hush") {
		t.Errorf("got %v, want an error without the secret", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte("server: x\nnames: [a]\n"))
	f.Fuzz(func(_ *testing.T, raw []byte) { _, _ = parse(raw, "fuzz") })
}
