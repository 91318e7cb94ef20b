package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/bucket"
	"github.com/crowsnest-dev/crowsnest/storage/classes"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	remotestore "github.com/crowsnest-dev/crowsnest/storage/remote"
)

// migrationDir, in the data folder, holds the blocks that are still to be moved, in a folder of each
// class; migrationTaken is written there once all are in it, and says how far each store's log went.
const (
	migrationDir   = "migration"
	migrationTaken = "taken"
)

// classLabel is what Thanos adds to series of each class: its Compact halts where blocks of the same
// labels overlap in time, as those of two classes do.
const classLabel = "crowsnest"

func newMigrate(_ *common) *cobra.Command {
	var data, writeURL, httpFile, bucketFile string
	var external []string
	cmd := &cobra.Command{
		Use: "migrate", Short: "Move the embedded store's samples to another engine", Args: args(cobra.NoArgs),
		Long: "Move the samples of a data folder, whose server is stopped, to another engine: as blocks into a bucket that Thanos reads, or by remote write. " +
			"The samples stay in the data folder too. What is interrupted goes on where it was when it is asked for again; no sample counts twice.\n\n" + precedence,
		Example: `  crowsnest migrate --data ./data --to-bucket bucket.yaml
  crowsnest migrate --data ./data --to-write-url http://victoria:8428/api/v1/write`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (writeURL == "") == (bucketFile == "") {
				return errors.New("give one of --to-bucket, for Thanos, and --to-write-url, for an engine that takes remote write")
			}
			labels, err := externalLabels(external)
			if err != nil {
				return err
			}
			m := migration{began: time.Now(), out: cmd.OutOrStdout(), progress: cmd.ErrOrStderr()}
			closer, err := m.open(writeURL, httpFile, bucketFile, labels)
			if err != nil {
				return err
			}
			if m.dir, err = toMigrate(cmd.Context(), data); err == nil {
				err = m.run(cmd.Context())
			}
			return errors.Join(err, closer.Close())
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "./data", "the data folder")
	f.StringVar(&bucketFile, "to-bucket", "", "file of a bucket that Thanos reads, as its --objstore.config-file has it: S3 or FILESYSTEM")
	f.StringSliceVar(&external, "external-label", nil, "NAME=VALUE: label that Thanos adds to these series, beside "+classLabel+", which is their class (repeatable)")
	f.StringVar(&writeURL, "to-write-url", "", "where an engine takes remote write")
	f.StringVar(&httpFile, "http-config", "", "with --to-write-url: file of headers, credentials and TLS, as Prometheus' http_config has them")
	return cmd
}

func externalLabels(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" || name == "cluster" || name == classLabel {
			return nil, fmt.Errorf("--external-label %q must be NAME=VALUE, and neither cluster nor %s, which is the class of the samples: %w", text, classLabel, fault.ErrInvalid)
		}
		out[name] = value
	}
	return out, nil
}

// migration moves the blocks in the folder dir.
type migration struct {
	dir           string
	send          func(ctx context.Context, class, dir string, done func(remotestore.Block) error) error
	began         time.Time
	out, progress io.Writer

	samples uint64
	refused []remotestore.Block
}

