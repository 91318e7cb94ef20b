package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// levelOrder is from the least severe on, as the store spells levels.
var levelOrder = []string{"trace", "debug", "info", "warn", "error", "fatal"}

// logsFlags are what "crowsnest logs" can be told.
type logsFlags struct {
	remote     remote
	cluster    clusterID
	namespace  string
	container  string
	level      *choice
	grep       string
	ignoreCase bool
	around     *number
	follow     bool
	previous   bool
	last       *period
	limit      *number
	output     *choice
	color      *choice
	ownTime    bool
	selector   string
	sinceTime  instant
	timestamps bool
}

func newLogs(_ *common) *cobra.Command {
	o := &logsFlags{
		level: newChoice("", append([]string{""}, levelOrder...)...), around: newWhole(0, 0, 1000),
		last: newPeriod(time.Hour, time.Second, 10*365*24*time.Hour), limit: newWhole(100, 1, 1_000_000),
		output: newChoice("text", "text", "raw", "json"), color: newChoice("auto", "auto", "always", "never"),
	}
	cmd := &cobra.Command{
		Use: "logs [TYPE/NAME | POD] [LOGSQL]", Short: "Search and follow logs, of a workload or by LogsQL", Args: args(cobra.MaximumNArgs(2)),
		Long: "Search log lines and Kubernetes events, or follow new ones as they come. TYPE is that of a workload (deploy, sts, ds, job, cronjob), pod, node or ns;\n" +
			"lines of pods that are gone are found as well. svc/NAME stands for the pods that are behind a Service and those that were in the last 24 hours, with\n" +
			"--follow for new ones, too; --selector for the pods that have these labels when the command begins. A single word that is the name of a pod that\n" +
			"is there stands for this pod, as kubectl has it; quoted twice ('\"cart-7\"') it is searched for. The rest is LogsQL.\n" +
			"Fields: cluster, namespace, pod, container, stream (stdout, stderr, events), workload, node, level, lag_ms, and those of JSON lines. A line's time\n" +
			"is that of the container's runtime; lag_ms is how many milliseconds the time that a JSON or logfmt line has itself lies before it (lag_ms:>1000).\n\n" + precedence,
		Example: `  crowsnest logs -n shop deploy/cart -f --since 1h --level error
  crowsnest logs -n shop pod/cart-7c9f -c app --previous  # before its last restart
  crowsnest logs -n shop svc/cart -f                      # of the pods behind a Service
  crowsnest logs -n shop -l app=cart,tier!=batch --tail 20
  crowsnest logs -n shop --grep 'time(d )?out' --around 3 # with the lines around each match
  crowsnest logs                                          # the newest lines of all
  crowsnest logs 'namespace:shop error' --last 6h --limit 500
  crowsnest logs 'stream:events type:Warning' --follow
  crowsnest logs 'level:error | stats by (workload) count()'`,
		RunE: func(cmd *cobra.Command, given []string) error { return o.run(cmd, given) },
	}
	o.remote.flags(cmd)
	f := cmd.Flags()
	f.Var(&o.cluster, "cluster", "only lines of this cluster")
	f.StringVarP(&o.namespace, "namespace", "n", "", "only lines of this namespace; * at its end stands for anything")
	f.StringVarP(&o.container, "container", "c", "", "only lines of this container")
	f.Var(o.level, "level", "only lines of this level or a worse one: trace, debug, info, warn, error or fatal")
	f.StringVar(&o.grep, "grep", "", "only lines whose message matches this regular expression")
	f.BoolVarP(&o.ignoreCase, "ignore-case", "i", false, "--grep takes capital and small letters for the same")
	f.VarP(o.around, "around", "C", "show so many lines of the container before and after each line found")
	f.BoolVarP(&o.follow, "follow", "f", false, "go on with new lines as they come, until Ctrl-C")
	f.BoolVarP(&o.previous, "previous", "p", false, "lines of the instances before a container's last restart")
	f.Var(o.last, "last", "how far back is searched; with --follow only when it is given")
	f.Var(o.last, "since", "the same as --last")
	f.Var(&o.sinceTime, "since-time", "from when on is searched, as 2026-11-23T10:00:00Z; in place of --since")
	f.StringVarP(&o.selector, "selector", "l", "", "only lines of the pods that have these labels now, as kubectl selects them: app=cart,tier!=batch")
	f.BoolVar(&o.timestamps, "timestamps", false, "begin each line with its whole time, as 2026-11-23T10:00:00.123456789Z; raw lines, too")
	f.Var(o.limit, "limit", "the newest so many lines")
	f.Var(o.limit, "tail", "the same as --limit")
	f.VarP(o.output, "output", "o", "text, raw (the message alone) or json (one object a line)")
	f.Var(o.color, "color", "a colour for each pod: auto (on a terminal, unless NO_COLOR is set), always or never")
	f.BoolVar(&o.ownTime, "own-time", false, "show the time that a line has itself, where it has one, in place of the runtime's; in text only")
	return cmd
}

