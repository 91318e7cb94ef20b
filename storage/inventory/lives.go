package inventory

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"runtime"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Past states are packed: those of one object in a row, once Gone need not be asked
// for them any more. A pod that came and went has five of them or so, which differ
// in a few words, and a row of its own, with name and indexes, for each costs four
// times as much.
const (
	// packFrom is how many past states an object that still lives has before they
	// are packed; below, each has its row.
	packFrom = 32
	// packStates and packBytes bound what lies in one row, as all of it is read for
	// one state of it.
	packStates = 64
	packBytes  = 1 << 20
	// packChunk is how many objects one transaction packs, so that batches do not
	// wait long for their turn.
	packChunk = 200
)

// pastState is a state within a packed row.
type pastState struct {
	From   int64           `json:"f"` // Unix milliseconds
	To     int64           `json:"t"`
	Gone   bool            `json:"g,omitempty"`
	Object json.RawMessage `json:"o"`
}

// named is whose states are packed.
type named struct {
	cluster         int64
	kind            object.Kind
	namespace, name string
}

// Pack packs the states that are over for longer than Gone remembers: all of objects
// that are gone, and those of others when they are many. It gives the number of
// states packed.
func (s *Store) Pack(ctx context.Context) (packed int64, err error) {
	over := s.opts.Now().Add(-s.opts.TombstoneFor).UnixMilli()
	for _, query := range []string{
		`SELECT DISTINCT cluster, kind, namespace, name FROM versions WHERE gone = 1 AND valid_to < ? LIMIT ?`,
		fmt.Sprintf(`SELECT cluster, kind, namespace, name FROM versions WHERE valid_to < ? GROUP BY cluster, kind, namespace, name HAVING count(*) >= %d LIMIT ?`, packFrom), // by versions_object, in its order
	} {
		for more := true; more; {
			n, states, err := s.packSome(ctx, query, over)
			if err != nil {
				return packed, fmt.Errorf("pack old versions: %w", err)
			}
			packed += states
			more = n == packChunk
		}
	}
	return packed, nil
}

// packSome packs what a query names, in one transaction.
func (s *Store) packSome(ctx context.Context, query string, over int64) (objects int, states int64, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return 0, 0, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, ignoreDone(tx.Rollback()))
		}
	}()
	var all []named
	err = scan(ctx, tx, func(r *sql.Rows) error {
		var o named
		err := r.Scan(&o.cluster, &o.kind, &o.namespace, &o.name)
		all = append(all, o)
		return err
	}, query, over, packChunk)
	if err != nil {
		return 0, 0, err
	}
	for _, o := range all {
		n, err := s.packOne(ctx, tx, o, over)
		if err != nil {
			return 0, 0, fmt.Errorf("%s %s/%s: %w", o.kind, o.namespace, o.name, err)
		}
		states += n
	}
	return len(all), states, tx.Commit()
}

func (s *Store) packOne(ctx context.Context, tx *sql.Tx, o named, over int64) (n int64, err error) {
	var run []pastState
	size := 0
	flush := func() error {
		if len(run) == 0 {
			return nil
		}
		body, err := json.Marshal(run)
		if err != nil {
			return err
		}
		_, err = tx.ExecContext(ctx, `INSERT INTO lives (cluster, kind, namespace, name, valid_from, valid_to, body) VALUES (?, ?, ?, ?, ?, ?, ?)`,
			o.cluster, o.kind, o.namespace, o.name, run[0].From, run[len(run)-1].To, s.packer.pack(body))
		run, size = run[:0], 0
		return err
	}
	const its = `FROM versions INDEXED BY versions_object WHERE cluster = ? AND kind = ? AND namespace = ? AND name = ? AND valid_to < ?`
	var found []pastState
	err = scan(ctx, tx, func(r *sql.Rows) error {
		var st pastState
		var stored []byte
		if err := r.Scan(&st.From, &st.To, &st.Gone, &stored); err != nil {
			return err
		}
		st.Object, err = s.packer.unpack(stored)
		found = append(found, st)
		return err
	}, `SELECT valid_from, valid_to, gone, body `+its+` ORDER BY valid_from`, o.cluster, o.kind, o.namespace, o.name, over)
	if err != nil {
		return 0, err
	}
	for _, st := range found {
		if len(run) == packStates || size+len(st.Object) > packBytes {
			if err := flush(); err != nil {
				return 0, err
			}
		}
		run, size = append(run, st), size+len(st.Object)
	}
	if err := flush(); err != nil {
		return 0, err
	}
	_, err = tx.ExecContext(ctx, `DELETE `+its, o.cluster, o.kind, o.namespace, o.name, over)
	return int64(len(found)), err
}

// querier is what rows can be read by.
type querier interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

func scan(ctx context.Context, q querier, each func(*sql.Rows) error, query string, args ...any) error {
	r, err := q.QueryContext(ctx, query, args...)
	if err != nil {
		return err
	}
	return scanRows(r, each)
}

func scanRows(r *sql.Rows, each func(*sql.Rows) error) error {
	defer r.Close()
	for r.Next() {
		if err := each(r); err != nil {
			return err
		}
	}
	return r.Err()
}

