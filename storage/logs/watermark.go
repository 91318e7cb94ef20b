package logs

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

const (
	watermarksFile = "watermarks.json"
	// watermarksEvery is how often they are saved. One that is too old says less
	// than is true, never more.
	watermarksEvery = 15 * time.Second
	// watermarkAge is how long a node that says nothing is remembered.
	watermarkAge = 7 * day
	// maxWatermarks bounds the nodes of a cluster that are remembered.
	maxWatermarks = wire.MaxLogMarks
)

// Watermark says that all lines that a node's containers wrote up to a time are
// stored. What is later is missing, not absent.
type Watermark struct {
	Node            string    `json:"node"` // empty: the cluster's events
	CompleteThrough time.Time `json:"complete_through"`
	SeenAt          time.Time `json:"seen_at"` // by the server's clock
}

// watermarks are what senders said of their nodes, by cluster and node.
type watermarks struct {
	mu      sync.Mutex
	byNode  map[string]map[string]Watermark
	parts   map[string]map[string]map[int]part // by cluster, node, replica
	changed bool
}

// part is what one of the replicas that share a node's containers said last.
type part struct {
	through int64
	parts   uint64 // who they are, as it knew
}

// maxParts is the replicas of a node that are remembered.
const maxParts = 64

// togetherLocked gives up to when a node is complete by all replicas that share it;
// 0 while one has not spoken, or they do not agree on who they are: what one let go
// of another may not have begun with.
func (w *watermarks) togetherLocked(cluster string, m wire.LogMark) int64 {
	if w.parts == nil {
		w.parts = map[string]map[string]map[int]part{}
	}
	if w.parts[cluster] == nil {
		w.parts[cluster] = map[string]map[int]part{}
	}
	of := w.parts[cluster][m.Node]
	if of == nil {
		if len(w.parts[cluster]) >= maxWatermarks {
			clear(w.parts[cluster]) // they are all said again
		}
		of = map[int]part{}
		w.parts[cluster][m.Node] = of
	}
	of[m.Part] = part{m.Through, m.Parts}
	least := m.Through
	for i := range maxParts {
		if m.Parts&(1<<i) == 0 {
			continue
		}
		p, ok := of[i]
		if !ok || p.parts != m.Parts {
			return 0
		}
		least = min(least, p.through)
	}
	return least
}

// note takes what a durable batch says. A time in the future is taken for now,
// and a watermark never goes back.
func (w *watermarks) note(cluster string, marks []wire.LogMark, now time.Time) {
	if len(marks) == 0 {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byNode == nil {
		w.byNode = map[string]map[string]Watermark{}
	}
	nodes := w.byNode[cluster]
	if nodes == nil {
		nodes = map[string]Watermark{}
		w.byNode[cluster] = nodes
	}
	for _, m := range marks {
		m.Through = min(m.Through, now.UnixNano())
		if m.Parts != 0 {
			if m.Through = w.togetherLocked(cluster, m); m.Through == 0 {
				continue
			}
		}
		at := time.Unix(0, m.Through).UTC()
		old, known := nodes[m.Node]
		if !known && len(nodes) >= maxWatermarks {
			maps.DeleteFunc(nodes, func(_ string, o Watermark) bool { return now.Sub(o.SeenAt) > time.Hour })
			if len(nodes) >= maxWatermarks {
				continue // what is not known is missing, which is the careful answer
			}
		}
		if at.Before(old.CompleteThrough) {
			at = old.CompleteThrough
		}
		nodes[m.Node] = Watermark{Node: m.Node, CompleteThrough: at, SeenAt: now.UTC()}
	}
	w.changed = true
}

// Watermarks gives the log watermarks of a cluster's nodes, by node; none when
// no sender of the cluster says any.
func (s *Store) Watermarks(cluster string) []Watermark {
	s.marks.mu.Lock()
	defer s.marks.mu.Unlock()
	return slices.SortedFunc(maps.Values(s.marks.byNode[cluster]), func(a, b Watermark) int { return cmp.Compare(a.Node, b.Node) })
}

func (w *watermarks) forget(cluster string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byNode, cluster)
	delete(w.parts, cluster)
	w.changed = true
}

// load reads what an earlier life of the server saved. A file that cannot be
// read costs the time until the senders' next contact, so it is no error.
func (w *watermarks) load(dir string, now time.Time) error {
	var saved map[string][]Watermark
	err := readJSON(filepath.Join(dir, watermarksFile), &saved)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.byNode = map[string]map[string]Watermark{}
	for cluster, all := range saved {
		nodes := map[string]Watermark{}
		for _, m := range all {
			if now.Sub(m.SeenAt) < watermarkAge && len(nodes) < maxWatermarks {
				nodes[m.Node] = m
			}
		}
		if len(nodes) > 0 {
			w.byNode[cluster] = nodes
		}
	}
	return nil
}

// save writes the file anew when something changed.
func (w *watermarks) save(dir string) error {
	w.mu.Lock()
	if !w.changed {
		w.mu.Unlock()
		return nil
	}
	w.changed = false
	saved := map[string][]Watermark{}
	for cluster, nodes := range w.byNode {
		saved[cluster] = slices.SortedFunc(maps.Values(nodes), func(a, b Watermark) int { return cmp.Compare(a.Node, b.Node) })
	}
	w.mu.Unlock()
	err := replaceFile(filepath.Join(dir, watermarksFile), saved)
	if err != nil {
		w.mu.Lock()
		w.changed = true
		w.mu.Unlock()
	}
	return err
}

// replaceFile writes v as JSON: whole or not at all.
func replaceFile(path string, v any) (err error) {
	body, err := json.Marshal(v)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return fmt.Errorf("save %s: %w", filepath.Base(path), err)
	}
	_, err = f.Write(body)
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(fmt.Errorf("save %s: %w", filepath.Base(path), err), os.Remove(f.Name()))
	}
	return nil
}

// saveWatermarks saves them now and then, and when the store closes.
func (s *Store) saveWatermarks() {
	defer close(s.saved)
	tick := time.NewTicker(watermarksEvery)
	defer tick.Stop()
	failed := false
	for {
		ended := false
		select {
		case <-s.done: // the last commit is through
			ended = true
		case <-tick.C:
		}
		err := s.marks.save(s.opts.Dir)
		if err != nil && !failed {
			s.log.Warn("save log watermarks", "err", err)
		}
		failed = err != nil
		if ended {
			return
		}
	}
}