func (o *logsFlags) run(cmd *cobra.Command, given []string) error {
	if err := o.remote.open(); err != nil {
		return err
	}
	defer o.remote.close()
	ref, text, err := splitLogArgs(given)
	if err != nil {
		return err
	}
	if !o.sinceTime.IsZero() && (cmd.Flags().Changed("last") || cmd.Flags().Changed("since")) {
		return errors.New("--since-time goes in place of --since, not with it")
	}
	if len(given) == 1 && ref.kind == "" {
		if is, err := o.isPod(cmd.Context(), text); err != nil {
			return err
		} else if is {
			ref, text = logRef{"pod", text}, "*"
		}
	}
	filters, err := o.filters(ref)
	if err != nil {
		return err
	}
	if o.selector != "" {
		selected, err := o.selected(cmd.Context())
		if err != nil {
			return err
		}
		filters = append(filters, selected)
	}
	if o.around.value > 0 && (o.follow || o.previous) {
		return errors.New("--around goes with neither --follow nor --previous")
	}
	if o.previous {
		if o.follow {
			return errors.New("--previous does not go with --follow: nothing comes after it")
		}
		instances, err := o.previousInstances(cmd.Context(), ref)
		if err != nil {
			return err
		}
		filters = append(filters, instances)
	}
	ctx, w := cmd.Context(), cmd.OutOrStdout()
	show := &printer{w: w, output: o.output.String(), ownTime: o.ownTime, timestamps: o.timestamps, colored: colored(o.color.String(), w)}
	form := url.Values{"query": {text}}
	if len(filters) > 0 {
		form.Set("extra_filters", strings.Join(filters, " "))
	}
	if o.cluster.id != "" {
		form.Set("cluster", o.cluster.id)
	}
	if ref.kind == "service" {
		if err := o.ofService(ctx, form, ref.name); err != nil {
			return err
		}
	}
	if !o.follow {
		_, err := o.page(ctx, form, time.Now(), show)
		return err
	}
	// The tail is opened first, so that nothing falls between the page and it.
	form.Set("start_offset", tailOverlap.String())
	tail, err := o.ask(ctx, "/select/logsql/tail", form)
	if err != nil {
		return err
	}
	defer func() { _ = tail.Close() }()
	seen := map[string]bool{}
	if cmd.Flags().Changed("last") || cmd.Flags().Changed("since") || cmd.Flags().Changed("limit") || cmd.Flags().Changed("tail") || !o.sinceTime.IsZero() {
		if seen, err = o.page(ctx, form, time.Now(), show); err != nil {
			return err
		}
	}
	err = eachLogRow(tail, func(row logRow) error {
		if seen[row.key()] {
			delete(seen, row.key())
			return nil
		}
		return show.row(row)
	})
	if ctx.Err() != nil {
		return nil // ended by Ctrl-C
	}
	return err
}

// tailOverlap is how far a tail reaches back into what the page before it has.
const tailOverlap = 5 * time.Second

