package logs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
)

// journal keeps on disk how far the server has acknowledged each source, and
// which batch was on its way: after a crash exactly that batch is made again,
// under the same id, so that the server stores it once. C is a source's position.
type journal[C any] struct {
	path string
	made bool // there was no file
	// forgot says that an earlier version wrote the file, which forgot how far it had read
	// what was compressed since.
	forgot bool

	writing sync.Mutex // one at a time, so that none replaces a younger one

	mu       sync.Mutex
	known    map[string]C // by source
	inFlight *inFlight[C]
	lost     map[string]lostFile[C] // what no batch that the server has tells yet, by source
	maxLost  int                    // of these, before they are noted together
	// apart, if set, gives the name under which a source's position is kept on that was
	// there before one of another source that has its name now; "" if it need not be.
	apart func(source string, was, now C) string
	// beside, if set, names the position of another source than the one that has its name by now.
	beside func(source string, c C) string
}

type inFlight[C any] struct {
	ID   string       `json:"id"`
	From map[string]C `json:"from"`
	To   map[string]C `json:"to"`
	Day  int64        `json:"day,omitempty"`  // of its lines
	Told []tell       `json:"told,omitempty"` // what it says to be lost
}

// lostFile is a source that was given up, and what was lost with it.
type lostFile[C any] struct {
	At     C      `json:"at"`
	Reason string `json:"reason"`
	Lines  int    `json:"lines,omitempty"`
	Bytes  int64  `json:"bytes,omitempty"`
	From   int64  `json:"from,omitempty"`
	Until  int64  `json:"until"`
}

type journalFile[C any] struct {
	Format   int                    `json:"format"`
	Known    map[string]C           `json:"known"`
	InFlight *inFlight[C]           `json:"in_flight,omitempty"`
	Lost     map[string]lostFile[C] `json:"lost,omitempty"`
	Packed   bool                   `json:"packed,omitempty"` // what was compressed and is there is known, too
}

const journalFormat = 1

// openJournal reads the file, which may not be there yet. One that cannot be
// read is an error: to begin anew would send everything twice.
func openJournal[C any](path string) (*journal[C], error) {
	j := &journal[C]{path: path, known: map[string]C{}, lost: map[string]lostFile[C]{}, maxLost: maxLost}
	raw, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		j.made = true
		return j, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read positions: %w", err)
	}
	var f journalFile[C]
	if err := json.Unmarshal(raw, &f); err != nil {
		return nil, fmt.Errorf("read positions %s: %w; without the file all logs that are still there are sent again", path, err)
	}
	if f.Format > journalFormat {
		return nil, fmt.Errorf("read positions %s: its format is %d, this version knows %d", path, f.Format, journalFormat)
	}
	if f.Known != nil {
		j.known = f.Known
	}
	j.inFlight, j.forgot = f.InFlight, !f.Packed
	maps.Copy(j.lost, f.Lost)
	return j, nil
}

// openMemory gives one that is nowhere written: its positions are known elsewhere.
func openMemory[C any]() *journal[C] {
	return &journal[C]{known: map[string]C{}, made: true, maxLost: maxLost}
}

func (j *journal[C]) position(source string) (C, bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	c, ok := j.known[source]
	return c, ok
}

// begin notes that the batch is about to be sent. It must be written before it is.
// Whoever fills batches calls it, so that a source that gets another name after
// that gets it in this batch, too.
func (j *journal[C]) begin(b *batch[C]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.inFlight = &inFlight[C]{ID: b.wire.ID, From: b.from, To: b.to, Day: b.day, Told: b.told}
}

// acknowledged notes that the server has the batch. It is written before the next
// one is sent, or when none follows.
func (j *journal[C]) acknowledged(b *batch[C]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for source, c := range b.to {
		j.put(source, c)
	}
	for _, t := range b.told {
		delete(j.lost, t.Noted)
	}
	j.inFlight = nil
}

// maxLost are noted one by one: all are written with each.
const maxLost = 64

