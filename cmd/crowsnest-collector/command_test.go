package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// execute runs the command as a shell would and gives its error. All cases end
// before anything is connected to.
func execute(t *testing.T, args ...string) error {
	t.Helper()
	cmd := newCommand()
	cmd.SetArgs(append(args, "--data", t.TempDir(), "--kubeconfig", filepath.Join(t.TempDir(), "none")))
	return cmd.ExecuteContext(t.Context())
}

func TestWrongSettingsAreRefusedWithWhatIsRight(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.yaml")
	if err := os.WriteFile(file, []byte("sever: http://x\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, tc := range map[string]struct {
		args []string
		want string
	}{
		"unknown key of the file": {[]string{"--config", file}, `sever: is not a setting, did you mean "server"?`},
		"unknown flag":            {[]string{"--sever=x"}, "unknown flag: --sever"},
		"server without a scheme": {[]string{"--server=crowsnest:7420"}, "server: must be a URL"},
		"log level":               {[]string{"--log-level=loud"}, "--log-level: must be debug, info, warn or error"},
		"cluster kind":            {[]string{"--cluster-kind=big"}, "--cluster-kind: must be managed"},
		"health address":          {[]string{"--role=node", "--node=n", "--health-address=n-1:7422"}, "--health-address: must be an IP address and a port"},
		"interfaces":              {[]string{"--node-interfaces=("}, "--node-interfaces:"},
		"token file":              {[]string{"--token-file=/does/not/exist"}, "read token"},
		"no such kubeconfig":      {[]string{"--role=all"}, "open cluster"},
	} {
		if err := execute(t, tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v, want %q", name, err, tc.want)
		}
	}
}

func TestNodeHasTwoNames(t *testing.T) {
	for _, arg := range []string{"--node=n1", "--node-name=n1"} {
		cmd := newCommand()
		if err := cmd.ParseFlags([]string{arg}); err != nil {
			t.Errorf("%s: %v", arg, err)
		}
		if got := cmd.Flag("node-name").Value.String(); got != "n1" {
			t.Errorf("%s gives %q", arg, got)
		}
	}
}

func TestSecretsAreNotInHelp(t *testing.T) {
	t.Setenv("CROWSNEST_COLLECTOR_TOKEN", "hush")
	cmd := newCommand()
	if strings.Contains(cmd.UsageString(), "hush") {
		t.Error("the usage shows the token")
	}
}

func TestHealthAddress(t *testing.T) {
	for name, tc := range map[string]struct {
		s     settings
		podIP string
		want  string
	}{
		"of the pod":               {settings{role: "node", listen: ":7422"}, "10.1.2.3", "10.1.2.3:7422"},
		"of a pod by IPv6":         {settings{role: "node", listen: ":7422"}, "fd00::3", "[fd00::3]:7422"},
		"as configured":            {settings{role: "node", listen: ":7422", healthAddress: "10.9.9.9:80"}, "10.1.2.3", "10.9.9.9:80"},
		"outside of a pod":         {settings{role: "node", listen: ":7422"}, "", ""},
		"nobody listens":           {settings{role: "node"}, "10.1.2.3", ""},
		"only nodes have peers":    {settings{role: "cluster", listen: ":7422"}, "10.1.2.3", ""},
		"a port that is not known": {settings{role: "node", listen: "127.0.0.1:0"}, "", ""},
	} {
		if err := tc.s.findHealthAddress(tc.podIP); err != nil || tc.s.healthAddress != tc.want {
			t.Errorf("%s: %q, %v; want %q", name, tc.s.healthAddress, err, tc.want)
		}
	}
}