// page prints the newest lines, the oldest of them first, and gives the keys of
// those that a tail may bring again.
func (o *logsFlags) page(ctx context.Context, form url.Values, now time.Time, show *printer) (seen map[string]bool, err error) {
	start := o.sinceTime.Time
	if start.IsZero() {
		start = now.Add(-o.last.value)
	}
	form.Set("start", start.UTC().Format(time.RFC3339Nano))
	if o.follow {
		form.Del("end") // a line may be a little ahead of this machine's clock
	} else {
		form.Set("end", now.UTC().Format(time.RFC3339Nano))
	}
	form.Set("limit", strconv.Itoa(o.limit.int()))
	body, err := o.ask(ctx, "/select/logsql/query", form)
	if err != nil {
		return nil, err
	}
	defer func() { _ = body.Close() }()
	// The server gives the newest first; a page of them reads the other way.
	var page []logRow
	if err := eachLogRow(body, func(row logRow) error { page = append(page, row); return nil }); err != nil {
		if ctx.Err() != nil {
			return nil, nil
		}
		return nil, fmt.Errorf("the answer broke off, lines are missing: %w", err)
	}
	slices.Reverse(page)
	if o.around.value > 0 {
		return nil, o.surrounded(ctx, page, show)
	}
	seen = map[string]bool{}
	for _, row := range page {
		seen[row.key()] = true
		if err := show.row(row); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// surrounded prints each line with those around it, as grep -C does.
func (o *logsFlags) surrounded(ctx context.Context, page []logRow, show *printer) error {
	shown := map[string]bool{}
	for _, match := range page {
		if match.fields["_stream_id"] == "" {
			if err := show.row(match); err != nil { // of a pipe, not a line
				return err
			}
			continue
		}
		q := url.Values{"stream_id": {match.fields["_stream_id"]}, "time": {match.fields["_time"]}, "scope": {"container"},
			"before": {o.around.String()}, "after": {o.around.String()}}
		var found struct{ Before, Lines, After []map[string]string }
		if err := o.remote.json(ctx, http.MethodGet, "/logs/context?"+q.Encode(), nil, &found); err != nil {
			return err
		}
		rows := slices.Concat(found.Before, found.Lines, found.After)
		separate := len(shown) > 0 && len(rows) > 0 && !shown[(logRow{fields: rows[0]}).key()]
		for _, fields := range rows {
			raw, err := json.Marshal(fields)
			if err != nil {
				return err
			}
			row := logRow{fields: fields, raw: raw}
			if shown[row.key()] {
				continue
			}
			if separate && show.output != "json" {
				if _, err := fmt.Fprintln(show.w, "--"); err != nil {
					return err
				}
			}
			separate = false
			shown[row.key()] = true
			if err := show.row(row); err != nil {
				return err
			}
		}
	}
	return nil
}

func (o *logsFlags) ask(ctx context.Context, path string, form url.Values) (io.ReadCloser, error) {
	res, err := o.remote.do(ctx, http.MethodPost, path, "application/x-www-form-urlencoded", []byte(form.Encode()))
	if err != nil {
		return nil, err
	}
	return res.Body, nil
}

// logRef names an object whose lines are wanted.
type logRef struct{ kind, name string }

// logTypes are kubectl's names of types, and what we call them.
var logTypes = map[string]string{
	"deploy": "deployment", "deployment": "deployment", "deployments": "deployment",
	"sts": "statefulset", "statefulset": "statefulset", "statefulsets": "statefulset",
	"ds": "daemonset", "daemonset": "daemonset", "daemonsets": "daemonset",
	"job": "job", "jobs": "job", "cj": "cronjob", "cronjob": "cronjob", "cronjobs": "cronjob",
	"rs": "replicaset", "replicaset": "replicaset", "replicasets": "replicaset",
	"svc": "service", "service": "service", "services": "service",
	"po": "pod", "pod": "pod", "pods": "pod", "no": "node", "node": "node", "nodes": "node", "ns": "namespace", "namespace": "namespace", "namespaces": "namespace",
}

var typeAndName = regexp.MustCompile(`^([a-z]+)/([A-Za-z0-9][A-Za-z0-9.-]*\*?|\*)$`)

// splitLogArgs tells TYPE/NAME from LogsQL.
func splitLogArgs(given []string) (ref logRef, text string, err error) {
	text = "*"
	if len(given) > 0 {
		if m := typeAndName.FindStringSubmatch(given[0]); m != nil && logTypes[m[1]] != "" {
			ref, given = logRef{logTypes[m[1]], m[2]}, given[1:]
		}
	}
	switch len(given) {
	case 0:
	case 1:
		text = given[0]
	default:
		return ref, "", fmt.Errorf("the first of two arguments must be TYPE/NAME, for example deploy/cart, not %q", given[0])
	}
	return ref, text, nil
}

// exactly is a LogsQL filter for a value, which may end with *.
func exactly(field, value string) string {
	if head, ok := strings.CutSuffix(value, "*"); ok {
		return fmt.Sprintf("%s:=%q*", field, head)
	}
	return fmt.Sprintf("%s:=%q", field, value)
}

func (o *logsFlags) filters(ref logRef) (out []string, err error) {
	switch ref.kind {
	case "", "service": // the server finds the pods behind a Service
	case "pod", "node", "namespace":
		out = append(out, exactly(ref.kind, ref.name))
	default:
		out = append(out, exactly("workload_type", ref.kind), exactly("workload", ref.name))
	}
	if o.namespace != "" {
		out = append(out, exactly("namespace", o.namespace))
	}
	if o.container != "" {
		out = append(out, exactly("container", o.container))
	}
	if level := o.level.String(); level != "" {
		var worse []string
		for _, l := range levelOrder[slices.Index(levelOrder, level):] {
			worse = append(worse, strconv.Quote(l))
		}
		out = append(out, "level:in("+strings.Join(worse, ",")+")")
	}
	if o.grep != "" {
		if _, err := regexp.Compile(o.grep); err != nil {
			return nil, fmt.Errorf("--grep must be a regular expression: %w", err)
		}
		flags := ""
		if o.ignoreCase {
			flags = "(?i)"
		}
		out = append(out, fmt.Sprintf("_msg:~%q", flags+o.grep))
	}
	return out, nil
}

// previousInstances makes a filter for what containers wrote before their last
// restart. Lines do not say from which instance they are, but the inventory says
// when the present one began.
func (o *logsFlags) previousInstances(ctx context.Context, ref logRef) (string, error) {
	if ref.kind == "" || ref.kind == "node" || ref.kind == "namespace" {
		return "", errors.New("--previous needs a pod, a workload or a service, for example pod/cart-7c9f")
	}
	cluster, err := o.oneCluster(ctx, "--previous")
	if err != nil {
		return "", err
	}
	q := url.Values{}
	switch ref.kind {
	case "pod":
	case "service":
		q.Set("service", ref.name)
	default:
		q.Set("workload_type", ref.kind)
		q.Set("workload", ref.name)
	}
	pods, err := o.pods(ctx, cluster, q)
	if err != nil {
		return "", err
	}
	var parts []string
	known := false
	for _, p := range pods {
		if ref.kind == "pod" && p.Name != ref.name {
			continue
		}
		known = true
		for _, c := range p.Containers {
			if c.RestartCount == 0 || o.container != "" && c.Name != o.container {
				continue
			}
			filter := fmt.Sprintf("namespace:=%q pod:=%q container:=%q", p.Namespace, p.Name, c.Name)
			// One that waits for its next start has no present instance.
			if c.StartedAt != nil && c.State != "waiting" {
				filter += fmt.Sprintf(" _time:<%q", c.StartedAt.UTC().Format(time.RFC3339Nano))
			}
			parts = append(parts, "("+filter+")")
		}
	}
	switch {
	case !known:
		return "", fmt.Errorf("there is no %s %s in cluster %s now; without --previous, lines of what is gone are found as well", ref.kind, ref.name, cluster)
	case len(parts) == 0:
		return "", fmt.Errorf("no container of %s %s was restarted", ref.kind, ref.name)
	}
	return "(" + strings.Join(parts, " or ") + ")", nil
}

// oneCluster gives the cluster that is meant: there must be one only, or be named.
func (o *logsFlags) oneCluster(ctx context.Context, what string) (string, error) {
	if o.cluster.id != "" {
		return o.cluster.id, nil
	}
	var clusters struct{ Items []struct{ ID string } }
	if err := o.remote.json(ctx, http.MethodGet, "/clusters", nil, &clusters); err != nil {
		return "", err
	}
	if len(clusters.Items) != 1 {
		return "", fmt.Errorf("%s needs --cluster: the server has %d clusters", what, len(clusters.Items))
	}
	return clusters.Items[0].ID, nil
}

// listedPod is what is asked about a pod.
type listedPod struct {
	Namespace, Name string
	Labels          map[string]string
	Containers      []struct {
		Name         string
		State        string
		RestartCount int        `json:"restart_count"`
		StartedAt    *time.Time `json:"started_at"`
	}
}

// pods lists those of a cluster that are there, in the namespace if one is named in full.
func (o *logsFlags) pods(ctx context.Context, cluster string, q url.Values) ([]listedPod, error) {
	if o.namespace != "" && !strings.HasSuffix(o.namespace, "*") {
		q.Set("namespace", o.namespace)
	}
	var pods struct{ Items []listedPod }
	err := o.remote.json(ctx, http.MethodGet, "/clusters/"+url.PathEscape(cluster)+"/pods?"+q.Encode(), nil, &pods)
	return pods.Items, err
}

// podName is how Kubernetes names pods.
var podName = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]*[a-z0-9])?$`)

// isPod says whether a word is the name of a pod that is there, where it is looked.
func (o *logsFlags) isPod(ctx context.Context, word string) (bool, error) {
	if !podName.MatchString(word) {
		return false, nil
	}
	var found struct {
		Items []struct{ Kind, Cluster, Namespace, Name string }
	}
	// Those whose name is the word come first.
	if err := o.remote.json(ctx, http.MethodGet, "/object-search?"+url.Values{"q": {word}, "limit": {"200"}}.Encode(), nil, &found); err != nil {
		return false, err
	}
	for _, f := range found.Items {
		in := f.Namespace == o.namespace
		if head, many := strings.CutSuffix(o.namespace, "*"); many || o.namespace == "" {
			in = strings.HasPrefix(f.Namespace, head)
		}
		if f.Kind == "pod" && f.Name == word && in && (o.cluster.id == "" || f.Cluster == o.cluster.id) {
			return true, nil
		}
	}
	return false, nil
}

// ofService asks for lines of the pods behind a Service.
func (o *logsFlags) ofService(ctx context.Context, form url.Values, name string) error {
	if o.namespace == "" || strings.HasSuffix(o.namespace, "*") || strings.HasSuffix(name, "*") {
		return errors.New("svc/NAME needs the namespace of one service, for example -n shop svc/cart")
	}
	cluster, err := o.oneCluster(ctx, "svc/NAME")
	if err != nil {
		return err
	}
	form.Set("cluster", cluster)
	form.Set("namespace", o.namespace)
	form.Set("service", name)
	return nil
}

// selected makes a filter for the pods that have the labels now.
func (o *logsFlags) selected(ctx context.Context) (string, error) {
	selector, err := labels.Parse(o.selector)
	if err != nil {
		return "", fmt.Errorf("--selector must be a label selector such as app=cart,tier!=batch: %w", err)
	}
	cluster, err := o.oneCluster(ctx, "--selector")
	if err != nil {
		return "", err
	}
	pods, err := o.pods(ctx, cluster, url.Values{})
	if err != nil {
		return "", err
	}
	byNamespace := map[string][]string{}
	for _, p := range pods {
		if selector.Matches(labels.Set(p.Labels)) {
			byNamespace[p.Namespace] = append(byNamespace[p.Namespace], strconv.Quote(p.Name))
		}
	}
	if len(byNamespace) == 0 {
		return "", fmt.Errorf("no pod with the labels %s is there now; lines of pods that are gone are found by their workload, for example deploy/cart", o.selector)
	}
	var parts []string
	for _, namespace := range slices.Sorted(maps.Keys(byNamespace)) {
		parts = append(parts, fmt.Sprintf("namespace:=%q pod:in(%s)", namespace, strings.Join(byNamespace[namespace], ",")))
	}
	return fmt.Sprintf("cluster:=%q (%s)", cluster, strings.Join(parts, " or ")), nil
}

// logRow is a row of an answer, as it came and as its fields.
type logRow struct {
	raw    []byte
	fields map[string]string
}

// key tells a line from others.
func (r logRow) key() string {
	return r.fields["_stream_id"] + "\x00" + r.fields["_time"] + "\x00" + r.fields["_msg"]
}

// eachLogRow reads rows that come as one JSON object a line.
func eachLogRow(r io.Reader, fn func(logRow) error) error {
	scan := bufio.NewScanner(r)
	scan.Buffer(make([]byte, 64<<10), 4<<20)
	for scan.Scan() {
		row := logRow{raw: slices.Clone(scan.Bytes())}
		if err := json.Unmarshal(row.raw, &row.fields); err != nil {
			return fmt.Errorf("read the answer: %w", err)
		}
		if err := fn(row); err != nil {
			return err
		}
	}
	return scan.Err()
}

// printer draws rows.
type printer struct {
	w          io.Writer
	output     string
	colored    bool
	ownTime    bool // lines stand at their own times
	timestamps bool // in full
}

func (p *printer) row(r logRow) error {
	text := ""
	switch p.output {
	case "json":
		text = string(r.raw)
	case "raw":
		text = r.fields["_msg"]
		if _, isLine := r.fields["_msg"]; !isLine {
			text = string(r.raw)
		} else if p.timestamps {
			text = r.fields["_time"] + " " + text
		}
	default:
		text = p.format(r.fields)
	}
	_, err := fmt.Fprintln(p.w, text)
	return err
}

// podColors are those that can be read on light and dark ground.
var podColors = []int{31, 32, 33, 34, 35, 36, 91, 92, 94, 95, 96}

func (p *printer) paint(text string, color int) string {
	if !p.colored || text == "" {
		return text
	}
	return fmt.Sprintf("\x1b[%dm%s\x1b[0m", color, text)
}

// format draws a log line as people read it; rows of statistics, which have no
// message, as their fields.
func (p *printer) format(row map[string]string) string {
	msg, isLine := row["_msg"]
	if !isLine {
		raw, _ := json.Marshal(row) // of strings
		return string(raw)
	}
	var b strings.Builder
	if t, err := time.Parse(time.RFC3339Nano, row["_time"]); err == nil {
		if own, ok := wire.OwnTime(t, row[wire.LagField]); ok && p.ownTime {
			t = own
		}
		layout := "2006-01-02 15:04:05.000"
		if p.timestamps {
			layout = time.RFC3339Nano
		}
		b.WriteString(t.UTC().Format(layout))
	}
	if level := row["level"]; level != "" {
		color := 0
		switch level {
		case "error", "fatal":
			color = 31
		case "warn":
			color = 33
		}
		text := fmt.Sprintf("%-5s", strings.ToUpper(level))
		if color != 0 {
			text = p.paint(text, color)
		}
		b.WriteString(" " + text)
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
	sum := uint32(2166136261) // FNV-1a: a pod has the same colour in every call
	for _, c := range []byte(row["pod"]) {
		sum = (sum ^ uint32(c)) * 16777619
	}
	fmt.Fprintf(&b, " %s: %s", p.paint(place, podColors[sum%uint32(len(podColors))]), msg)
	return b.String()
}

// colored says whether colours are wanted.
func colored(when string, w io.Writer) bool {
	if when != "auto" {
		return when == "always"
	}
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}
