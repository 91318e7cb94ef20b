package metrics

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb/fileutil"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// clusterLabel says whose a series is.
const clusterLabel = "cluster"

// deletionsFile, in the store's folder, lists deletions that a start must look
// after.
const deletionsFile = "deletions.json"

// deletion of a cluster's samples. What was out of order in the head is in
// blocks by then, and deleted there; but the head's own files still hold it
// until all their samples are in blocks, and a start reads them again. So each
// start deletes once more, until those files are gone.
type deletion struct {
	Cluster string `json:"cluster"`
	Until   int64  `json:"until"` // Unix milliseconds
}

// DeleteCluster deletes all samples of a cluster up to now. They are hidden when
// it returns; what the cluster sends later, under the same id, is not, unless
// its time is before the deletion and the server is restarted soon after. The
// maintenance rewrites the blocks soon after, which frees their space: ToRewrite
// says how far it is, over restarts too. It may be called again.
//
// fault.ErrNotFound when there is no sample of it, fault.ErrUnavailable while
// the store is read-only.
func (db *DB) DeleteCluster(ctx context.Context, cluster string) error {
	if cluster == "" {
		return fault.Field{Path: "cluster", Reason: "is required"}
	}
	if err := db.ReadOnly(); err != nil {
		return err
	}
	d := deletion{cluster, max(db.opts.Now().UnixMilli(), db.tsdb.Head().MaxTime())}
	some, err := db.has(ctx, d)
	if err != nil {
		return fmt.Errorf("delete cluster %q: %w", cluster, err)
	}
	if !some {
		return fmt.Errorf("no sample of cluster %q is stored: %w", cluster, fault.ErrNotFound)
	}
	if err := db.note(d); err != nil {
		return fmt.Errorf("delete cluster %q: %w: %w", cluster, fault.ErrUnavailable, err)
	}
	if err := db.delete(ctx, d); err != nil {
		return fmt.Errorf("delete cluster %q: %w", cluster, err)
	}
	db.opts.Logger.Info("samples of a cluster deleted", "cluster", cluster, "blocks_to_rewrite", db.ToRewrite())
	return nil
}

func (d deletion) matcher() *labels.Matcher {
	return labels.MustNewMatcher(labels.MatchEqual, clusterLabel, d.Cluster)
}

func (db *DB) delete(ctx context.Context, d deletion) error {
	// A deletion does not reach what is out of order in the head.
	if err := db.compactLate(ctx); err != nil {
		return err
	}
	if err := db.Delete(ctx, math.MinInt64, d.Until, d.matcher()); err != nil {
		return err
	}
	db.countToRewrite()
	return nil
}

func (db *DB) has(ctx context.Context, d deletion) (some bool, err error) {
	q, err := db.Querier(math.MinInt64, d.Until)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, q.Close()) }()
	set := q.Select(ctx, false, nil, d.matcher())
	for !some && set.Next() {
		some = set.At().Iterator(nil).Next() != 0
	}
	return some, set.Err()
}

// note makes a start know of a deletion, before it is done.
func (db *DB) note(d deletion) error {
	db.deleting.Lock()
	defer db.deleting.Unlock()
	all, err := readDeletions(db.opts.Dir)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(o deletion) bool { return o.Cluster == d.Cluster })
	return writeDeletions(db.opts.Dir, append(all, d))
}

// deleteAgain does all noted deletions once more, which do nothing twice.
func (db *DB) deleteAgain(ctx context.Context) error {
	all, err := readDeletions(db.opts.Dir)
	if err != nil {
		return err
	}
	for _, d := range all {
		some, err := db.has(ctx, d)
		if err != nil {
			return fmt.Errorf("delete cluster %q again: %w", d.Cluster, err)
		}
		if !some {
			continue
		}
		if err := db.delete(ctx, d); err != nil {
			return fmt.Errorf("delete cluster %q again: %w", d.Cluster, err)
		}
	}
	return nil
}

// forgetDeletions drops those whose samples no file of the head holds any more:
// everything that was in order then is in blocks, and so its files are gone,
// which are written one after the other.
func (db *DB) forgetDeletions() error {
	db.deleting.Lock()
	defer db.deleting.Unlock()
	all, err := readDeletions(db.opts.Dir)
	if err != nil {
		return err
	}
	// One block more, since a file that is being written is kept.
	border := db.tsdb.Head().MinTime() - 2*db.opts.BlockRange.Milliseconds()
	left := slices.DeleteFunc(slices.Clone(all), func(d deletion) bool { return d.Until < border })
	if len(left) == len(all) {
		return nil
	}
	return writeDeletions(db.opts.Dir, left)
}

func readDeletions(dir string) (out []deletion, err error) {
	raw, err := os.ReadFile(filepath.Join(dir, deletionsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if err := json.Unmarshal(raw, &out); err != nil {
		return nil, fmt.Errorf("%s is damaged; remove it to start, after which samples of clusters that were deleted within the last hours may be back: %w: %v", filepath.Join(dir, deletionsFile), fault.ErrMalformed, err)
	}
	return out, nil
}

func writeDeletions(dir string, all []deletion) error {
	path := filepath.Join(dir, deletionsFile)
	if len(all) == 0 {
		return os.Remove(path)
	}
	raw, err := json.Marshal(all)
	if err != nil {
		return err
	}
	return writeFile(path, raw)
}

// writeFile replaces a file as a whole.
func writeFile(path string, raw []byte) error {
	f, err := os.OpenFile(filepath.Clean(path+".tmp"), os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o640)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return fileutil.Replace(path+".tmp", path)
}

// ToRewrite is how many blocks still hold what was deleted.
func (db *DB) ToRewrite() (blocks int) {
	metas, _ := db.BlockMetas() // it never fails
	for _, m := range metas {
		if m.Stats.NumTombstones > 0 {
			blocks++
		}
	}
	return blocks
}

func (db *DB) countToRewrite() { db.metrics.toRewrite.Set(float64(db.ToRewrite())) }

// rewrite frees what was deleted. It needs space for the largest block once
// more, and waits while there is too little.
func (db *DB) rewrite() error {
	if db.ToRewrite() == 0 || db.ReadOnly() != nil {
		return nil
	}
	began := db.opts.Now()
	err := db.CleanTombstones()
	db.countToRewrite()
	if err != nil {
		return err
	}
	db.opts.Logger.Info("blocks rewritten without what was deleted", "took_seconds", db.opts.Now().Sub(began).Seconds())
	return nil
}
