package ingest

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"

	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// noting is a store that notes which samples it is told to be newer than all of their series.
type noting struct {
	guarded
	said *[]string
}

func (n noting) Appender(ctx context.Context) storage.Appender {
	return notingAppender{n.guarded.Appender(ctx), n.said}
}

type notingAppender struct {
	storage.Appender
	said *[]string
}

func (n notingAppender) GetRef(lset labels.Labels, hash uint64) (storage.SeriesRef, labels.Labels) {
	return n.Appender.(storage.GetRef).GetRef(lset, hash)
}

func (n notingAppender) AppendNewest(ref storage.SeriesRef, l labels.Labels, t int64, v float64) (storage.SeriesRef, error) {
	*n.said = append(*n.said, l.Get("pod")+" "+time.UnixMilli(t).UTC().Format("04:05"))
	return rollup.AppendNewest(n.Appender)(ref, l, t, v)
}

// The store is told of samples that they are not late, where nothing as new was taken of
// their series: also while another series has one that is newer.
func TestStoreIsToldWhatIsNotLate(t *testing.T) {
	g := newRig(t, Limits{})
	var said []string
	g.i.opts.Store = noting{guarded{g.db, g}, &said}
	for _, of := range []struct {
		pod   string
		after time.Duration
		want  []string
	}{
		{"a", 0, []string{"a 00:00"}}, // it begins
		{"b", time.Second, []string{"b 00:01"}},
		{"c", -5 * time.Minute, nil}, // with what may be a backlog
		{"a", 30 * time.Second, []string{"a 00:30"}},
		{"b", 31 * time.Second, []string{"b 00:31"}},
		{"a", 60 * time.Second, []string{"a 01:00"}},
		{"b", 20 * time.Second, nil},
		{"a", 60 * time.Second, nil}, // again
		{"b", 32 * time.Second, []string{"b 00:32"}},
	} {
		said = nil
		if a := g.post(v2, bodyV2(t, smp(1, t0.Add(of.after), "__name__", "x", "pod", of.pod))); a.status != http.StatusNoContent {
			t.Fatal(a)
		}
		if !slices.Equal(said, of.want) {
			t.Errorf("of %s after %s it is told %v, want %v", of.pod, of.after, said, of.want)
		}
	}
	if n := g.everything(); n != 8 {
		t.Errorf("%d samples are stored", n)
	}
}
