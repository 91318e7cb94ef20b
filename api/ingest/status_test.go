package ingest

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/humatest"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
)

type writes struct{}

func (writes) Status(cluster string, top int) (*ingest.Status, error) {
	if cluster != "prod" {
		return nil, fmt.Errorf("cluster %q has sent nothing: %w", cluster, fault.ErrNotFound)
	}
	return &ingest.Status{
		Limits: ingest.Limits{SeriesPerCluster: 7, Ahead: 2 * time.Minute}, ActiveSeries: 5, Refused: map[string]int64{"labels": 1, "future": 3, "invalid": 0},
		Top: map[string][]ingest.Origin{"workload": {{Name: fmt.Sprint("top ", top), Series: 2, Churn: 1}}},
	}, nil
}

func TestStatusOfAClustersWrites(t *testing.T) {
	problem.Use()
	_, api := humatest.New(t)
	RegisterStatus(api, writes{})
	admin := access.With(context.Background(), access.Principal{Kind: access.LocalAdmin})
	get := func(ctx context.Context, path string) (int, string) {
		a := api.GetCtx(ctx, path)
		return a.Code, a.Body.String()
	}
	code, text := get(admin, "/clusters/prod/ingest?limit=3")
	for _, want := range []string{
		`"active_series":5`, `"refused":[{"reason":"future","count":3},{"reason":"labels","count":1}]`, `"throttled":[]`, `"ahead_seconds":120`,
		`"workloads":{"by_series":[{"name":"top 3","series":2,"churn":1}],"by_churn":[]}`,
	} {
		if code != http.StatusOK || !strings.Contains(text, want) {
			t.Errorf("%d %s lacks %s", code, text, want)
		}
	}
	if code, _ := get(admin, "/clusters/other/ingest"); code != http.StatusNotFound {
		t.Errorf("another cluster: %d", code)
	}
	sender := access.With(context.Background(), access.Principal{Kind: access.IngestToken, Cluster: "prod"})
	if code, _ := get(sender, "/clusters/prod/ingest"); code != http.StatusForbidden {
		t.Errorf("an ingest token: %d", code)
	}
	if code, _ := get(context.Background(), "/clusters/prod/ingest"); code != http.StatusUnauthorized {
		t.Errorf("nobody: %d", code)
	}
}
