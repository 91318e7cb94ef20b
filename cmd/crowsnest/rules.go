package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/alerting/rules"
)

func newRules() *cobra.Command {
	cmd := &cobra.Command{
		Use: "rules", Short: "Prometheus' recording and alerting rules: list, check, test, import",
		Long: "Prometheus' recording and alerting rules run beside the policies: from files (crowsnest server --rule-file), or as objects\n" +
			"of kind RuleGroups that \"crowsnest rules import\" and \"crowsnest policy apply\" write.",
		Example: `  crowsnest rules check shop.yml
  crowsnest rules test shop_test.yml
  crowsnest rules import shop.yml
  crowsnest rules list`,
	}
	cmd.AddCommand(newRulesList(), newRulesCheck(), newRulesTest(), newRulesImport())
	return cmd
}

func newRulesList() *cobra.Command {
	var r remote
	output := newChoice("table", "table", "json")
	cmd := &cobra.Command{
		Use: "list", Short: "List the rules that run, and how they do", Args: args(cobra.NoArgs), Example: "  crowsnest rules list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			res, err := r.do(cmd.Context(), http.MethodGet, "/api/v1/rules", "", nil)
			if err != nil {
				return err
			}
			defer func() { _ = res.Body.Close() }()
			raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
			if err != nil {
				return err
			}
			if output.String() == "json" {
				return printJSON(cmd.OutOrStdout(), raw)
			}
			var out struct {
				Data struct {
					Groups []struct {
						Name, File string
						Rules      []struct{ Name, State, Health, LastError string }
					}
				}
			}
			if err := json.Unmarshal(raw, &out); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if len(out.Data.Groups) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "no rules yet; add some by \"crowsnest rules import FILE\" or --rule-file")
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "FROM\tGROUP\tRULE\tSTATE\tHEALTH")
			for _, g := range out.Data.Groups {
				for _, rule := range g.Rules {
					if rule.State == "" {
						rule.State = "recording"
					}
					fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\n", g.File, g.Name, rule.Name, rule.State, strings.TrimSpace(rule.Health+" "+rule.LastError))
				}
			}
			return t.Flush()
		},
	}
	r.flags(cmd)
	cmd.Flags().VarP(output, "output", "o", "table or json")
	return cmd
}

func newRulesCheck() *cobra.Command {
	return &cobra.Command{
		Use: "check FILE...", Short: "Check rule files", Args: args(cobra.MinimumNArgs(1)), Example: "  crowsnest rules check shop.yml",
		RunE: func(cmd *cobra.Command, given []string) error {
			var errs []error
			for _, path := range given {
				raw, err := readInput(cmd, path)
				if err != nil {
					return err
				}
				groups, err := rules.Parse(string(raw))
				if err != nil {
					errs = append(errs, fmt.Errorf("%s: %w", path, err))
					continue
				}
				n := 0
				for _, g := range groups.Groups {
					n += len(g.Rules)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "%s: %d rules in %d groups\n", path, n, len(groups.Groups))
			}
			return errors.Join(errs...)
		},
	}
}

func newRulesTest() *cobra.Command {
	return &cobra.Command{
		Use: "test FILE...", Short: "Run unit tests of rules", Args: args(cobra.MinimumNArgs(1)),
		Long:    "Run unit tests of rules in the format of \"promtool test rules\". No server is needed.",
		Example: "  crowsnest rules test shop_test.yml",
		RunE: func(cmd *cobra.Command, given []string) error {
			failed := 0
			for _, path := range given {
				failures, err := rules.Test(cmd.Context(), path)
				if err != nil {
					return err
				}
				for _, f := range failures {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: %s\n", path, f)
				}
				if len(failures) == 0 {
					fmt.Fprintf(cmd.OutOrStdout(), "%s: passed\n", path)
				}
				failed += len(failures)
			}
			if failed > 0 {
				return fmt.Errorf("%d expectations not met", failed)
			}
			return nil
		},
	}
}

func newRulesImport() *cobra.Command {
	var r remote
	var name string
	var force, dry bool
	cmd := &cobra.Command{
		Use: "import FILE", Short: "Import a rule file of Prometheus as it is", Args: args(cobra.ExactArgs(1)),
		Long: "Import a rule file of Prometheus. Its rules run as Prometheus runs them; their alerts become incidents and are routed by\n" +
			"labels. Importing the same file again changes what is there.",
		Example: "  crowsnest rules import shop.yml\n  crowsnest rules import shop.yml --print > shop-rulegroups.yaml",
		RunE: func(cmd *cobra.Command, given []string) error {
			raw, err := readInput(cmd, given[0])
			if err != nil {
				return err
			}
			if name == "" {
				name = objectName(strings.TrimSuffix(filepath.Base(given[0]), filepath.Ext(given[0])))
			}
			o, err := rules.Import(name, string(raw))
			if err != nil {
				return fmt.Errorf("%s: %w", given[0], err)
			}
			doc, err := json.Marshal(o)
			if err != nil {
				return err
			}
			if dry {
				return printYAML(cmd.OutOrStdout(), doc)
			}
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			return r.apply(cmd, doc, byFile(force))
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVar(&name, "name", "", "name of the object; default: the file's")
	cmd.Flags().BoolVar(&force, "force", false, "take over what the console manages")
	cmd.Flags().BoolVar(&dry, "print", false, "print the object instead of writing it")
	return cmd
}

// objectName makes a name that objects can have.
func objectName(s string) string {
	var b strings.Builder
	for _, c := range strings.ToLower(s) {
		if (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') {
			b.WriteRune(c)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	out := b.String()
	return strings.Trim(out[:min(len(out), 63)], "-")
}