// lose notes what was lost with a source, until a batch that the server has tells it, and
// amends the positions by which a start would have found it, which a kill must not leave
// apart. Once there are many, those that are alike are noted with it: at worst, what the
// server was told of these meanwhile is told once more. alike gives the name, if there is one, by
// which the position of such a one is known from then on: no note has it any more.
func (j *journal[C]) lose(source string, l lostFile[C], alike func(source string, l lostFile[C]) (name string, ok bool), amends map[string]func(C) C) {
	j.mu.Lock()
	defer j.mu.Unlock()
	for at, change := range amends {
		j.amendLocked(at, change)
	}
	if len(j.lost) >= j.maxLost {
		for other, o := range j.lost {
			if other == source {
				continue
			}
			if name, ok := alike(other, o); ok {
				if name != "" {
					j.known[name] = o.At
				}
				l.Lines, l.Bytes, l.From, l.Until = l.Lines+o.Lines, l.Bytes+o.Bytes, min(l.From, o.From), max(l.Until, o.Until)
				delete(j.lost, other)
			}
		}
	}
	j.lost[source] = l
}

// unnoted gives a name for what was lost with a source further: with what is noted by the one that
// it has, and may be on its way, it would be taken for told, and that be forgotten for it.
func (j *journal[C]) unnoted(source string, l lostFile[C], told []tell) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.inFlight != nil {
		told = append(slices.Clone(told), j.inFlight.Told...)
	}
	for {
		o, noted := j.lost[source]
		same := noted && o.Reason == l.Reason && o.Lines == l.Lines && o.Bytes == l.Bytes && o.From == l.From && o.Until == l.Until
		if same || !noted && !slices.ContainsFunc(told, func(t tell) bool { return t.Noted == source }) {
			return source
		}
		source += againSuffix
	}
}

// againSuffix is of a further note of one source.
const againSuffix = "'"

// found says that what was lost with a source need not be told any more.
func (j *journal[C]) found(source string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.lost, source)
}

// untold gives what was lost and is in no batch, not in the one on its way either.
func (j *journal[C]) untold() map[string]lostFile[C] {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := maps.Clone(j.lost)
	if j.inFlight != nil {
		for _, t := range j.inFlight.Told {
			delete(out, t.Noted)
		}
	}
	return out
}

// notes gives what was lost and the server has not heard of, be it in the batch on its way.
func (j *journal[C]) notes() map[string]lostFile[C] {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.lost)
}

// put sets what is known of a source.
func (j *journal[C]) put(source string, c C) { putApart(j.known, source, c, j.apart) }

// putApart sets a source's position; that of another source of its name is kept apart, where
// apart is given and says how.
func putApart[C any](known map[string]C, source string, c C, apart func(source string, was, now C) string) {
	if was, ok := known[source]; ok && apart != nil {
		if name := apart(source, was, c); name != "" {
			known[name] = was
		}
	}
	known[source] = c
}

// set notes a position that no batch brought.
func (j *journal[C]) set(source string, c C) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.put(source, c)
}

// amend changes what is known of a source's last position, whether the server has it
// already or it is on its way.
func (j *journal[C]) amend(source string, change func(C) C) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.amendLocked(source, change)
}

func (j *journal[C]) amendLocked(source string, change func(C) C) {
	if c, ok := j.known[source]; ok {
		j.known[source] = change(c)
	}
	if j.inFlight == nil {
		return
	}
	if c, ok := j.inFlight.To[source]; ok {
		j.inFlight.To[source] = change(c)
	}
}

// replaceInFlight has another batch be on its way, as it is to be made anew.
func (j *journal[C]) replaceInFlight(b *inFlight[C]) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.inFlight = b
}

// onItsWay gives how far the batch that is on its way brings its sources, and from where.
func (j *journal[C]) onItsWay() (from, to map[string]C) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.inFlight == nil {
		return nil, nil
	}
	return maps.Clone(j.inFlight.From), maps.Clone(j.inFlight.To)
}

// remembers says that all is known from here on that was read and is there.
func (j *journal[C]) remembers() {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.forgot = false
}

// settled says that no batch is on its way.
func (j *journal[C]) settled() bool {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.inFlight == nil
}

// become moves what is known of a source to another name as rename does, be it by its name or
// kept apart, as another source's position came to have its name. Where nothing of it is known,
// that is first: found out and set at once, as its batch may be acknowledged meanwhile.
func (j *journal[C]) become(old, apart, name string, first C, of func(C) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	if c, ok := j.known[old]; !ok || !of(c) {
		if c, ok := j.known[apart]; ok && of(c) {
			first = c
			delete(j.known, apart)
		}
		j.put(old, first) // else what had its name before would be taken for it
	}
	j.renameLocked(old, name, of)
}

