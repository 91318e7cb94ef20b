package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/exchange"
	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/alerting/rules"
)

// newImports are the commands that carry over what was written for another
// product: it is printed as YAML, or written to the server.
func newImports() []*cobra.Command {
	var cluster clusterID
	severity := newChoice("warning", "info", "warning", "critical")
	tke := importOf("tkestack FILE...", "Policies of TKEStack, with their channels, receivers and receiver groups",
		"Read policies as TKEStack's API gives them (GET /apis/v1/monitor/clusters/NAME/alarmpolicies) and, so that they keep telling the same\n"+
			"people, the objects of notify.tkestack.io: channels, receivers, receivergroups. Each metric of a policy becomes a policy of its own.",
		"  crowsnest import tkestack policies.json channels.json receivergroups.json receivers.json --cluster prod-1",
		func(raw []byte) (exchange.Result, error) {
			return exchange.TKEStack(raw, exchange.TKEStackOptions{Cluster: cluster.id, Severity: severity.String()})
		})
	tke.Flags().Var(&cluster, "cluster", "cluster that the policies are for (default the one that they name, else all)")
	tke.Flags().Var(severity, "severity", "severity of the policies, as TKEStack has none: info, warning or critical")
	return []*cobra.Command{
		tke,
		importOf("alertmanager FILE", "Alertmanager's configuration: receivers, routes, inhibit rules, time intervals",
			"Read a configuration by Alertmanager's own parser. Receivers become targets, routes routes in the order in which the tree asks them,\n"+
				"inhibit rules inhibitions, and times in which a route is muted maintenance windows.",
			"  crowsnest import alertmanager alertmanager.yml", exchange.Alertmanager),
		importOf("prometheus FILE...", "Prometheus' recording and alerting rules",
			"Read a rule file by Prometheus' own parser. The rules run as they are, beside the policies; \"crowsnest rules import\" writes them one by one.",
			"  crowsnest import prometheus shop.rules.yml --apply", importRules),
	}
}

// importRules keeps rules as they are; the object has the first group's name.
func importRules(raw []byte) (exchange.Result, error) {
	groups, err := rules.Parse(string(raw))
	if err != nil {
		return exchange.Result{}, err
	}
	if len(groups.Groups) == 0 {
		return exchange.Result{}, errors.New("holds no group of rules")
	}
	o, err := rules.Import(objectName(groups.Groups[0].Name), string(raw))
	if err != nil {
		return exchange.Result{}, err
	}
	doc, err := json.Marshal(o)
	if err != nil {
		return exchange.Result{}, err
	}
	out := exchange.Result{Documents: make([]exchange.Document, 1)}
	return out, json.Unmarshal(doc, &out.Documents[0])
}

func importOf(use, short, long, example string, convert func([]byte) (exchange.Result, error)) *cobra.Command {
	var r remote
	var apply, force bool
	many := strings.HasSuffix(use, "...")
	count := cobra.ExactArgs(1)
	if many {
		count = cobra.MinimumNArgs(1)
	}
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long + "\n\nIt is printed as YAML, or written to the server with --apply; what is not carried over is named on standard error.", Example: example, Args: args(count),
		RunE: func(cmd *cobra.Command, given []string) error {
			var whole bytes.Buffer
			var out exchange.Result
			for i, path := range given {
				raw, err := readInput(cmd, path)
				if err != nil {
					return err
				}
				if cmd.Name() == "tkestack" { // what one file names, another may hold
					if i > 0 {
						whole.WriteString("\n---\n")
					}
					whole.Write(raw)
					continue
				}
				one, err := convert(raw)
				if err != nil {
					return fmt.Errorf("%s: %w", path, err)
				}
				out.Documents, out.Notes = append(out.Documents, one.Documents...), append(out.Notes, one.Notes...)
			}
			if whole.Len() > 0 {
				var err error
				if out, err = convert(whole.Bytes()); err != nil {
					return fmt.Errorf("%s: %w", strings.Join(given, ", "), err)
				}
			}
			if !apply {
				raw, err := out.YAML()
				if err != nil {
					return err
				}
				if _, err := cmd.OutOrStdout().Write(raw); err != nil {
					return err
				}
			} else if err := r.applyAll(cmd, out.Documents, force); err != nil {
				return err
			}
			for _, n := range out.Notes {
				fmt.Fprintln(cmd.ErrOrStderr(), n)
			}
			return nil
		},
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&apply, "apply", false, "write to the server what would be printed")
	cmd.Flags().BoolVar(&force, "force", false, "with --apply: take over what the console manages")
	return cmd
}

// applyAll writes documents, those that others name first.
func (r *remote) applyAll(cmd *cobra.Command, documents []exchange.Document, force bool) error {
	if err := r.open(); err != nil {
		return err
	}
	defer r.close()
	docs := make([]json.RawMessage, len(documents))
	for i, d := range documents {
		var err error
		if docs[i], err = json.Marshal(d); err != nil {
			return err
		}
	}
	slices.SortStableFunc(docs, func(a, b json.RawMessage) int { return kindIndex(namedOf(a).Kind) - kindIndex(namedOf(b).Kind) })
	for _, doc := range docs {
		if err := r.apply(cmd, doc, byFile(force)); err != nil {
			return err
		}
	}
	return nil
}

func newPolicyExport() *cobra.Command {
	var r remote
	format := newChoice("yaml", "yaml", "prometheus")
	cmd := &cobra.Command{
		Use: "export [NAME...]", Short: "Print policies as files, or as Prometheus' rules", Args: args(cobra.ArbitraryArgs),
		Long: "Print policies (all, when none is named) as YAML that \"crowsnest policy apply\" takes, or as Prometheus' alerting rules on the same\n" +
			"series, a rule for each severity. What rules cannot say is named on standard error.",
		Example: `  crowsnest policy export > policies.yaml
  crowsnest policy export --format prometheus cart-cpu > cart.rules.yml`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			var list struct{ Items []policy.Policy }
			if len(given) == 0 {
				if err := r.json(cmd.Context(), http.MethodGet, "/policies", nil, &list); err != nil {
					return err
				}
			}
			for _, name := range given {
				var p policy.Policy
				if err := r.json(cmd.Context(), http.MethodGet, "/policies/"+url.PathEscape(name), nil, &p); err != nil {
					return fmt.Errorf("policy/%s: %w", name, err)
				}
				list.Items = append(list.Items, p)
			}
			if format.String() == "prometheus" {
				out, notes := exchange.Prometheus(list.Items)
				raw, err := out.YAML()
				if err != nil {
					return err
				}
				for _, n := range notes {
					fmt.Fprintln(cmd.ErrOrStderr(), n)
				}
				_, err = cmd.OutOrStdout().Write(raw)
				return err
			}
			for i, p := range list.Items {
				// What the server sets means nothing elsewhere.
				p.Status, p.Metadata = nil, policy.Metadata{Name: p.Metadata.Name, Project: p.Metadata.Project, Labels: p.Metadata.Labels}
				raw, err := yaml.Marshal(p)
				if err != nil {
					return err
				}
				if i > 0 {
					raw = append([]byte("---\n"), raw...)
				}
				if _, err := cmd.OutOrStdout().Write(raw); err != nil {
					return err
				}
			}
			return nil
		},
	}
	r.flags(cmd)
	cmd.Flags().Var(format, "format", "yaml or prometheus")
	return cmd
}
