package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/config"
)

var update = flag.Bool("update", false, "rewrite the reference page of settings")

const settingsPage = "../../docs/reference/collector.md"

// The page for users is made from the flags, so that it cannot say anything else.
func TestReferencePageOfSettings(t *testing.T) {
	// Defaults depend on where the collector runs; the page has those outside of
	// a cluster.
	t.Setenv("KUBERNETES_SERVICE_HOST", "")
	t.Setenv("NODE_NAME", "")
	cmd := newCommand()
	var got bytes.Buffer
	fmt.Fprintf(&got, "# Settings of `crowsnest-collector`\n\n<!-- Made from the program's flags: go test ./cmd/crowsnest-collector -run Reference -update. Do not edit. -->\n\n")
	fmt.Fprintf(&got, "```\n%s\n```\n\n```\n%s\n```\n\n%s", cmd.Long, cmd.Example, config.Reference(cmd.Flags()))
	if *update {
		if err := os.WriteFile(settingsPage, got.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(settingsPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got.Bytes(), want) {
		t.Errorf("%s is not what the flags say: run go test ./cmd/crowsnest-collector -run Reference -update", settingsPage)
	}
}