// rename moves what is known of a source to another name, in the batch that is on
// its way, too: those of the old name's positions that are of it.
func (j *journal[C]) rename(old, name string, of func(C) bool) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.renameLocked(old, name, of)
}

func (j *journal[C]) renameLocked(old, name string, of func(C) bool) {
	if c, ok := j.known[old]; ok && of(c) {
		j.put(name, c)
		delete(j.known, old)
	}
	if j.inFlight != nil {
		j.renameIn(j.inFlight.From, j.inFlight.To, old, name, of)
	}
}

// renameIn moves the positions of a source in a batch to another name, if it is what the
// batch has by the old one.
func (j *journal[C]) renameIn(from, to map[string]C, old, name string, of func(C) bool) (done bool) {
	j.makeWay(from, to, name, of)
	c, ok := to[old]
	if _, taken := to[name]; !ok || taken || !of(c) {
		return false
	}
	move(from, to, old, name)
	return true
}

// makeWay has what a batch has by a name, of a source that is gone, go by another one, unless
// it is of the source that has the name now. Else the batch would bring the name the position
// of the one that is gone, and what it has of the other would be found by no name.
func (j *journal[C]) makeWay(from, to map[string]C, name string, of func(C) bool) {
	if c, taken := to[name]; taken && j.beside != nil && !of(c) {
		move(from, to, name, j.beside(name, c))
	}
}

// move has positions of a batch go by another name.
func move[C any](from, to map[string]C, old, name string) {
	for _, m := range []map[string]C{from, to} {
		delete(m, name)
		if c, ok := m[old]; ok {
			m[name] = c
			delete(m, old)
		}
	}
}

func (j *journal[C]) forget(source string) {
	j.mu.Lock()
	defer j.mu.Unlock()
	delete(j.known, source)
}

func (j *journal[C]) sources() map[string]C {
	j.mu.Lock()
	defer j.mu.Unlock()
	return maps.Clone(j.known)
}

// only gives those of the positions that which wants.
func (j *journal[C]) only(which func(C) bool) map[string]C {
	j.mu.Lock()
	defer j.mu.Unlock()
	out := map[string]C{}
	for source, c := range j.known {
		if which(c) {
			out[source] = c
		}
	}
	return out
}

const (
	// spareSuffix is of the file that the next journal is written into.
	spareSuffix = ".spare"
	// journalRoom is the least that a journal takes of the disk, so that one that
	// grows has room where the one before was.
	journalRoom = 512 << 10
)

// write puts the journal on disk: it is written over the one before the last, synced,
// and changes places with the last. So it needs no space that it has not already
// when the disk is full.
func (j *journal[C]) write() (err error) {
	if j.path == "" {
		return nil
	}
	j.writing.Lock()
	defer j.writing.Unlock()
	j.mu.Lock()
	raw, err := json.Marshal(journalFile[C]{Format: journalFormat, Known: j.known, InFlight: j.inFlight, Lost: j.lost, Packed: !j.forgot})
	j.mu.Unlock()
	if err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	spare := j.path + spareSuffix
	f, err := os.OpenFile(spare, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	if st, err := stat(f); err == nil {
		if room := int64(max(journalRoom, 2*len(raw))); st.Blocks*512 < room {
			// Where there is no space, or none can be reserved, what is there may do.
			_ = unix.Fallocate(int(f.Fd()), unix.FALLOC_FL_KEEP_SIZE, 0, room)
		}
		if more := st.Size - int64(len(raw)); more > 0 { // written over, not given back
			raw = append(raw, bytes.Repeat([]byte{'\n'}, int(more))...) // JSON may end so
		}
	}
	_, err = f.WriteAt(raw, 0)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	err = unix.Renameat2(unix.AT_FDCWD, spare, unix.AT_FDCWD, j.path, unix.RENAME_EXCHANGE)
	if err != nil { // the first one, or a file system that cannot
		err = os.Rename(spare, j.path)
	}
	if err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	return syncDir(filepath.Dir(j.path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	if err := errors.Join(d.Sync(), d.Close()); err != nil {
		return fmt.Errorf("write positions: %w", err)
	}
	return nil
}
