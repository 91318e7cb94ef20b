package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/crowsnest-dev/crowsnest/alerting/policy"
	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

func newPolicy(_ *common) *cobra.Command {
	cmd := &cobra.Command{
		Use: "policy", Short: "List, apply and delete alert policies",
		Example: `  crowsnest policy example k8s_pod_restart_total | crowsnest policy apply -f -
  crowsnest policy list
  crowsnest policy apply -f cart-cpu.yaml
  crowsnest policy delete cart-cpu`,
	}
	cmd.AddCommand(newPolicyList(), newPolicyApply(), newPolicyDelete(), newPolicySwitch("enable", "Switch policies on", "on"), newPolicySwitch("disable", "Switch policies off; their alerts end", "off"), newPolicyExample(), newPolicyWhy(), newPolicyBacktest(), newPolicyExport())
	return cmd
}

// named is what the command needs to see of a resource; the server checks the
// rest.
type named struct {
	Kind     string `json:"kind"`
	Metadata struct {
		Name     string `json:"name"`
		Project  string `json:"project"`
		Revision int64  `json:"revision"`

		ManagedBy string `json:"managedBy"`
	} `json:"metadata"`
	Status struct {
		State   string   `json:"state"`
		Firing  int      `json:"firing"`
		Reasons []string `json:"reasons"`
	} `json:"status"`
	Spec struct {
		Enabled *bool  `json:"enabled"`
		Level   string `json:"level"`
		Type    string `json:"type"`
	} `json:"spec"`
}

func newPolicyList() *cobra.Command {
	var r remote
	output := newChoice("table", "table", "json")
	cmd := &cobra.Command{
		Use: "list", Short: "List policies", Args: args(cobra.NoArgs),
		Example: "  crowsnest policy list\n  crowsnest policy list --output json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			var raw json.RawMessage
			if err := r.json(cmd.Context(), http.MethodGet, "/policies", nil, &raw); err != nil {
				return err
			}
			if output.String() == "json" {
				return printJSON(cmd.OutOrStdout(), raw)
			}
			var out struct{ Items []named }
			if err := json.Unmarshal(raw, &out); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if len(out.Items) == 0 {
				_, err := fmt.Fprintln(cmd.OutOrStdout(), "no policies yet; make one by \"crowsnest policy apply -f FILE\"")
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "NAME\tLEVEL\tENABLED\tREVISION\tMANAGED BY\tSTATE\tFIRING\tWHY")
			for _, p := range out.Items {
				why := ""
				if len(p.Status.Reasons) > 0 {
					why = p.Status.Reasons[0]
				}
				fmt.Fprintf(t, "%s\t%s\t%t\t%d\t%s\t%s\t%d\t%s\n", p.Metadata.Name, p.Spec.Level, p.Spec.Enabled == nil || *p.Spec.Enabled, p.Metadata.Revision,
					p.Metadata.ManagedBy, p.Status.State, p.Status.Firing, why)
			}
			return t.Flush()
		},
	}
	r.flags(cmd)
	cmd.Flags().VarP(output, "output", "o", "table or json")
	return cmd
}