// open opens the way to where samples are moved.
func (m *migration) open(writeURL, httpFile, bucketFile string, more map[string]string) (io.Closer, error) {
	if bucketFile != "" {
		b, err := bucket.OpenFile(bucketFile)
		if err != nil {
			return nil, err
		}
		m.send = func(ctx context.Context, class, dir string, done func(remotestore.Block) error) error {
			labels := maps.Clone(more)
			labels[classLabel] = class
			if err := metrics.MergeOverlapping(ctx, dir); err != nil {
				return err
			}
			return remotestore.UploadBlocks(ctx, b, dir, labels, done)
		}
		return b, nil
	}
	http, err := httpConfig("http-config", httpFile)
	if err != nil {
		return nil, err
	}
	s, err := remotestore.New(remotestore.Options{WriteURL: writeURL, QueryURL: writeURL, HTTP: http, Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	m.send = func(ctx context.Context, _, dir string, done func(remotestore.Block) error) error {
		return s.SendBlocks(ctx, dir, done)
	}
	return s, nil
}

// run moves all classes.
func (m *migration) run(ctx context.Context) error {
	entries, err := os.ReadDir(m.dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		dir := filepath.Join(m.dir, e.Name())
		err := m.send(ctx, e.Name(), dir, func(b remotestore.Block) error { return m.moved(dir, b) })
		if err != nil {
			return fmt.Errorf("%w; ask again to go on", err)
		}
	}
	if len(m.refused) > 0 {
		return m.refusal()
	}
	if err := os.RemoveAll(m.dir); err != nil {
		return err
	}
	_, err = fmt.Fprintf(m.out, "%d samples moved in %s; start the server with --metrics-engine remote\n", m.samples, time.Since(m.began).Round(time.Second))
	return err
}

// moved removes a block that is there; one that was refused stays for the next time.
func (m *migration) moved(dir string, b remotestore.Block) error {
	class := filepath.Base(dir)
	if r := b.Refused; r.Requests > 0 {
		m.refused = append(m.refused, b)
		fmt.Fprintf(m.progress, "%s: of block %d of %d the engine refused %d of %d requests: %v\n", class, b.Number, b.OfTotal, r.Requests, r.OfTotal, r.Why)
		return nil
	}
	m.samples += b.Samples
	fmt.Fprintf(m.progress, "%s: block %d of %d is there, %d samples so far\n", class, b.Number, b.OfTotal, m.samples)
	return metrics.RemoveBlock(dir, b.ID)
}

// refusal says what the engine did not take.
func (m *migration) refusal() error {
	first, from, to := m.refused[0], int64(math.MaxInt64), int64(math.MinInt64)
	for _, b := range m.refused {
		from, to = min(from, b.MinTime), max(to, b.MaxTime)
	}
	when := func(millis int64) string { return time.UnixMilli(millis).UTC().Format("2006-01-02 15:04") }
	window := m.began.Sub(time.UnixMilli(from)).Truncate(time.Hour) + time.Hour
	return fmt.Errorf("%d samples moved, and %d blocks not, of samples between %s and %s UTC, of which the engine refused all or some: the first, %s, since %w. "+
		"Have it take samples that old (Prometheus by storage.tsdb.out_of_order_time_window, Thanos Receive by --tsdb.out-of-order.time-window, %s at least), and ask again, which sends these blocks once more; "+
		"or move them into a bucket of Thanos, by --to-bucket; or remove %s to go without them: %w",
		m.samples, len(m.refused), when(from), when(to), first.ID, first.Refused.Why, &period{value: window}, m.dir, fault.ErrConflict)
}

// toMigrate gives the folder of the blocks that are to be moved: second names of
// the store's, and what its head holds as one more.
func toMigrate(ctx context.Context, data string) (_ string, err error) {
	if _, err := os.Stat(filepath.Join(data, "metrics")); err != nil {
		return "", fmt.Errorf("%s has no samples to move: give the server's data folder by --data: %w", data, err)
	}
	d, err := openDataDir(data)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	stores, err := filepath.Glob(d.join(classesDir + "/*"))
	if err != nil {
		return "", err
	}
	stores = append(stores, d.join("metrics"))
	dir := d.join(migrationDir)
	switch was, err := os.ReadFile(filepath.Join(dir, migrationTaken)); {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return "", err
	default: // an earlier call was interrupted
		if now, err := logsOf(stores); err != nil || now == string(was) {
			return dir, err
		}
		return "", fmt.Errorf("the server ran with the embedded store since a move was interrupted, which would go on without what came then: to move all anew, remove %s, and what that move brought to a bucket (its blocks have the label %s): %w",
			dir, classLabel, fault.ErrConflict)
	}
	// Once they are blocks, which only the server makes of them, an engine takes them no better than
	// others that are as old: what it refused then would be gone.
	if n := folderSize(d.join("history/open")) + folderSize(d.join("history/sealed")); n > 0 {
		return "", fmt.Errorf("%d bytes of samples that came by the import way wait in %s to become blocks, and would not be moved: start the server with the embedded store until crowsnest_history_waiting_bytes is 0, and ask again: %w",
			n, d.join("history"), fault.ErrConflict)
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o750)); err != nil {
		return "", err
	}
	for _, store := range stores {
		class := classes.Catalogue
		if store != d.join("metrics") {
			class = filepath.Base(store)
		}
		if err := takeBlocks(ctx, store, filepath.Join(dir, class)); err != nil {
			return "", fmt.Errorf("take what is to be moved of %s: %w", store, err)
		}
	}
	taken, err := logsOf(stores)
	if err != nil {
		return "", err
	}
	return dir, writeFile(filepath.Join(dir, migrationTaken), taken)
}

// logsOf says how far the logs of stores go: each start of one begins a segment.
func logsOf(stores []string) (string, error) {
	var out strings.Builder
	for _, store := range stores {
		_, last, err := wlog.Segments(filepath.Join(store, "wal"))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&out, "%s %d\n", filepath.Base(store), last)
	}
	return out.String(), nil
}

// takeBlocks gives the blocks of one class's store second names in a folder.
func takeBlocks(ctx context.Context, store, dir string) error {
	// Whatever the server's retentions are: nothing is to go from the folder meanwhile.
	db, err := metrics.Open(metrics.Options{Dir: store, Retention: 3650 * day, CheckEvery: day, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(db.SnapshotBlocks(ctx, dir), db.Close())
}
