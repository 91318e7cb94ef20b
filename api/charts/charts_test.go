package charts

import (
	"context"
	"fmt"
	"math"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/humatest"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql"
	"github.com/prometheus/prometheus/promql/promqltest"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/aggregate"
)

// source answers with one line, and keeps what was asked.
type source struct{ spec aggregate.Spec }

func (s *source) Chart(_ context.Context, spec aggregate.Spec) (*aggregate.Answer, error) {
	if _, err := aggregate.NewChart(spec); err != nil {
		return nil, err
	}
	s.spec = spec
	return &aggregate.Answer{
		Lines: []aggregate.Line{{Labels: labels.FromStrings("pod", "p"), Values: []float64{1.5, math.NaN(), math.Inf(1)}}},
		Left:  2, Read: []aggregate.Read{{Resolution: 3600_000, From: 0, To: 7200_000}, {From: 7200_000, To: 10800_000}},
	}, nil
}

func TestAChartSaysWhatItWasReadFrom(t *testing.T) {
	problem.Use()
	_, api := humatest.New(t)
	s := &source{}
	Register(api, s)
	admin := access.With(context.Background(), access.Principal{Kind: access.LocalAdmin})
	get := func(ctx context.Context, change url.Values) (int, string) {
		q := url.Values{
			"series": {`x{namespace="shop"}`}, "start": {"1970-01-01T01:00:00Z"}, "end": {"1970-01-01T03:00:00Z"}, "step_seconds": {"3600"}, "by": {"pod", "node"},
		}
		for k, v := range change {
			q[k] = v
		}
		a := api.GetCtx(ctx, "/clusters/prod/chart?"+q.Encode())
		return a.Code, a.Body.String()
	}
	code, text := get(admin, nil)
	for _, want := range []string{
		`"resolution_seconds":3600,"read":[{"resolution_seconds":3600,"from":"1970-01-01T00:00:00Z","to":"1970-01-01T02:00:00Z"},{"resolution_seconds":0,`,
		`"lines":[{"labels":{"pod":"p"},"values":[1.5,null,null]}]`, `"left":2`, `"statistic":"avg"`, `"start":"1970-01-01T01:00:00Z"`,
	} {
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%d %s lacks %s", code, text, want)
		}
	}
	if got := fmt.Sprint(s.spec.Matchers, s.spec.By, s.spec.Resolution == math.MaxInt64); got != `[namespace="shop" __name__="x" cluster="prod"] [pod node] true` {
		t.Error(got)
	}
	if _, _ = get(admin, url.Values{"resolution": {"raw"}, "series": {catalogue.PodCPU}}); s.spec.Resolution != 0 || s.spec.Statistic != string(mustGet(t, catalogue.PodCPU).Statistic) {
		t.Errorf("%+v", s.spec)
	}
	for name, change := range map[string]url.Values{
		"no selection":   {"series": {"rate(x[5m])"}},
		"no metric":      {"series": {`{pod="a"}`}},
		"many points":    {"step_seconds": {"1"}, "end": {"1970-01-02T00:00:00Z"}},
		"ends too early": {"end": {"1970-01-01T00:00:00Z"}},
	} {
		if code, text := get(admin, change); code != http.StatusUnprocessableEntity {
			t.Errorf("%s: %d %s", name, code, text)
		}
	}
	if code, _ := get(context.Background(), nil); code != http.StatusUnauthorized {
		t.Errorf("nobody: %d", code)
	}
	if code, _ := get(access.With(context.Background(), access.Principal{Kind: access.IngestToken, Cluster: "prod"}), nil); code != http.StatusForbidden {
		t.Errorf("an ingest token: %d", code)
	}
}

func mustGet(t *testing.T, name string) catalogue.Metric {
	m, ok := catalogue.Get(name)
	if !ok {
		t.Fatal(name)
	}
	return m
}

// An engine elsewhere gives the same as the embedded store.
func TestChartsByQueries(t *testing.T) {
	store := promqltest.LoadedStorage(t, `
load 1m
  x{pod="a", cluster="prod"} 0+1x60
  x{pod="b", cluster="prod"} 100+2x20 3+1x39
`)
	engine := promql.NewEngine(promql.EngineOpts{MaxSamples: 1e6, Timeout: time.Minute})
	defer engine.Close()
	for _, statistic := range []string{aggregate.Avg, aggregate.Count, aggregate.Last, aggregate.Increase} {
		for _, limit := range []int{0, 1} {
			spec := aggregate.Spec{
				Matchers: []*labels.Matcher{labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "x"), labels.MustNewMatcher(labels.MatchEqual, "cluster", "prod")},
				Start:    600_000, End: 3600_000, Step: 600_000, Statistic: statistic, By: []string{"pod"}, Limit: limit,
			}
			got, err := PromQL{engine, store}.Chart(context.Background(), spec)
			if err != nil {
				t.Fatal(err)
			}
			c, err := aggregate.NewChart(spec)
			if err != nil {
				t.Fatal(err)
			}
			if err := c.ReadRaw(context.Background(), store); err != nil {
				t.Fatal(err)
			}
			want := c.Answer()
			if show(got) != show(want) || len(got.Lines) == 0 || got.Left != want.Left {
				t.Errorf("%s: %s, want %s", statistic, show(got), show(want))
			}
		}
	}
}

func show(a *aggregate.Answer) (out string) {
	for _, l := range a.Lines {
		out += fmt.Sprint(l.Labels, l.Values)
	}
	return out
}
