package remote

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/thanos-io/objstore"

	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// breaking is a bucket that takes so many files.
type breaking struct {
	objstore.Bucket
	left int
}

var errBroken = errors.New("the way is broken")

func (b *breaking) Upload(ctx context.Context, name string, r io.Reader, opts ...objstore.ObjectUploadOption) error {
	if b.left--; b.left < 0 {
		return errBroken
	}
	return b.Bucket.Upload(ctx, name, r, opts...)
}

// An upload that breaks off after any file goes on the next time, each block is done once, and what
// is in the bucket meanwhile has no meta.json unless it is whole.
func TestAnUploadGoesOnWhereItWasBrokenOff(t *testing.T) {
	blocks := t.TempDir()
	start := time.Unix(1_800_000_000, 0)
	for n := range 2 {
		writeBlock(t, blocks, start.Add(time.Duration(n)*2*time.Hour))
	}
	metas, err := metrics.BlocksIn(blocks)
	if err != nil || len(metas) != 2 {
		t.Fatal(metas, err)
	}
	const files = 3 // of a block
	for broken := range 2 * files {
		dir := filepath.Join(t.TempDir(), "blocks")
		if err := os.CopyFS(dir, os.DirFS(blocks)); err != nil {
			t.Fatal(err)
		}
		to := &breaking{Bucket: objstore.NewInMemBucket()}
		var done []ulid.ULID
		upload := func(left int) error {
			to.left = left
			return UploadBlocks(t.Context(), to, dir, map[string]string{"crowsnest": "catalogue"}, func(b Block) error {
				done = append(done, b.ID)
				return metrics.RemoveBlock(dir, b.ID)
			})
		}
		whole := func() (n int) {
			for _, m := range metas {
				there := 0
				if err := to.Iter(t.Context(), m.ULID.String(), func(string) error { there++; return nil }, objstore.WithRecursiveIter()); err != nil {
					t.Fatal(err)
				}
				if meta, _ := to.Exists(t.Context(), m.ULID.String()+"/"+metaFile); !meta {
					continue
				}
				if n++; there != files {
					t.Errorf("broken off after %d files: a block with meta.json has %d", broken, there)
				}
			}
			return n
		}
		if err := upload(broken); !errors.Is(err, errBroken) || whole() != broken/files {
			t.Errorf("broken off after %d files: %v, %d blocks are whole", broken, err, whole())
		}
		if err := upload(math.MaxInt); err != nil || whole() != 2 || !slices.Equal(done, []ulid.ULID{metas[0].ULID, metas[1].ULID}) {
			t.Errorf("broken off after %d files and gone on: %v, %d blocks are whole, %v are done", broken, err, whole(), done)
		}
	}
}

// writeBlock makes a block of an hour.
func writeBlock(t *testing.T, dir string, start time.Time) {
	t.Helper()
	w, err := tsdb.NewBlockWriter(slog.New(slog.DiscardHandler), dir, (2 * time.Hour).Milliseconds())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = w.Close() }()
	app := w.Appender(t.Context())
	for minute := range 60 {
		if _, err := app.Append(0, labels.FromStrings(labels.MetricName, "up"), start.Add(time.Duration(minute)*time.Minute).UnixMilli(), 1); err != nil {
			t.Fatal(err)
		}
	}
	if err := app.Commit(); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
}