func newPolicyApply() *cobra.Command {
	var r remote
	var file string
	var force, dry bool
	cmd := &cobra.Command{
		Use: "apply -f FILE", Short: "Make or change policies, targets and all that goes with them from a file", Args: args(cobra.NoArgs),
		Long: "Make what is not there yet and change what is, from a file of one or more YAML documents (kinds Policy, Target, Route, Silence,\n" +
			"Maintenance, Inhibition, RuleGroups and Metric), or JSON. Targets and metrics are applied first, as others name them.\n" +
			"A document that is wrong is refused with every wrong field; those before it stay applied.\n" +
			"Applied again, the same file changes nothing: no new revisions.\n" +
			"What is applied is from then on managed by file; what was made in the console is taken over with --force only.",
		Example: `  crowsnest policy apply -f cart-cpu.yaml
  crowsnest policy apply -f policies.yaml --dry-run
  cat policies.yaml | crowsnest policy apply -f -`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				return errors.New("policy apply needs -f FILE, or -f - for what comes in")
			}
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			raw, err := readInput(cmd, file)
			if err != nil {
				return err
			}
			docs, err := documents(raw)
			if err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
			slices.SortStableFunc(docs, func(a, b json.RawMessage) int {
				return cmp.Compare(kindIndex(namedOf(a).Kind), kindIndex(namedOf(b).Kind))
			})
			query := byFile(force)
			if dry {
				query.Set("dryRun", "true")
			}
			var wrong []error
			for _, doc := range docs {
				if n := namedOf(doc); dry && n.Kind == "Target" {
					query.Add("assumeTargets", n.Metadata.Name)
				}
				if err := r.apply(cmd, doc, query); err != nil {
					wrong = append(wrong, fmt.Errorf("%s: %w", file, err))
					if !dry { // what follows may need it
						break
					}
				}
			}
			return errors.Join(wrong...)
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "file to apply, - for what comes in")
	cmd.Flags().BoolVar(&force, "force", false, "take over what the console manages")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "validate all documents and say what would change; nothing is kept")
	return cmd
}

// kinds can be applied, those that others name first.
var kinds = []struct{ name, path string }{
	{"Target", "/targets"}, {"Metric", "/metrics"}, {"Policy", "/policies"}, {"Route", "/routes"}, {"Inhibition", "/inhibitions"}, {"Maintenance", "/maintenances"}, {"Silence", "/silences"}, {"RuleGroups", "/rulegroups"},
}

// kindIndex is where a kind stands among kinds; behind the last when it is none.
func kindIndex(kind string) int {
	for i, k := range kinds {
		if k.name == kind {
			return i
		}
	}
	return len(kinds)
}

func namedOf(doc json.RawMessage) (n named) {
	_ = json.Unmarshal(doc, &n) // what is wrong with it is told when its turn comes
	return n
}

// documents splits a file into its YAML documents, as JSON. Keys are left for
// the server to judge; only what is no YAML is refused here.
func documents(raw []byte) (docs []json.RawMessage, err error) {
	for i, part := range strings.Split("\n"+string(raw), "\n---") {
		doc, err := yaml.YAMLToJSONStrict([]byte(part))
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		if string(doc) != "null" {
			docs = append(docs, doc)
		}
	}
	if len(docs) == 0 {
		return nil, errors.New("holds no document")
	}
	return docs, nil
}

// byFile says who writes.
func byFile(force bool) url.Values {
	return url.Values{"manager": {"file"}, "force": {strconv.FormatBool(force)}}
}

