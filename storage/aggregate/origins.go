package aggregate

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"strings"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb"
)

const originsFile = "origins.json"

// origins remembers of which time the smallest blocks were that all others were
// merged from. A merged block names its sources and no longer says when they
// were; a part was made of those of its own time only.
type origins map[ulid.ULID]span

// readOrigins takes a file that is not there or damaged for an empty one: blocks
// count with all of their time then, and parts are made again.
func readOrigins(path string) origins {
	out := origins{}
	raw, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(raw, &out) != nil {
		return origins{}
	}
	return out
}

func (o origins) write(path string) error {
	raw, err := json.Marshal(o)
	if err != nil {
		return err
	}
	old, err := os.ReadFile(path)
	if err == nil && string(old) == string(raw) {
		return nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return writeSynced(path, raw)
}

// spanOf is the time of a block, whose end is not in it.
func spanOf(b tsdb.BlockMeta) span { return span{b.MinTime - 1, b.MaxTime - 1} }

// learn notes sources that were not seen before, and forgets those that are gone.
func (o origins) learn(blocks []tsdb.BlockMeta) {
	seen := map[ulid.ULID]bool{}
	for _, b := range blocks {
		for _, id := range b.Compaction.Sources {
			seen[id] = true
			if _, known := o[id]; !known {
				o[id] = spanOf(b)
			}
		}
	}
	for id := range o {
		if !seen[id] {
			delete(o, id)
		}
	}
}

// of lists what the samples of a window come from.
func (o origins) of(window span, blocks []tsdb.BlockMeta) map[ulid.ULID]bool {
	out := map[ulid.ULID]bool{}
	for _, b := range blocks {
		if !spanOf(b).overlaps(window) {
			continue
		}
		for _, id := range b.Compaction.Sources {
			if o[id].overlaps(window) {
				out[id] = true
			}
		}
	}
	return out
}

// exact says whether no other samples of a part's time are there than those that
// it was made of. Fewer do not matter: a block goes by its age.
func (o origins) exact(p *part, blocks []tsdb.BlockMeta) bool {
	if !settled(blocks, p.span) {
		return false
	}
	for id := range o.of(p.span, blocks) {
		if !p.origins[id] {
			return false
		}
	}
	return true
}

// settled says that nothing of a window was deleted, or is to be rewritten.
func settled(blocks []tsdb.BlockMeta, window span) bool {
	for _, b := range blocks {
		if b.Stats.NumTombstones > 0 && spanOf(b).overlaps(window) {
			return false
		}
	}
	return true
}

// signature tells one state of the blocks from another.
func signature(blocks []tsdb.BlockMeta) string {
	var sb strings.Builder
	for _, b := range blocks {
		fmt.Fprintf(&sb, "%s %d\n", b.ULID, b.Stats.NumTombstones)
	}
	if sb.Len() == 0 {
		return fmt.Sprint(math.NaN()) // unlike none seen yet
	}
	return sb.String()
}
