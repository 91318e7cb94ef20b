package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
)

func newLogs(_ *common) *cobra.Command {
	var (
		r      remote
		follow bool
		last   = newPeriod(time.Hour, time.Second, 10*365*24*time.Hour)
		limit  = newWhole(100, 1, 1_000_000)
		output = newChoice("text", "text", "json")
	)
	cmd := &cobra.Command{
		Use: "logs [LOGSQL]", Short: "Search and follow logs by LogsQL", Args: args(cobra.MaximumNArgs(1)),
		Long: "Search log lines and Kubernetes events by LogsQL, or follow new ones as they come.\n" +
			"Fields: cluster, namespace, pod, container, stream (stdout, stderr, events), workload, node, level, and those of JSON lines.\n\n" + precedence,
		Example: `  crowsnest logs                                          # the newest lines of all
  crowsnest logs 'namespace:shop error' --last 6h --limit 500
  crowsnest logs 'stream:events type:Warning' --follow
  crowsnest logs 'level:error | stats by (workload) count()'`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			text := "*"
			if len(given) == 1 {
				text = given[0]
			}
			form, path := url.Values{"query": {text}}, "/select/logsql/tail"
			if !follow {
				path = "/select/logsql/query"
				now := time.Now()
				form.Set("start", now.Add(-last.value).UTC().Format(time.RFC3339Nano))
				form.Set("end", now.UTC().Format(time.RFC3339Nano))
				form.Set("limit", strconv.Itoa(limit.int()))
			}
			res, err := r.do(cmd.Context(), http.MethodPost, path, "application/x-www-form-urlencoded", []byte(form.Encode()))
			if err != nil {
				return err
			}
			defer func() { _ = res.Body.Close() }()
			return printLines(cmd.Context(), cmd.OutOrStdout(), res.Body, output.String() == "json", !follow)
		},
	}
	r.flags(cmd)
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with new lines as they come, until Ctrl-C")
	f.Var(last, "last", "how far back is searched")
	f.Var(limit, "limit", "the newest so many lines")
	f.VarP(output, "output", "o", "text or json (one object a line)")
	return cmd
}

// printLines draws rows that come as one JSON object a line. The server gives
// the newest first; a page of them reads the other way, as a log does.
func printLines(ctx context.Context, w io.Writer, r io.Reader, asJSON, reverse bool) error {
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 64<<10), 4<<20)
	var page []string
	for scan.Scan() {
		line := scan.Text()
		if !asJSON {
			var row map[string]string
			if err := json.Unmarshal([]byte(line), &row); err != nil {
				return fmt.Errorf("read the answer: %w", err)
			}
			line = formatRow(row)
		}
		if reverse {
			page = append(page, line)
			continue
		}
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	for i := len(page) - 1; i >= 0; i-- {
		if _, err := fmt.Fprintln(w, page[i]); err != nil {
			return err
		}
	}
	if ctx.Err() != nil {
		return nil // ended by Ctrl-C
	}
	return scan.Err()
}

// formatRow draws a log line as people read it; rows of statistics, which have
// no message, as their fields.
func formatRow(row map[string]string) string {
	msg, isLine := row["_msg"]
	if !isLine {
		raw, _ := json.Marshal(row) // of strings
		return string(raw)
	}
	var b strings.Builder
	if t, err := time.Parse(time.RFC3339Nano, row["_time"]); err == nil {
		b.WriteString(t.UTC().Format("2006-01-02 15:04:05.000"))
	}
	if level := row["level"]; level != "" {
		fmt.Fprintf(&b, " %-5s", strings.ToUpper(level))
	}
	place := row["namespace"]
	for _, part := range []string{row["pod"], row["container"]} {
		if part != "" {
			place += "/" + part
		}
	}
	if row["stream"] == "events" {
		place = "event " + row["namespace"] + "/" + row["kind"] + "/" + row["name"] + " " + row["reason"]
	}
	fmt.Fprintf(&b, " %s: %s", place, msg)
	return b.String()
}