// The states of a cluster's objects of a kind that overlap a range of time, the
// present ones, the past ones and the packed ones: one statement, so that what is
// packed meanwhile is seen once. SQLite keeps no statistics here, so it is told which
// index serves.
const (
	allStates = `
SELECT 0, namespace, name, valid_from, valid_to, gone, body FROM versions INDEXED BY versions_present
	WHERE cluster = (SELECT id FROM clusters WHERE name = ?1) AND kind = ?2 AND valid_to IS NULL AND valid_from < ?4
UNION ALL SELECT 0, namespace, name, valid_from, valid_to, gone, body FROM versions INDEXED BY versions_ended
	WHERE cluster = (SELECT id FROM clusters WHERE name = ?1) AND kind = ?2 AND valid_to > ?3 AND valid_from < ?4
UNION ALL SELECT 1, namespace, name, valid_from, valid_to, 0, body FROM lives INDEXED BY lives_ended
	WHERE cluster = (SELECT id FROM clusters WHERE name = ?1) AND kind = ?2 AND valid_to > ?3 AND valid_from < ?4
ORDER BY 2, 3, 4`
	// theirStates are those of some objects, which ?5 lists as [namespace, name].
	theirStates = `
SELECT 0, of.namespace, of.name, valid_from, valid_to, gone, body FROM json_each(?5) AS one CROSS JOIN versions AS of INDEXED BY versions_object
	WHERE cluster = (SELECT id FROM clusters WHERE name = ?1) AND kind = ?2 AND of.namespace = one.value ->> 0 AND of.name = one.value ->> 1 AND (valid_to IS NULL OR valid_to > ?3) AND valid_from < ?4
UNION ALL SELECT 1, of.namespace, of.name, valid_from, valid_to, 0, body FROM json_each(?5) AS one CROSS JOIN lives AS of INDEXED BY lives_object
	WHERE cluster = (SELECT id FROM clusters WHERE name = ?1) AND kind = ?2 AND of.namespace = one.value ->> 0 AND of.name = one.value ->> 1 AND valid_to > ?3 AND valid_from < ?4
ORDER BY 2, 3, 4`
)

// statesAtOnce is how many rows are decoded together, on all processors: that is most of
// what a question about the past costs.
const statesAtOnce = 256

// stateRow is a row of the past as it is read, and what it holds.
type stateRow struct {
	packed          bool
	namespace, name string
	state           pastState // of a row that is not packed, without the object
	present         bool
	stored          []byte
	versions        []Version
}

// decodeRow reads the states of a row that overlap a range of time.
func (s *Store) decodeRow(row *stateRow, kind object.Kind, begin, end int64) error {
	add := func(st pastState) error {
		v := Version{From: time.UnixMilli(st.From).UTC(), Gone: st.Gone}
		if !row.present {
			v.To = time.UnixMilli(st.To).UTC()
		}
		var err error
		if v.Object, err = decode(kind, st.Object); err != nil {
			return err
		}
		row.versions = append(row.versions, v)
		return nil
	}
	body, err := s.packer.unpack(row.stored)
	if err != nil {
		return err
	}
	if !row.packed {
		row.state.Object = body
		return add(row.state)
	}
	var run []pastState
	if err := json.Unmarshal(body, &run); err != nil {
		return fmt.Errorf("read packed states of %s/%s: %w", row.namespace, row.name, err)
	}
	for _, st := range run {
		if st.From < end && st.To > begin {
			if err := add(st); err != nil {
				return err
			}
		}
	}
	return nil
}

// states calls fn with the states of a range of time, object by object and the
// oldest first; of some objects only, if keys name any.
func (s *Store) states(ctx context.Context, clusterName string, kind object.Kind, keys []object.Key, from, to time.Time, fn func(Version) error) error {
	begin, end := from.UnixMilli(), to.UnixMilli()
	var rows []stateRow
	give := func() error {
		workers := min(runtime.GOMAXPROCS(0), 1+len(rows)/8)
		var g errgroup.Group
		for w := range workers {
			g.Go(func() error {
				for i := w; i < len(rows); i += workers {
					if err := s.decodeRow(&rows[i], kind, begin, end); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := g.Wait(); err != nil {
			return err
		}
		for i := range rows {
			for _, v := range rows[i].versions {
				if err := fn(v); err != nil {
					return err
				}
			}
		}
		clear(rows)
		rows = rows[:0]
		return nil
	}
	args := []any{clusterName, kind, begin, end}
	var found *sql.Rows
	var err error
	if keys == nil {
		found, err = s.db.QueryContext(ctx, allStates, args...)
	} else {
		names := make([][2]string, len(keys))
		for i, k := range keys {
			names[i] = [2]string{k.Namespace, k.Name}
		}
		var list []byte
		if list, err = json.Marshal(names); err != nil {
			return err
		}
		found, err = s.their.QueryContext(ctx, append(args, string(list))...)
	}
	if err != nil {
		return err
	}
	err = scanRows(found, func(r *sql.Rows) error {
		var row stateRow
		var over sql.NullInt64
		if err := r.Scan(&row.packed, &row.namespace, &row.name, &row.state.From, &over, &row.state.Gone, &row.stored); err != nil {
			return err
		}
		row.state.To, row.present = over.Int64, !over.Valid
		if rows = append(rows, row); len(rows) < statesAtOnce {
			return nil
		}
		return give()
	})
	if err != nil {
		return err
	}
	return give()
}
