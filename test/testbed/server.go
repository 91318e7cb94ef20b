package testbed

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/url"
	"sort"
	"strconv"
	"strings"
	"time"
)

// API is the prefix of the server's own API.
const API = "/apis/crowsnest.dev/v1"

// Server is a client of a running server.
type Server struct {
	URL     string // without a slash at its end
	Token   string // of the API; empty on loopback without credentials
	Cluster string // the id of the cluster that is looked at
}

// StatusError is an answer that is not 2xx.
type StatusError struct {
	Method, Path string
	Status       int
	Body         string
}

func (e *StatusError) Error() string {
	return fmt.Sprintf("%s %s: %d: %s", e.Method, e.Path, e.Status, strings.TrimSpace(e.Body))
}

// Do sends a request; body may be nil, url.Values (a form) or anything that JSON
// can say. An answer that is not 2xx is a *StatusError.
func (s *Server) Do(ctx context.Context, method, path string, body any) ([]byte, error) {
	var reader io.Reader
	contentType := ""
	switch body := body.(type) {
	case nil:
	case url.Values:
		reader, contentType = strings.NewReader(body.Encode()), "application/x-www-form-urlencoded"
	default:
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		reader, contentType = bytes.NewReader(raw), "application/json"
	}
	req, err := http.NewRequestWithContext(ctx, method, s.URL+path, reader)
	if err != nil {
		return nil, err
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if s.Token != "" {
		req.Header.Set("Authorization", "Bearer "+s.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 != 2 {
		// While a Service has no endpoint its address may lead elsewhere. Who asks
		// again must not stay on that connection.
		defer http.DefaultClient.CloseIdleConnections()
		return raw, &StatusError{Method: method, Path: path, Status: resp.StatusCode, Body: string(raw)}
	}
	return raw, nil
}

// GetJSON reads an answer into out.
func (s *Server) GetJSON(ctx context.Context, path string, out any) error {
	raw, err := s.Do(ctx, http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(raw, out); err != nil {
		return fmt.Errorf("GET %s: %w: %.200s", path, err, raw)
	}
	return nil
}

// Ready is nil when the server says so.
func (s *Server) Ready(ctx context.Context) error {
	_, err := s.Do(ctx, http.MethodGet, "/readyz", nil)
	return err
}

// Point is one sample of a series.
type Point struct {
	At time.Time
	V  float64
}

// Series is one series of an answer; an instant query gives one point each.
type Series struct {
	Labels map[string]string
	Points []Point
}

// Last is the newest value.
func (s Series) Last() float64 {
	if len(s.Points) == 0 {
		return math.NaN()
	}
	return s.Points[len(s.Points)-1].V
}

// Instant asks an instant query at a time; zero means now.
func (s *Server) Instant(ctx context.Context, query string, at time.Time) ([]Series, error) {
	form := url.Values{"query": {query}}
	if !at.IsZero() {
		form.Set("time", seconds(at))
	}
	return s.query(ctx, "/api/v1/query", form)
}

// Range asks a range query.
func (s *Server) Range(ctx context.Context, query string, from, to time.Time, step time.Duration) ([]Series, error) {
	return s.query(ctx, "/api/v1/query_range", url.Values{
		"query": {query}, "start": {seconds(from)}, "end": {seconds(to)}, "step": {strconv.FormatFloat(step.Seconds(), 'f', -1, 64)},
	})
}

// Raw gives the samples as they were stored, in (from, to].
func (s *Server) Raw(ctx context.Context, selector string, from, to time.Time) ([]Series, error) {
	window := to.Sub(from).Milliseconds()
	return s.Instant(ctx, fmt.Sprintf("%s[%dms]", selector, window), to)
}

func seconds(t time.Time) string { return strconv.FormatFloat(float64(t.UnixMilli())/1000, 'f', 3, 64) }

func (s *Server) query(ctx context.Context, path string, form url.Values) ([]Series, error) {
	raw, err := s.Do(ctx, http.MethodPost, path, form)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", form.Get("query"), err)
	}
	var answer struct {
		Status string `json:"status"`
		Data   struct {
			ResultType string          `json:"resultType"`
			Result     json.RawMessage `json:"result"`
		} `json:"data"`
	}
	if err := json.Unmarshal(raw, &answer); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if answer.Data.ResultType == "scalar" || answer.Data.ResultType == "string" {
		return nil, fmt.Errorf("%s: is a %s", form.Get("query"), answer.Data.ResultType)
	}
	var result []struct {
		Metric map[string]string      `json:"metric"`
		Value  *[2]json.RawMessage    `json:"value"`
		Values []([2]json.RawMessage) `json:"values"`
	}
	if err := json.Unmarshal(answer.Data.Result, &result); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	out := make([]Series, 0, len(result))
	for _, r := range result {
		series := Series{Labels: r.Metric}
		if r.Value != nil {
			r.Values = append(r.Values, *r.Value)
		}
		for _, pair := range r.Values {
			point, err := parsePoint(pair)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", path, err)
			}
			series.Points = append(series.Points, point)
		}
		out = append(out, series)
	}
	return out, nil
}

func parsePoint(pair [2]json.RawMessage) (Point, error) {
	at, err := strconv.ParseFloat(string(pair[0]), 64)
	if err != nil {
		return Point{}, err
	}
	var text string
	if err := json.Unmarshal(pair[1], &text); err != nil {
		return Point{}, err
	}
	v, err := strconv.ParseFloat(text, 64)
	return Point{At: time.UnixMilli(int64(math.Round(at * 1000))).UTC(), V: v}, err
}

// LogRow is one row of a log query.
type LogRow map[string]string

// Time of the row.
func (r LogRow) Time() time.Time {
	t, _ := time.Parse(time.RFC3339Nano, r["_time"])
	return t
}

// Logs asks a LogsQL query over all time. With a limit the server sorts the rows, which it can
// of so many bytes only; 0 is none.
func (s *Server) Logs(ctx context.Context, query string, limit int) ([]LogRow, error) {
	form := url.Values{
		"query": {query},
		"start": {time.Now().Add(-24 * time.Hour).UTC().Format(time.RFC3339)}, "end": {time.Now().Add(time.Minute).UTC().Format(time.RFC3339)},
	}
	if limit > 0 {
		form.Set("limit", strconv.Itoa(limit))
	}
	raw, err := s.Do(ctx, http.MethodPost, "/select/logsql/query", form)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", query, err)
	}
	var rows []LogRow
	lines := bufio.NewScanner(bytes.NewReader(raw))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		if len(bytes.TrimSpace(lines.Bytes())) == 0 {
			continue
		}
		var row LogRow
		if err := json.Unmarshal(lines.Bytes(), &row); err != nil {
			return nil, fmt.Errorf("%s: row %d: %w", query, len(rows), err)
		}
		rows = append(rows, row)
	}
	return rows, lines.Err()
}

// Describe renders series for a failure message.
func Describe(series []Series) string {
	lines := make([]string, 0, len(series))
	for _, s := range series {
		keys := make([]string, 0, len(s.Labels))
		for k := range s.Labels {
			keys = append(keys, k)
		}
		sort.Strings(keys)
		var b strings.Builder
		for _, k := range keys {
			fmt.Fprintf(&b, "%s=%q ", k, s.Labels[k])
		}
		fmt.Fprintf(&b, "= %v", s.Last())
		lines = append(lines, b.String())
	}
	if len(lines) > 20 {
		lines = append(lines[:20], fmt.Sprintf("… and %d more", len(series)-20))
	}
	if len(lines) == 0 {
		return "no series"
	}
	return strings.Join(lines, "\n")
}
