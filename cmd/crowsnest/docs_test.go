package main

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/crowsnest-dev/crowsnest/internal/config"
)

var update = flag.Bool("update", false, "rewrite the reference page of settings")

const settingsPage = "../../docs/reference/configuration.md"

// The page for users is made from the flags, so that it cannot say anything else.
func TestReferencePageOfSettings(t *testing.T) {
	got := referencePage(newRoot(noEnv))
	if *update {
		if err := os.WriteFile(settingsPage, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(settingsPage)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the flags say: run go test ./cmd/crowsnest -run Reference -update", settingsPage)
	}
}

func referencePage(root *cobra.Command) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "# Commands and settings of `crowsnest`\n\n<!-- Made from the program's flags: go test ./cmd/crowsnest -run Reference -update. Do not edit. -->\n\n")
	fmt.Fprintf(&b, "%s\n\n", markdown(precedence))
	fmt.Fprintf(&b, "Of all commands:\n\n")
	table(&b, root.PersistentFlags())
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, sub := range cmd.Commands() {
			if sub.Hidden || sub.Name() == "help" || sub.Name() == "completion" {
				continue
			}
			fmt.Fprintf(&b, "## %s\n\n%s.\n\n", sub.CommandPath(), sub.Short)
			if text := strings.TrimSpace(strings.ReplaceAll(sub.Long, precedence, "")); text != "" {
				fmt.Fprintf(&b, "%s\n\n", text)
			}
			fmt.Fprintf(&b, "```\n%s\n```\n\n", sub.Example)
			table(&b, sub.LocalNonPersistentFlags())
			walk(sub)
		}
	}
	walk(root)
	return append(bytes.TrimRight(b.Bytes(), "\n"), '\n')
}

// markdown keeps an indented list's lines apart.
func markdown(text string) string {
	lines := strings.Split(text, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, "  ") {
			lines[i] = "    " + l
		}
	}
	return strings.ReplaceAll(strings.ReplaceAll(strings.Join(lines, "\n"), "wins:\n", "wins:\n\n"), "shows\nOne", "shows\n\nOne")
}

func table(b *bytes.Buffer, flags *pflag.FlagSet) {
	if t := config.Reference(flags); t != "" {
		fmt.Fprintf(b, "%s\n", t)
	}
}

func TestEverySettingCanComeFromTheEnvironment(t *testing.T) {
	seen := map[string]string{}
	var walk func(*cobra.Command)
	walk = func(cmd *cobra.Command) {
		cmd.LocalFlags().VisitAll(func(f *pflag.Flag) {
			// One name means one type in all commands, since one file serves them all.
			if typ, ok := seen[f.Name]; ok && typ != f.Value.Type() {
				t.Errorf("--%s is a %s in one command and a %s in %s", f.Name, typ, f.Value.Type(), cmd.CommandPath())
			}
			seen[f.Name] = f.Value.Type()
			if name := config.EnvName(envPrefix, f.Name); strings.ContainsAny(name, "-. ") {
				t.Errorf("--%s has no environment variable", f.Name)
			}
		})
		for _, sub := range cmd.Commands() {
			walk(sub)
		}
	}
	walk(newRoot(noEnv))
}
