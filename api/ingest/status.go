package ingest

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
)

// Writes tells how the metrics writes of clusters do. *ingest.Ingester is one.
type Writes interface {
	// Status is fault.ErrNotFound for a cluster that sent nothing since the start.
	Status(cluster string, top int) (*ingest.Status, error)
}

// Status is how a cluster's writes do.
type Status struct {
	Cluster          string   `json:"cluster"`
	ActiveSeries     int64    `json:"active_series" doc:"With a sample in the last 30 min and no stale marker since."`
	Senders          int      `json:"senders" doc:"Collectors that have sent within the last day."`
	SamplesPerSecond float64  `json:"samples_per_second" doc:"Stored, over the last whole minute."`
	Samples          int64    `json:"samples" doc:"Stored since the server's start."`
	Unreported       int64    `json:"unreported_samples" doc:"Of these, samples that rollups sum but whose sender does not say when an interval is complete, such as a plain Prometheus: no rollup waits for them."`
	WrongClock       int64    `json:"wrong_clock_samples" doc:"Of these, samples that a collector stamped before it could hold its clock against the server's, which was then found wrong. crowsnest_collector_clock_offset_seconds{sender} says at which times, and by how much."`
	NewSeries        int64    `json:"new_series" doc:"Since the server's start."`
	Limits           Limits   `json:"limits"`
	Refused          []Count  `json:"refused" nullable:"false" doc:"Samples refused since the start, by reason; the most first."`
	Throttled        []Count  `json:"throttled" nullable:"false" doc:"Requests told to come again since the start, by reason."`
	Metrics          Offender `json:"metrics"`
	Namespaces       Offender `json:"namespaces"`
	Workloads        Offender `json:"workloads" doc:"Named namespace/type/name."`
}

// Limits are those that hold for one cluster. 0 is none.
type Limits struct {
	SeriesPerCluster    int     `json:"series_per_cluster"`
	SeriesPerNamespace  int     `json:"series_per_namespace"`
	SeriesPerWorkload   int     `json:"series_per_workload"`
	SamplesPerSecond    int     `json:"samples_per_second"`
	SamplesPerNamespace int     `json:"samples_per_namespace" doc:"A second."`
	SamplesPerWorkload  int     `json:"samples_per_workload" doc:"A second."`
	LabelsPerSeries     int     `json:"labels_per_series"`
	LabelNameBytes      int     `json:"label_name_bytes"`
	LabelValueBytes     int     `json:"label_value_bytes"`
	SendersPerCluster   int     `json:"senders_per_cluster"`
	AheadSeconds        float64 `json:"ahead_seconds" doc:"How far samples may be ahead of the server's clock."`
	BehindSeconds       float64 `json:"behind_seconds" doc:"How old samples may be."`
}

// Count is how often something happened.
type Count struct {
	Reason string `json:"reason"`
	Count  int64  `json:"count"`
}

// Offender lists where series come from.
type Offender struct {
	BySeries []Origin `json:"by_series" nullable:"false" doc:"The most active series first."`
	ByChurn  []Origin `json:"by_churn" nullable:"false" doc:"The most new series in the last hour first."`
}

// Origin is a metric, a namespace or a workload.
type Origin struct {
	Name   string `json:"name"`
	Series int64  `json:"series" doc:"Active now."`
	Churn  int64  `json:"churn" doc:"New in the last hour."`
}

type statusInput struct {
	Cluster string `path:"cluster" doc:"The cluster's id." maxLength:"63"`
	Limit   int    `query:"limit" default:"10" minimum:"1" maximum:"100" doc:"How many origins of each kind are listed."`
}

// RegisterStatus adds GET /clusters/{cluster}/ingest.
func RegisterStatus(api huma.API, writes Writes) {
	huma.Register(api, huma.Operation{
		OperationID: "get-cluster-ingest", Method: http.MethodGet, Path: "/clusters/{cluster}/ingest", Tags: []string{"clusters"},
		Summary:     "Show how a cluster's metrics writes do",
		Description: "What is stored, what is refused or slowed down and by which limit, and where the series come from: the metrics, namespaces and workloads with the most series, and with the most new ones.",
	}, func(ctx context.Context, in *statusInput) (*struct{ Body Status }, error) {
		if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
			return nil, problem.Error(err)
		}
		st, err := writes.Status(in.Cluster, in.Limit)
		if err != nil {
			return nil, problem.Error(err)
		}
		l := st.Limits
		out := Status{
			Cluster: in.Cluster, ActiveSeries: st.ActiveSeries, Senders: st.Senders, SamplesPerSecond: st.SamplesPerSecond,
			Samples: st.Samples, Unreported: st.Unreported, WrongClock: st.WrongClock, NewSeries: st.Created, Refused: counts(st.Refused), Throttled: counts(st.Throttled),
			Limits: Limits{
				SeriesPerCluster: l.SeriesPerCluster, SeriesPerNamespace: l.SeriesPerNamespace, SeriesPerWorkload: l.SeriesPerWorkload,
				SamplesPerSecond:    l.SamplesPerSecond,
				SamplesPerNamespace: l.SamplesPerNamespace, SamplesPerWorkload: l.SamplesPerWorkload, LabelsPerSeries: l.LabelsPerSeries, LabelNameBytes: l.LabelNameBytes,
				LabelValueBytes: l.LabelValueBytes, SendersPerCluster: l.SendersPerCluster,
				AheadSeconds: l.Ahead.Seconds(), BehindSeconds: l.Behind.Seconds(),
			},
			Metrics: offender(st, "metric"), Namespaces: offender(st, "namespace"), Workloads: offender(st, "workload"),
		}
		return &struct{ Body Status }{out}, nil
	})
}

func counts(by map[string]int64) []Count {
	out := []Count{}
	for _, reason := range slices.Sorted(maps.Keys(by)) {
		if n := by[reason]; n > 0 {
			out = append(out, Count{reason, n})
		}
	}
	slices.SortStableFunc(out, func(a, b Count) int { return cmp.Compare(b.Count, a.Count) })
	return out
}

func offender(st *ingest.Status, kind string) Offender {
	list := func(from []ingest.Origin) []Origin {
		out := make([]Origin, len(from))
		for i, o := range from {
			out[i] = Origin(o)
		}
		return out
	}
	return Offender{BySeries: list(st.Top[kind]), ByChurn: list(st.Churn[kind])}
}
