package logs

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/timeutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

// maxFormBytes bounds a multipart form in memory.
const maxFormBytes = 1 << 20

// params are the parameters of a request, as VictoriaLogs names them.
type params struct {
	query       logs.Query    // query, start, end, time, limit, offset, extra_filters, extra_stream_filters, hidden_fields_filters, ignore_pipes; cluster is ours
	limit       int           // limit, for values
	timeout     time.Duration // timeout
	step        time.Duration // step; default 1d
	stepOffset  time.Duration // offset, of hits and stats_query_range
	fields      []string      // field, may be repeated
	fieldsLimit int           // fields_limit
	part        string        // filter, of names and values
	startOffset time.Duration // start_offset, of tail; default 5s
	maxValues   int           // max_values_per_field, of facets
	maxValueLen int           // max_value_len, of facets
	keepConst   bool          // keep_const_fields, of facets
	csv         bool          // format, of query
	service     service       // service, with namespace; ours
}

func (p params) field() string {
	if len(p.fields) == 0 {
		return ""
	}
	return p.fields[0]
}

// parse reads all parameters, and names all wrong ones at once. A body that
// cannot be read is fault.ErrMalformed or fault.ErrTooLarge, a wrong parameter
// fault.ErrInvalid; the clusters are set in the latter case too.
func parse(r *http.Request, now time.Time) (params, error) {
	err := r.ParseMultipartForm(maxFormBytes)
	if errors.Is(err, http.ErrNotMultipart) {
		err = r.ParseForm()
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return params{}, fmt.Errorf("read parameters: %w: %w", fault.ErrTooLarge, err)
	}
	if err != nil {
		return params{}, fmt.Errorf("read parameters: %w: %w", fault.ErrMalformed, err)
	}
	return parseForm(r.Form, path.Base(r.URL.Path), now)
}

// parseForm reads the parameters of the endpoint of that name.
func parseForm(form url.Values, of string, now time.Time) (params, error) {
	var fs fault.Fields
	p := params{
		query: logs.Query{
			Text:     form.Get("query"),
			Start:    timeOf(&fs, form, "start", now),
			End:      timeOf(&fs, form, "end", now),
			At:       timeOf(&fs, form, "time", now),
			Limit:    intOf(&fs, form, "limit"),
			Clusters: clusters(form),
		},
		timeout:     durationOf(&fs, form, "timeout", 0),
		step:        durationOf(&fs, form, "step", 24*time.Hour),
		fields:      form["field"],
		fieldsLimit: intOf(&fs, form, "fields_limit"),
		startOffset: durationOf(&fs, form, "start_offset", 5*time.Second),
		maxValues:   intOf(&fs, form, "max_values_per_field"),
		maxValueLen: intOf(&fs, form, "max_value_len"),
		part:        form.Get("filter"),
	}
	if p.query.Text == "" {
		fs.Add("query", "is required", nil)
	}
	// "offset" skips rows of a query, and says of steps of which zone they are; a tail
	// takes one too, a delay that it does not need.
	switch of {
	case "hits", "stats_query_range":
		p.stepOffset = signedDurationOf(&fs, form, "offset")
	case "tail":
		durationOf(&fs, form, "offset", 0)
		if durationOf(&fs, form, "refresh_interval", time.Second) == 0 {
			fs.Add("refresh_interval", "must be positive", form.Get("refresh_interval"))
		}
	case "query":
		p.query.Offset = intOf(&fs, form, "offset")
		if p.query.Offset > 0 && p.query.Limit == 0 {
			fs.Add("offset", "needs a limit: rows are in no order without one", form.Get("offset"))
		}
		switch s := form.Get("format"); s {
		case "", "csv":
			p.csv = s != ""
		default:
			fs.Add("format", "must be csv, or left out for JSON lines", s)
		}
	}
	if p.step == 0 {
		fs.Add("step", "must be positive", form.Get("step"))
	}
	if slices.Contains(p.fields, "") {
		fs.Add("field", "must not be empty", nil)
	}
	for _, name := range []string{"extra_filters", "extra_stream_filters"} {
		for _, text := range form[name] {
			f, err := filterOf(text, name == "extra_stream_filters")
			if err != nil {
				fs.Add(name, err.Error(), text)
			} else if f != "" {
				p.query.Filters = append(p.query.Filters, f)
			}
		}
	}
	switch s := strings.ToLower(form.Get("keep_const_fields")); s {
	case "", "0", "f", "false", "no":
	default:
		p.keepConst = true
	}
	p.query.NoPipes = boolOf(&fs, form, "ignore_pipes")
	boolOf(&fs, form, "allow_partial_response") // a whole answer is allowed, too
	p.query.Hide = namesOf(&fs, form, "hidden_fields_filters")
	p.limit = p.query.Limit
	p.service = serviceOf(&fs, form.Get("service"), form.Get("namespace"), p.query.Clusters)
	return p, fs.Err()
}

