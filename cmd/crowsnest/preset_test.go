package main

import (
	"context"
	"strings"
	"testing"
)

func TestPresetsAreSwitchedLikeAnyPolicy(t *testing.T) {
	dir := t.TempDir()
	with := func(s *settings) { s.presets = true }
	s := startServer(t, dir, with)
	run := func(args ...string) string {
		t.Helper()
		out, _, err := crowsnest(context.Background(), noEnv, "", append(args, "--server", s.URL())...)
		if err != nil {
			t.Fatal(args, err)
		}
		return out
	}
	row := func() string {
		for _, line := range strings.Split(run("policy", "list"), "\n") {
			if strings.HasPrefix(line, "node-cpu ") {
				return line
			}
		}
		return ""
	}
	if r := row(); !strings.Contains(r, "true") || !strings.Contains(r, "preset") {
		t.Fatalf("got %q", r)
	}
	run("policy", "disable", "node-cpu")
	run("policy", "delete", "node-memory")
	if code, body := s.send("POST", "/apis/crowsnest.dev/v1/policies/node-inodes/disable", "", "", nil); code != 200 {
		t.Fatal(code, body) // as the console does
	}
	s.stop()
	s = startServer(t, dir, with)
	if r := row(); !strings.Contains(r, "false") || !strings.Contains(r, "disabled") {
		t.Errorf("got %q", r)
	}
	if list := run("policy", "list"); strings.Contains(list, "node-memory") {
		t.Error("what was deleted is back")
	}
	if code, _ := s.send("GET", "/apis/crowsnest.dev/v1/inhibitions/pod-crash-loop-explains", "", "", nil); code != 200 {
		t.Error("no inhibition", code)
	}
}
