package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/bucket"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
	remotestore "github.com/crowsnest-dev/crowsnest/storage/remote"
)

// migrationDir, in the data folder, holds the blocks that are still to be moved;
// migrationDone is written there once all are in it.
const (
	migrationDir  = "migration"
	migrationDone = "complete"
)

func newMigrate(_ *common) *cobra.Command {
	var data, writeURL, httpFile, bucketFile string
	var external []string
	retention := newPeriod(90*day, day, 3650*day)
	cmd := &cobra.Command{
		Use: "migrate", Short: "Move the embedded store's samples to another engine", Args: args(cobra.NoArgs),
		Long: "Move the samples of a data folder, whose server is stopped, to another engine: as blocks into a bucket that Thanos reads, or by remote write. " +
			"The samples stay in the data folder too. What is interrupted goes on where it was when it is asked for again; no sample counts twice.\n\n" + precedence,
		Example: `  crowsnest migrate --data ./data --to-bucket bucket.yaml --external-label crowsnest=migrated
  crowsnest migrate --data ./data --to-write-url http://victoria:8428/api/v1/write`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (writeURL == "") == (bucketFile == "") {
				return errors.New("give one of --to-bucket, for Thanos, and --to-write-url, for an engine that takes remote write")
			}
			labels, err := externalLabels(external)
			if err != nil {
				return err
			}
			send, err := mover(writeURL, httpFile, bucketFile, labels)
			if err != nil {
				return err
			}
			dir, err := toMigrate(cmd.Context(), data, retention.value)
			if err != nil {
				return err
			}
			var samples uint64
			began := time.Now()
			err = send(cmd.Context(), dir, func(b remotestore.Block) error {
				samples += b.Samples
				fmt.Fprintf(cmd.ErrOrStderr(), "block %d of %d is there, %d samples so far\n", b.Number, b.OfTotal, samples)
				return os.RemoveAll(filepath.Join(dir, b.ID.String()))
			})
			if err != nil {
				return fmt.Errorf("%w; ask again to go on", err)
			}
			if err := os.RemoveAll(dir); err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "%d samples moved in %s; start the server with --metrics-engine remote\n", samples, time.Since(began).Round(time.Second))
			return err
		},
	}
	f := cmd.Flags()
	f.StringVar(&data, "data", "./data", "the data folder")
	f.StringVar(&bucketFile, "to-bucket", "", "file of a bucket that Thanos reads, as its --objstore.config-file has it: S3 or FILESYSTEM")
	f.StringSliceVar(&external, "external-label", []string{"crowsnest=migrated"}, "NAME=VALUE: label that Thanos adds to these series (repeatable)")
	f.StringVar(&writeURL, "to-write-url", "", "where an engine takes remote write")
	f.StringVar(&httpFile, "http-config", "", "with --to-write-url: file of headers, credentials and TLS, as Prometheus' http_config has them")
	f.Var(retention, "metrics-retention", "how long the server keeps samples; older ones are not moved")
	return cmd
}

func externalLabels(list []string) (map[string]string, error) {
	out := map[string]string{}
	for _, text := range list {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" || value == "" || name == "cluster" {
			return nil, fmt.Errorf("--external-label %q must be NAME=VALUE, and not cluster: %w", text, fault.ErrInvalid)
		}
		out[name] = value
	}
	return out, nil
}

// mover gives what moves the blocks of a folder.
func mover(writeURL, httpFile, bucketFile string, labels map[string]string) (func(ctx context.Context, dir string, done func(remotestore.Block) error) error, error) {
	if bucketFile != "" {
		b, err := bucket.OpenFile(bucketFile)
		if err != nil {
			return nil, err
		}
		return func(ctx context.Context, dir string, done func(remotestore.Block) error) error {
			return errors.Join(remotestore.UploadBlocks(ctx, b, dir, labels, done), b.Close())
		}, nil
	}
	http, err := httpConfig("metrics-http-config", httpFile)
	if err != nil {
		return nil, err
	}
	s, err := remotestore.New(remotestore.Options{WriteURL: writeURL, QueryURL: writeURL, HTTP: http, Timeout: time.Minute})
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, dir string, done func(remotestore.Block) error) error {
		return errors.Join(s.SendBlocks(ctx, dir, done), s.Close())
	}, nil
}

// toMigrate gives the folder of the blocks that are to be moved: second names of
// the store's, and what its head holds as one more.
func toMigrate(ctx context.Context, data string, retention time.Duration) (_ string, err error) {
	d, err := openDataDir(data)
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	dir := d.join(migrationDir)
	if _, err := os.Stat(filepath.Join(dir, migrationDone)); err == nil {
		return dir, nil // an earlier call was interrupted
	} else if !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	if err := os.RemoveAll(dir); err != nil {
		return "", err
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	stores, err := filepath.Glob(d.join(classesDir + "/*"))
	if err != nil {
		return "", err
	}
	for _, store := range append([]string{d.join("metrics")}, stores...) {
		if err := takeBlocks(ctx, store, dir, retention); err != nil {
			return "", fmt.Errorf("take what is to be moved of %s: %w", store, err)
		}
	}
	return dir, os.WriteFile(filepath.Join(dir, migrationDone), nil, 0o600)
}

// takeBlocks gives the blocks of one class's store second names in a folder.
func takeBlocks(ctx context.Context, store, dir string, retention time.Duration) error {
	db, err := metrics.Open(metrics.Options{Dir: store, Retention: retention, Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	part := filepath.Join(dir, "part")
	if err := errors.Join(db.SnapshotBlocks(ctx, part), db.Close()); err != nil {
		return err
	}
	blocks, err := filepath.Glob(filepath.Join(part, "*"))
	if err != nil {
		return err
	}
	for _, b := range blocks {
		if err := os.Rename(b, filepath.Join(dir, filepath.Base(b))); err != nil {
			return err
		}
	}
	return os.RemoveAll(part)
}
