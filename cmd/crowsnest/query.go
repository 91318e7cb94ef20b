package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/prometheus/common/model"
	"github.com/spf13/cobra"
)

func newQuery(_ *common) *cobra.Command {
	var (
		r      remote
		at     string
		last   = newPeriod(0, 0, 10*365*24*time.Hour)
		step   = newPeriod(time.Minute, time.Second, 365*24*time.Hour)
		output = newChoice("table", "table", "json")
	)
	cmd := &cobra.Command{
		Use: "query PROMQL", Short: "Ask the server by PromQL", Args: args(cobra.ExactArgs(1)),
		Long: "Ask the server by PromQL, for a moment or over a range, as a table or as the API's JSON.\n\n" + precedence,
		Example: `  crowsnest query k8s_node_cpu_usage
  crowsnest query 'topk(5, k8s_pod_cpu_core_used)' --output json
  crowsnest query 'sum by (namespace) (k8s_workload_mem_no_cache_bytes)' --last 1h --step 5m
  crowsnest query k8s_cluster_pod_num --at 2026-11-23T10:00:00Z`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			form := url.Values{"query": {given[0]}}
			end := time.Now()
			if at != "" {
				t, err := time.Parse(time.RFC3339, at)
				if err != nil {
					return fmt.Errorf("--at must be a time such as 2026-11-23T10:00:00Z, not %q", at)
				}
				end = t
			}
			path := "/api/v1/query"
			if last.value > 0 {
				path = "/api/v1/query_range"
				form.Set("start", seconds(end.Add(-last.value)))
				form.Set("end", seconds(end))
				form.Set("step", strconv.FormatFloat(step.value.Seconds(), 'f', -1, 64))
			} else {
				form.Set("time", seconds(end))
			}
			res, err := r.do(cmd.Context(), http.MethodPost, path, "application/x-www-form-urlencoded", []byte(form.Encode()))
			if err != nil {
				return err
			}
			defer func() { _ = res.Body.Close() }()
			raw, err := io.ReadAll(io.LimitReader(res.Body, maxAnswer))
			if err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			if output.String() == "json" {
				return printJSON(cmd.OutOrStdout(), raw)
			}
			return printVector(cmd.OutOrStdout(), cmd.ErrOrStderr(), raw)
		},
	}
	r.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&at, "at", "", "moment to ask for, RFC 3339; default: now")
	f.Var(last, "last", "range that ends at that moment; default: the moment only")
	f.Var(step, "step", "distance of points in a range")
	f.VarP(output, "output", "o", "table or json")
	return cmd
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

// printVector draws the answer of a PromQL query.
func printVector(w, warn io.Writer, raw []byte) error {
	var answer struct {
		Data struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
		Warnings []string `json:"warnings"`
		Infos    []string `json:"infos"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	for _, text := range append(answer.Warnings, answer.Infos...) {
		fmt.Fprintln(warn, "note:", text)
	}
	switch answer.Data.ResultType {
	case "vector":
		var v model.Vector
		if err := json.Unmarshal(answer.Data.Result, &v); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		rows := make([]labelled, len(v))
		for i, s := range v {
			value := s.Value.String()
			if s.Histogram != nil {
				value = s.Histogram.String()
			}
			rows[i] = labelled{s.Metric, value}
		}
		return printLabelled(w, rows, "VALUE")
	case "matrix":
		var m model.Matrix
		if err := json.Unmarshal(answer.Data.Result, &m); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		for _, s := range m {
			fmt.Fprintln(w, s.Metric)
			for _, p := range s.Values {
				fmt.Fprintf(w, "  %s  %s\n", p.Timestamp.Time().UTC().Format(time.RFC3339), p.Value)
			}
		}
		if len(m) == 0 {
			fmt.Fprintln(w, "no series")
		}
		return nil
	}
	return printJSON(w, answer.Data.Result) // scalar or string
}

type labelled struct {
	labels model.Metric
	value  string
}

// printLabelled draws rows with one column for each label that any of them has.
func printLabelled(w io.Writer, rows []labelled, value string) error {
	if len(rows) == 0 {
		_, err := fmt.Fprintln(w, "no series")
		return err
	}
	var names []model.LabelName
	for _, r := range rows {
		for n := range r.labels {
			if !slices.Contains(names, n) {
				names = append(names, n)
			}
		}
	}
	slices.Sort(names)
	t := tabwriter.NewWriter(w, 0, 4, 2, ' ', 0)
	for _, n := range names {
		title := strings.ToUpper(string(n))
		if n == model.MetricNameLabel {
			title = "METRIC"
		}
		fmt.Fprint(t, title, "\t")
	}
	fmt.Fprintln(t, value)
	for _, r := range rows {
		for _, n := range names {
			fmt.Fprint(t, r.labels[n], "\t")
		}
		fmt.Fprintln(t, r.value)
	}
	return t.Flush()
}