// namesOf reads names: a JSON array, or with commas between them.
func namesOf(fs *fault.Fields, form url.Values, name string) []string {
	s := form.Get(name)
	if s == "" {
		return nil
	}
	if !strings.HasPrefix(s, "[") {
		return strings.Split(s, ",")
	}
	var out []string
	if err := json.Unmarshal([]byte(s), &out); err != nil {
		fs.Add(name, "must be field names with commas between them, or a JSON array of them", s)
	}
	return out
}

// clusters gives those that were named; nil when none was.
func clusters(form url.Values) []string {
	var out []string
	for _, c := range form["cluster"] {
		if c != "" && !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

func boolOf(fs *fault.Fields, form url.Values, name string) bool {
	s := form.Get(name)
	if s == "" {
		return false
	}
	b, err := strconv.ParseBool(s)
	if err != nil {
		fs.Add(name, "must be 1 or 0", s)
	}
	return b
}

func intOf(fs *fault.Fields, form url.Values, name string) int {
	s := form.Get(name)
	if s == "" {
		return 0
	}
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 0 {
		fs.Add(name, "must be a whole number from 0", s)
		return 0
	}
	return int(n)
}

func durationOf(fs *fault.Fields, form url.Values, name string, fallback time.Duration) time.Duration {
	if form.Get(name) == "" {
		return fallback
	}
	d := signedDurationOf(fs, form, name)
	if d < 0 {
		fs.Add(name, "must not be negative", form.Get(name))
		return 0
	}
	return d
}

func signedDurationOf(fs *fault.Fields, form url.Values, name string) time.Duration {
	s := form.Get(name)
	if s == "" {
		return 0
	}
	// A plain number is seconds, as in Prometheus; VictoriaLogs' tail sends
	// milliseconds with their unit.
	if seconds, err := strconv.ParseFloat(s, 64); err == nil && seconds > -1e9 && seconds < 1e9 {
		return time.Duration(seconds * float64(time.Second))
	}
	d, err := timeutil.ParseDuration(s)
	if err != nil {
		fs.Add(name, "must be a duration like 30s, 5m, 1h, 1d", s)
		return 0
	}
	return d
}

// timeOf reads a time in any of VictoriaLogs' forms: RFC 3339, whole or cut
// short (2026-11-23), Unix seconds, milli-, micro- or nanoseconds, or relative
// (-5m, now-1h).
func timeOf(fs *fault.Fields, form url.Values, name string, now time.Time) time.Time {
	s := form.Get(name)
	if s == "" {
		return time.Time{}
	}
	ns, err := timeutil.ParseTimeAt(s, now.UnixNano())
	if err != nil {
		fs.Add(name, "must be a time: RFC 3339, Unix seconds, or relative like now-1h", s)
		return time.Time{}
	}
	return time.Unix(0, ns).UTC()
}

// filterOf gives an extra filter as LogsQL. It may also be {"field":"value"} or
// {"field":["one","of"]}.
func filterOf(text string, stream bool) (string, error) {
	if !strings.HasPrefix(text, `{"`) {
		return text, nil
	}
	dec := json.NewDecoder(strings.NewReader(text))
	var fields map[string]any
	if err := dec.Decode(&fields); err != nil {
		return "", fmt.Errorf("must be LogsQL or a JSON object of fields: %w", err)
	}
	names := make([]string, 0, len(fields))
	for name := range fields {
		names = append(names, name)
	}
	slices.Sort(names)
	var parts []string
	for _, name := range names {
		var values []string
		switch v := fields[name].(type) {
		case string:
			values = []string{v}
		case []any:
			for _, e := range v {
				s, ok := e.(string)
				if !ok {
					return "", fmt.Errorf("the values of %q must be text", name)
				}
				values = append(values, s)
			}
		default:
			return "", fmt.Errorf("the value of %q must be text or a list of texts", name)
		}
		if len(values) == 0 {
			continue
		}
		quoted := make([]string, len(values))
		for i, v := range values {
			quoted[i] = strconv.Quote(v)
		}
		switch {
		case stream && len(values) == 1:
			parts = append(parts, fmt.Sprintf("%q=%q", name, values[0]))
		case stream:
			for i, v := range values {
				values[i] = regexp.QuoteMeta(v)
			}
			parts = append(parts, fmt.Sprintf("%q=~%q", name, strings.Join(values, "|")))
		default:
			parts = append(parts, fmt.Sprintf("%q:in(%s)", name, strings.Join(quoted, ",")))
		}
	}
	if len(parts) == 0 {
		return "", nil
	}
	if stream {
		return "{" + strings.Join(parts, ",") + "}", nil
	}
	return strings.Join(parts, " "), nil
}
