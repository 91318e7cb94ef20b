package remote

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/thanos-io/objstore"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/metrics"
)

// thanosMeta is a block's meta.json with the section that Thanos needs; its
// pkg/block/metadata, version 1.
type thanosMeta struct {
	tsdb.BlockMeta
	Thanos thanosSection `json:"thanos"`
}

type thanosSection struct {
	Version      int               `json:"version"`
	Labels       map[string]string `json:"labels"`
	Downsample   thanosDownsample  `json:"downsample"`
	Source       string            `json:"source"`
	SegmentFiles []string          `json:"segment_files"`
	Files        []thanosFile      `json:"files"`
}

type thanosDownsample struct {
	Resolution int64 `json:"resolution"`
}

type thanosFile struct {
	RelPath   string `json:"rel_path"`
	SizeBytes int64  `json:"size_bytes,omitempty"`
}

const metaFile = "meta.json"

// UploadBlocks copies the blocks of a folder, as they are, into a bucket that
// Thanos reads, the oldest first, and calls done after each. Thanos adds labels,
// of which at least one is wanted, to every series; its Compact halts where blocks
// of the same labels overlap in time (metrics.MergeOverlapping). A block that is
// there whole is left alone; meta.json goes last, and without it Thanos takes a
// block for one that is being uploaded.
func UploadBlocks(ctx context.Context, to objstore.Bucket, dir string, labels map[string]string, done func(Block) error) error {
	if len(labels) == 0 {
		return fmt.Errorf("upload blocks: Thanos wants at least one external label, for example crowsnest=catalogue: %w", fault.ErrInvalid)
	}
	metas, err := metrics.BlocksIn(dir)
	if err != nil {
		return fmt.Errorf("upload blocks of %s: %w", dir, err)
	}
	for i, m := range metas {
		if err := uploadBlock(ctx, to, filepath.Join(dir, m.ULID.String()), m, labels); err != nil {
			return fmt.Errorf("upload block %s: %w", m.ULID, err)
		}
		if err := done(Block{m.ULID, m.MinTime, m.MaxTime, m.Stats.NumSamples, Refused{}, i + 1, len(metas)}); err != nil {
			return err
		}
	}
	return nil
}

func uploadBlock(ctx context.Context, to objstore.Bucket, dir string, m tsdb.BlockMeta, labels map[string]string) error {
	id := m.ULID.String()
	if there, err := to.Exists(ctx, path.Join(id, metaFile)); err != nil || there {
		return err
	}
	if len(m.Compaction.Sources) == 0 {
		m.Compaction.Sources = append(m.Compaction.Sources, m.ULID)
	}
	section := thanosSection{Version: 1, Labels: labels, Source: "crowsnest"}
	var files []string
	err := filepath.WalkDir(dir, func(p string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(dir, p)
		if err != nil {
			return err
		}
		// Deleted samples are not told by Thanos' own files: it would show them again.
		if rel == "tombstones" && m.Stats.NumTombstones > 0 {
			return fmt.Errorf("it has deleted samples that are not rewritten yet; let the server do that first (crowsnest_metrics_rewrite_blocks): %w", fault.ErrConflict)
		}
		if rel != "index" && filepath.Dir(rel) != "chunks" {
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		section.Files = append(section.Files, thanosFile{filepath.ToSlash(rel), info.Size()})
		if filepath.Dir(rel) == "chunks" {
			section.SegmentFiles = append(section.SegmentFiles, filepath.Base(rel))
		}
		files = append(files, rel)
		return nil
	})
	if err != nil {
		return err
	}
	slices.Sort(section.SegmentFiles)
	section.Files = append(section.Files, thanosFile{RelPath: metaFile})
	for _, rel := range files {
		if err := uploadFile(ctx, to, filepath.Join(dir, rel), path.Join(id, filepath.ToSlash(rel))); err != nil {
			return err
		}
	}
	raw, err := json.MarshalIndent(thanosMeta{m, section}, "", "\t")
	if err != nil {
		return err
	}
	if err := to.Upload(ctx, path.Join(id, metaFile), bytes.NewReader(raw)); err != nil {
		return fmt.Errorf("%s: %w: %w", metaFile, fault.ErrUnavailable, err)
	}
	return nil
}

func uploadFile(ctx context.Context, to objstore.Bucket, from, key string) error {
	f, err := os.Open(filepath.Clean(from))
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }() // read only
	if err := to.Upload(ctx, key, f); err != nil {
		return fmt.Errorf("%s: %w: %w", key, fault.ErrUnavailable, err)
	}
	return nil
}