// apply changes the resource when it is there, else makes it, and says which.
func (r *remote) apply(cmd *cobra.Command, doc json.RawMessage, how url.Values) error {
	var n named
	if err := json.Unmarshal(doc, &n); err != nil {
		return fmt.Errorf("read the document's kind and name: %w", err)
	}
	i := kindIndex(n.Kind)
	if i == len(kinds) {
		names := make([]string, len(kinds))
		for i, k := range kinds {
			names[i] = k.name
		}
		return fmt.Errorf("kind must be one of %s, not %q", strings.Join(names, ", "), n.Kind)
	}
	path := kinds[i].path
	what := strings.ToLower(n.Kind) + "/" + n.Metadata.Name
	method, done := http.MethodPost, "created"
	query := maps.Clone(how)
	var before named
	if n.Metadata.Name != "" {
		one := path + "/" + url.PathEscape(n.Metadata.Name)
		there := url.Values{}
		if n.Metadata.Project != "" {
			there.Set("project", n.Metadata.Project)
		}
		if err := r.json(cmd.Context(), http.MethodGet, one+"?"+there.Encode(), nil, &before); err == nil {
			method, path, done = http.MethodPut, one, "changed"
			maps.Copy(query, there)
		}
	}
	res, err := r.do(cmd.Context(), method, api.Prefix+path+"?"+query.Encode(), "application/json", doc)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer func() { _ = res.Body.Close() }()
	var out struct {
		named
		Status struct {
			Secret string `json:"secret"`
		} `json:"status"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&out); err != nil {
		return fmt.Errorf("%s: read the answer: %w", what, err)
	}
	if method == http.MethodPut && out.Metadata.Revision == before.Metadata.Revision {
		done = "unchanged"
	}
	if how.Has("dryRun") {
		done += " (dry run)"
	}
	if out.Status.Secret != "" {
		fmt.Fprintf(cmd.ErrOrStderr(), "%s signs with this secret, which is shown this once:\n%s\n", what, out.Status.Secret)
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "%s %s\n", what, done)
	return err
}

func newPolicyDelete() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "delete NAME...", Short: "Delete policies", Args: args(cobra.MinimumNArgs(1)), Example: "  crowsnest policy delete cart-cpu",
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			for _, name := range given {
				if err := r.json(cmd.Context(), http.MethodDelete, "/policies/"+url.PathEscape(name), nil, nil); err != nil {
					return fmt.Errorf("policy/%s: %w", name, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "policy/%s deleted\n", name)
			}
			return nil
		},
	}
	r.flags(cmd)
	return cmd
}

func newPolicySwitch(verb, short, state string) *cobra.Command {
	var r remote
	var force bool
	cmd := &cobra.Command{
		Use: verb + " NAME...", Short: short, Args: args(cobra.MinimumNArgs(1)), Example: "  crowsnest policy " + verb + " node-cpu",
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			for _, name := range given {
				if err := r.json(cmd.Context(), http.MethodPost, "/policies/"+url.PathEscape(name)+"/"+verb+"?manager=file&force="+strconv.FormatBool(force), nil, nil); err != nil {
					return fmt.Errorf("policy/%s: %w", name, err)
				}
				fmt.Fprintf(cmd.OutOrStdout(), "policy/%s is %s\n", name, state)
			}
			return nil
		},
	}
	r.flags(cmd)
	cmd.Flags().BoolVar(&force, "force", false, "also those that the console manages")
	return cmd
}

func newPolicyWhy() *cobra.Command {
	var r remote
	var cluster clusterID
	var object, dimensions, at string
	output := newChoice("text", "text", "json")
	cmd := &cobra.Command{
		Use: "why NAME --cluster C --object O", Short: "Explain why a policy did or did not fire", Args: args(cobra.ExactArgs(1)),
		Long: "Judge one object as of a time again, with the data, the inventory and the policy of that time, and tell the inputs, the comparison\n" +
			"and the state before and after. It can be any time of the last 90 days.",
		Example: `  crowsnest policy why cart-cpu --cluster prod-1 --object shop/cart-7c9f-abc
  crowsnest policy why node-disk --cluster prod-1 --object n-1 --dimensions mountpoint=/data --at 2026-11-23T09:05:00Z
  crowsnest policy why cart-cpu --cluster prod-1 --object shop/cart-7c9f-abc --at 2h --output json`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if cluster.id == "" {
				return errors.New("policy why needs --cluster")
			}
			query := url.Values{"cluster": {cluster.id}, "object": {object}, "dimensions": {dimensions}}
			if at != "" {
				t, err := pastTime(at, time.Now())
				if err != nil {
					return fmt.Errorf("--at: %w", err)
				}
				query.Set("at", t.UTC().Format(time.RFC3339))
			}
			for k, v := range query {
				if v[0] == "" {
					delete(query, k)
				}
			}
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			var raw json.RawMessage
			if err := r.json(cmd.Context(), http.MethodGet, "/policies/"+url.PathEscape(given[0])+"/why?"+query.Encode(), nil, &raw); err != nil {
				return err
			}
			if output.String() == "json" {
				return printJSON(cmd.OutOrStdout(), raw)
			}
			var why policy.Why
			if err := json.Unmarshal(raw, &why); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			return printWhy(cmd.OutOrStdout(), why)
		},
	}
	r.flags(cmd)
	cmd.Flags().Var(&cluster, "cluster", "cluster (required)")
	cmd.Flags().StringVar(&object, "object", "", "object, as shop/cart-7c9f-abc, shop/deployment/cart or n-1")
	cmd.Flags().StringVar(&dimensions, "dimensions", "", "values of the metric's dimensions, as mountpoint=/data")
	cmd.Flags().StringVar(&at, "at", "", "when: a time in RFC 3339, or how long ago, as 2h (default now)")
	cmd.Flags().VarP(output, "output", "o", "text or json")
	return cmd
}

func newPolicyBacktest() *cobra.Command {
	var r remote
	var file, against, from, to string
	var clusters []string
	output := newChoice("text", "text", "json")
	cmd := &cobra.Command{
		Use: "backtest [NAME]", Short: "Replay a policy over kept data", Args: args(cobra.MaximumNArgs(1)),
		Long: "Say what a saved policy, or a draft in a file, would have done over a part of the kept data: incidents, who would have been told how often,\n" +
			"and how the values lie. With --against, a second draft is compared. Nothing is kept and nobody is told. Ctrl-C cancels it.",
		Example: `  crowsnest policy backtest cart-cpu --from 7d
  crowsnest policy backtest -f draft.yaml --from 30d --clusters prod-1
  crowsnest policy backtest cart-cpu --against draft.yaml --from 2026-11-01T00:00:00Z --to 2026-11-08T00:00:00Z`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if (len(given) == 1) == (file != "") {
				return errors.New("policy backtest needs the name of a policy, or -f FILE with a draft")
			}
			now := time.Now()
			ask := map[string]any{}
			if len(given) == 1 {
				ask["policy"] = given[0]
			}
			for key, path := range map[string]string{"draft": file, "against": against} {
				if path == "" {
					continue
				}
				raw, err := readInput(cmd, path)
				if err != nil {
					return err
				}
				docs, err := documents(raw)
				if err != nil || len(docs) != 1 {
					return fmt.Errorf("%s: must hold one policy: %w", path, err)
				}
				ask[key] = docs[0]
			}
			for key, text := range map[string]string{"from": from, "to": to} {
				if text == "" {
					continue
				}
				t, err := pastTime(text, now)
				if err != nil {
					return fmt.Errorf("--%s: %w", key, err)
				}
				ask[key] = t.UTC()
			}
			if len(clusters) > 0 {
				ask["clusters"] = clusters
			}
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			raw, err := r.backtest(cmd, ask)
			if err != nil || raw == nil {
				return err
			}
			if output.String() == "json" {
				return printJSON(cmd.OutOrStdout(), raw)
			}
			var done policy.Backtest
			if err := json.Unmarshal(raw, &done); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			for _, one := range done.Results {
				if err := printReplay(cmd.OutOrStdout(), one); err != nil {
					return err
				}
			}
			return nil
		},
	}
	r.flags(cmd)
	cmd.Flags().StringVarP(&file, "file", "f", "", "a draft instead of a saved policy, - for what comes in")
	cmd.Flags().StringVar(&against, "against", "", "file with a second draft, to be compared")
	cmd.Flags().StringVar(&from, "from", "7d", "begin: a time in RFC 3339, or how long ago")
	cmd.Flags().StringVar(&to, "to", "", "end: a time in RFC 3339, or how long ago (default now)")
	cmd.Flags().StringSliceVar(&clusters, "clusters", nil, "only these clusters")
	cmd.Flags().VarP(output, "output", "o", "text or json")
	return cmd
}

// backtest starts one and waits for its end. One that is not waited for any
// more is cancelled.
func (r *remote) backtest(cmd *cobra.Command, ask map[string]any) (json.RawMessage, error) {
	raw, err := json.Marshal(ask)
	if err != nil {
		return nil, err
	}
	res, err := r.do(cmd.Context(), http.MethodPost, api.Prefix+"/backtests", "application/json", raw)
	if err != nil {
		return nil, err
	}
	var state policy.Backtest
	err = json.NewDecoder(io.LimitReader(res.Body, maxAnswer)).Decode(&state)
	_ = res.Body.Close()
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	path := "/backtests/" + url.PathEscape(state.ID)
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		var raw json.RawMessage
		if err := r.json(cmd.Context(), http.MethodGet, path, nil, &raw); err != nil {
			return nil, err
		}
		if err := json.Unmarshal(raw, &state); err != nil {
			return nil, fmt.Errorf("read the answer: %w", err)
		}
		switch state.State {
		case policy.BacktestDone:
			return raw, nil
		case policy.BacktestFailed, policy.BacktestCancelled:
			return nil, fmt.Errorf("the backtest was %s: %s", state.State, cmp.Or(state.Error, "by somebody else"))
		}
		select {
		case <-cmd.Context().Done():
			ctx, cancel := context.WithTimeout(context.WithoutCancel(cmd.Context()), 5*time.Second)
			defer cancel()
			return nil, errors.Join(cmd.Context().Err(), r.json(ctx, http.MethodDelete, path, nil, nil))
		case <-tick.C:
		}
	}
}

func printReplay(out io.Writer, r policy.Replay) error {
	name := r.Name
	if r.Draft {
		name += " (draft)"
	}
	fmt.Fprintf(out, "%s: %d incidents, %d alerts, %d messages; %d objects, %d of %d evaluations mattered\n", name, r.IncidentCount, r.AlertCount, r.MessageCount, r.Objects, r.Judged, r.Steps)
	for _, c := range r.Clusters {
		if c.Reason != "" {
			fmt.Fprintf(out, "not on %s: %s\n", c.Cluster, c.Reason)
		}
	}
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	if len(r.Incidents) > 0 {
		fmt.Fprintln(t, "\nBEGAN\tENDED\tSEVERITY\tCAUSE\tPEAK\tINCIDENT")
	}
	for _, i := range r.Incidents {
		end, peak := "open", ""
		if i.EndedAt != nil {
			end = i.EndedAt.Format(time.RFC3339)
		}
		if len(i.Alerts) > 0 && i.Alerts[0].Peak != nil {
			peak = strconv.FormatFloat(*i.Alerts[0].Peak, 'g', 4, 64) + " " + i.Alerts[0].Unit
		}
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", i.StartedAt.Format(time.RFC3339), end, i.Severity, i.Cause, peak, i.Title)
	}
	if len(r.Messages) > 0 {
		fmt.Fprintln(t, "\nTARGET\tMESSAGE\tCOUNT")
	}
	for _, m := range r.Messages {
		fmt.Fprintf(t, "%s\t%s\t%d\n", m.Target, m.Type, m.Count)
	}
	for _, th := range r.Thresholds {
		fmt.Fprintf(t, "\n%s of %s on %s:\tp50 %.4g\tp90 %.4g\tp99 %.4g\tp99.9 %.4g\tmax %.4g %s\n", th.Statistic, th.Metric, th.Cluster, th.P50, th.P90, th.P99, th.P999, th.Max, th.Unit)
		var suggested []string
		for _, s := range []struct {
			severity string
			at       *float64
		}{{"info", th.Suggested.Info}, {"warning", th.Suggested.Warning}, {"critical", th.Suggested.Critical}} {
			if s.at != nil {
				suggested = append(suggested, fmt.Sprintf("%s %s %.4g", s.severity, th.Op, *s.at))
			}
		}
		if len(suggested) > 0 {
			fmt.Fprintf(t, "thresholds by that:\t%s (%s)\n", strings.Join(suggested, ", "), th.Words)
		}
	}
	if _, err := fmt.Fprintln(t); err != nil {
		return err
	}
	return t.Flush()
}

// pastTime reads a time, or how long ago it was.
func pastTime(s string, now time.Time) (time.Time, error) {
	if d, err := model.ParseDuration(s); err == nil {
		return now.Add(-time.Duration(d)), nil
	}
	t, err := time.Parse(time.RFC3339, s)
	if err != nil {
		return t, fmt.Errorf("%q is neither a time in RFC 3339 nor a duration as 2h or 7d", s)
	}
	return t, nil
}

// countOf says that lines are counted.
func countOf(c policy.WhyCondition) string {
	if c.Query != "" {
		return "count of"
	}
	return ""
}

func printWhy(out io.Writer, why policy.Why) error {
	fmt.Fprintln(out, why.Words)
	if !why.Judged {
		return nil
	}
	state := func(s policy.WhyState) string {
		if s.Severity == "" {
			return "ok"
		}
		return "firing, " + s.Severity
	}
	fmt.Fprintf(out, "\npolicy %s, revision %d; before: %s; after: %s\n", why.Policy, why.Revision, state(why.Before), state(why.After))
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	for _, c := range why.Conditions {
		fmt.Fprintf(t, "\n%s\t\t\n", strings.Join(strings.Fields(cmp.Or(c.Statistic, countOf(c))+" "+cmp.Or(c.Metric, c.Expr, c.Query)+" "+c.Op), " "))
		for _, w := range c.Windows {
			value := "missing"
			if w.Value != nil {
				value = strconv.FormatFloat(*w.Value, 'g', 6, 64) + " " + c.Unit
			}
			fmt.Fprintf(t, "  %s\t%s\t%s\n", w.End.Format(time.RFC3339), value, w.Bad)
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, a := range why.Recorded {
		end := "fires"
		if a.EndedAt != nil {
			end = "ended " + a.EndedAt.Format(time.RFC3339) + " (" + a.Cause + ")"
		}
		fmt.Fprintf(out, "\nrecorded within an hour of it: alert %s, %s, began %s, %s\n", a.ID, a.Severity, a.StartedAt.Format(time.RFC3339), end)
	}
	return nil
}

func newPolicyExample() *cobra.Command {
	return &cobra.Command{
		Use: "example [METRIC]", Short: "Print a policy to begin with", Args: args(cobra.MaximumNArgs(1)),
		Long:    "Print the policy of a metric's default alert, to change and apply. Without a metric: restarts of pods.",
		Example: "  crowsnest policy example k8s_node_cpu_usage > node-cpu.yaml",
		RunE: func(cmd *cobra.Command, given []string) error {
			name := catalogue.PodRestarts
			if len(given) == 1 {
				name = given[0]
			}
			m, ok := catalogue.Get(name)
			if !ok {
				hint := ""
				if near := catalogue.Nearest(name); near != "" {
					hint = fmt.Sprintf(", did you mean %s?", near)
				}
				return fmt.Errorf("there is no metric %s%s", name, hint)
			}
			a := m.Alert
			if a == nil {
				return fmt.Errorf("%s has no default alert; take the example of another metric and change it", name)
			}
			short := strings.ReplaceAll(strings.TrimPrefix(strings.TrimPrefix(name, "k8s_"), "rate_"), "_", "-")
			_, err := fmt.Fprintf(cmd.OutOrStdout(), `# %s: %s
apiVersion: crowsnest.dev/v1
kind: Policy
metadata:
  name: %s
spec:
  level: %s
  conditions:
  - metric: %s
    statistic: %s
    period: %s
    op: %q
    thresholds: {%s: %v}
    need: %d
    of: %d
`, m.Title, m.Help, short, m.Level, m.Name, a.Statistic, model.Duration(a.Period), a.Op, a.Severity, a.Threshold, a.Need, a.Of)
			return err
		},
	}
}
