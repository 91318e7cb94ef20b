package main

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const envPrefix = "CROWSNEST"

// errUsage says that the command line was wrong, which was told already.
var errUsage = errors.New("usage")

const precedence = `Every setting can be given in four ways; the first that is there wins:
  1. a flag                    --listen 0.0.0.0:7420
  2. an environment variable   CROWSNEST_LISTEN=0.0.0.0:7420
  3. the configuration file    listen: 0.0.0.0:7420     (--config FILE or CROWSNEST_CONFIG)
  4. the default that --help shows
One file can serve all commands. Keys that no command knows are refused.`

// common is what all commands have.
type common struct {
	configFile string
	logLevel   *choice
	logFormat  *choice
	lookup     func(string) (string, bool)
}

func newRoot(lookup func(string) (string, bool)) *cobra.Command {
	c := &common{
		logLevel:  newChoice("info", "debug", "info", "warn", "error"),
		logFormat: newChoice("text", "text", "json"),
		lookup:    lookup,
	}
	root := &cobra.Command{
		Use:   "crowsnest",
		Short: "Watch Kubernetes clusters and warn people",
		Long: "Crowsnest watches Kubernetes clusters: metrics, logs, events, alerts, by one binary.\n\n" +
			"Begin with \"crowsnest run\": it serves the console on http://127.0.0.1:7420 and collects from your kubeconfig's cluster.\n\n" + precedence,
		Example: `  crowsnest run                              # server and collector for the current kubeconfig
  crowsnest run --simulate                   # the same with a simulated cluster
  crowsnest query 'k8s_node_cpu_usage'       # PromQL against the server
  crowsnest logs 'error' --follow            # LogsQL, live`,
		SilenceErrors: true,
		SilenceUsage:  true,
		// Before each command, once its flags were parsed.
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error { return c.load(cmd) },
	}
	root.CompletionOptions.HiddenDefaultCmd = true
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		fmt.Fprintf(cmd.ErrOrStderr(), "crowsnest: %v%s\nSee %s --help.\n", err, nearestFlag(cmd, err), cmd.CommandPath())
		return errUsage
	})
	flags := root.PersistentFlags()
	flags.StringVar(&c.configFile, "config", "", "file of settings, YAML or JSON; the keys are the flags' names")
	flags.Var(c.logLevel, "log-level", "least severe messages that are logged: debug, info, warn or error")
	flags.Var(c.logFormat, "log-format", "text or json")
	root.AddCommand(newServer(c), newRun(c), newSimulate(c), newQuery(c), newLogs(c), newPolicy(c), newRules(), newToken(c), newBackup(c), newRestore(c), newMigrate(c), newImport(c), newOpenAPI(), newVersion())
	return root
}

// nearestFlag adds what an unknown flag was probably meant to be.
func nearestFlag(cmd *cobra.Command, err error) string {
	var unknown *pflag.NotExistError
	if !errors.As(err, &unknown) {
		return ""
	}
	var names []string
	cmd.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := config.Nearest(unknown.GetSpecifiedName(), names); near != "" {
		return fmt.Sprintf(", did you mean --%s?", near)
	}
	return ""
}

// load fills the command's flags from environment and file. The file may hold
// settings of other commands, so that one file serves all; they are checked too.
func (c *common) load(cmd *cobra.Command) error {
	file := c.configFile
	if file == "" {
		file, _ = c.lookup(config.EnvName(envPrefix, "config"))
	}
	all := pflag.NewFlagSet("all", pflag.ContinueOnError)
	all.AddFlagSet(cmd.Flags())
	var add func(*cobra.Command)
	add = func(other *cobra.Command) {
		other.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if all.Lookup(f.Name) == nil {
				named := *f
				named.Shorthand = "" // two commands may use one letter
				all.AddFlag(&named)
			}
		})
		for _, sub := range other.Commands() {
			add(sub)
		}
	}
	if file != "" {
		add(cmd.Root())
	}
	_, err := config.Load(all, config.Options{EnvPrefix: envPrefix, File: file, Lookup: c.lookup})
	return err
}

// logger makes the program's logger. Only servers log; other commands print.
func (c *common) logger(w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(c.logLevel.String())) // one of the choices
	opts := &slog.HandlerOptions{Level: level}
	if c.logFormat.String() == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

func newVersion() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		Example: "  crowsnest version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "crowsnest %s (wire %d, %s, %s/%s)\n", version, wire.Version, runtime.Version(), runtime.GOOS, runtime.GOARCH)
			return err
		},
	}
}

// args wraps a check of arguments so that a wrong count shows how it is used.
func args(check cobra.PositionalArgs) cobra.PositionalArgs {
	return func(cmd *cobra.Command, given []string) error {
		if err := check(cmd, given); err != nil {
			fmt.Fprintf(cmd.ErrOrStderr(), "crowsnest: %v\nUsage: %s\n%s\n", err, cmd.UseLine(), strings.TrimRight(cmd.Example, "\n"))
			return errUsage
		}
		return nil
	}
}
