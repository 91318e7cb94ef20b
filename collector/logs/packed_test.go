package logs

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// pack compresses a file as the kubelet does: a new file, then the old one goes.
func (tr *tree) pack(name string) {
	tr.t.Helper()
	raw, err := os.ReadFile(filepath.Join(tr.dir, name))
	if err != nil {
		tr.t.Fatal(err)
	}
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write(raw)
	if err := z.Close(); err != nil {
		tr.t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tr.dir, name+packedSuffix), b.Bytes(), 0o644); err != nil {
		tr.t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(tr.dir, name)); err != nil {
		tr.t.Fatal(err)
	}
}

// rotate does what the kubelet does: the current file is renamed, and those
// before it are compressed.
func (tr *tree) rotate(i int) {
	tr.t.Helper()
	tr.rename("0.log", fmt.Sprintf("0.log.20261123-1000%02d", i))
	if before := fmt.Sprintf("0.log.20261123-1000%02d", i-1); hasFile(tr, before) {
		tr.pack(before)
	}
}

func hasFile(tr *tree, name string) bool {
	_, err := os.Stat(filepath.Join(tr.dir, name))
	return err == nil
}

// What was rotated and compressed while no collector ran is read once: from
// where the last run stopped, over further restarts, and with a batch on its way.
func TestFilesCompressedWhileAway(t *testing.T) {
	for _, lost := range []bool{false, true} {
		t.Run(fmt.Sprintf("answer lost %v", lost), func(t *testing.T) {
			tr, s := newTree(t), newServer(t)
			tr.write("0.log", 100)
			_, stop := tr.run(s)
			s.await(key, 100)
			// Compressed while it runs: read before, and not again.
			for i := 1; i <= 3; i++ {
				tr.rotate(i)
				tr.write("0.log", 100)
				s.await(key, tr.next)
			}
			if lost {
				s.set(func() { s.lost = s.batches })
			}
			tr.write("0.log", 50)
			s.await(key, tr.next-1) // the last one may go on, and wait for the next batch
			kill(t, s, tr.positions(), stop)
			tr.write("0.log", 30)
			for i := 4; i <= 7; i++ {
				tr.rotate(i)
				tr.write("0.log", 40)
			}
			for range 3 {
				s.set(func() { s.lost = -1 })
				_, stop = tr.run(s)
				s.await(key, tr.next)
				tr.write("0.log", 1)
				s.await(key, tr.next)
				stop()
			}
			numbered(t, s.got(key), tr.next)
			if left, _ := filepath.Glob(filepath.Join(tr.pos, "*")); len(left) != 2 {
				t.Errorf("the folder of positions has %q", left)
			}
		})
	}
}

// A container that came and went through rotations while no collector ran.
func TestFilesCompressedOfANewContainer(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	other := tr.beside()
	other.write("0.log", 10)
	_, stop := tr.run(s)
	s.await("cart-1/side/stdout", 10)
	stop()
	for i := 1; i <= 5; i++ {
		tr.write("0.log", 100)
		tr.rotate(i)
	}
	tr.write("0.log", 7)
	_, stop = tr.run(s)
	s.await(key, tr.next)
	stop()
	numbered(t, s.got(key), tr.next)
}

// Before the first start nothing was ours.
func TestFilesCompressedBeforeTheFirstStart(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.raw("0.log", cri(0, "stdout", "F", "old"))
	tr.rotate(1)
	tr.raw("0.log", cri(0, "stdout", "F", "older"))
	tr.rotate(2)
	tr.write("0.log", 20)
	_, stop := tr.run(s)
	s.await(key, 20)
	stop()
	numbered(t, s.got(key), 20)
}

// Half a compressed file gives the lines that it has; garbage gives none. Neither
// holds up what comes after.
func TestFilesDamagedCompressed(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 10)
	_, stop := tr.run(s)
	s.await(key, 10)
	stop()
	for i := 1; i <= 4; i++ {
		tr.rotate(i)
		tr.write("0.log", 5000)
	}
	second := filepath.Join(tr.dir, "0.log.20261123-100002.gz")
	st, err := os.Stat(second)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(second, st.Size()/2); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(tr.dir, "0.log.20261123-100003.gz"), []byte("no gzip at all"), 0o644); err != nil {
		t.Fatal(err)
	}
	_, stop = tr.run(s)
	last := fmt.Sprintf("line %d", tr.next-1)
	// What is told of the damage may be the last that comes.
	waitFor(t, func() bool { return slices.Contains(s.got(key), last) })
	stop()
	seen, twice := map[string]bool{}, 0
	for _, l := range s.got(key) {
		if seen[l] {
			twice++ // the line that the damage has cut may look like another
		}
		seen[l] = true
	}
	// 10 lines, some of the damaged one, none of the garbage, two whole files.
	if n := len(seen); twice > 1 || n <= 10+2*5000 || n >= 10+3*5000 {
		t.Errorf("%d lines, %d of them twice", n, twice)
	}
}

// Where rotation took files while no collector ran, what is missing lies between
// two known times, and the container's stream says so; once, and only there.
func TestFilesRotatedAwayWhileNobodyRan(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	_, stop := tr.run(s)
	s.await(key, 100)
	stop()
	lastRead := clock.Add(99 * time.Millisecond)
	tr.write("0.log", 10)
	for i := 1; i <= 3; i++ {
		tr.rename("0.log", fmt.Sprintf("0.log.20261123-1000%02d", i))
		tr.write("0.log", 50)
	}
	for i := 1; i <= 2; i++ {
		if err := os.Remove(filepath.Join(tr.dir, fmt.Sprintf("0.log.20261123-1000%02d", i))); err != nil {
			t.Fatal(err)
		}
	}
	first := clock.Add(160 * time.Millisecond)
	var f *Files
	for range 2 {
		f, stop = tr.run(s)
		s.await(key, 100+1+100)
		stop()
	}
	var told []map[string]string
	for _, fields := range s.fields {
		if fields["crowsnest_dropped_reason"] != "" {
			told = append(told, fields)
		}
	}
	if len(told) != 1 || told[0]["crowsnest_dropped_reason"] != DropAway || told[0]["crowsnest_dropped_from"] != lastRead.Format(time.RFC3339Nano) || told[0]["crowsnest_dropped_until"] != first.Format(time.RFC3339Nano) {
		t.Errorf("told %v, want once the range from %s to %s", told, lastRead, first)
	}
	got := s.got(key)
	if len(got) != 201 || got[100] != "line 160" && got[101] != "line 160" || got[len(got)-1] != "line 259" {
		t.Errorf("%d lines, %q", len(got), got[98:min(len(got), 104)])
	}
	if h := f.Health(); len(h.Dropped) > 0 {
		t.Errorf("the second start dropped %v", h.Dropped)
	}
}

// A batch can be on its way that has nothing of a file but tells what is missing before
// it, although there are files before that one that were not read: they are read then.
func TestFilesBeforeOneThatWasOnlyToldOf(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	_, stop := tr.run(s)
	s.await(key, 100)
	stop()
	for i := 1; i <= 4; i++ {
		tr.rotate(i)
		tr.write("0.log", 50)
	}
	told := &file{path: filepath.Join(tr.dir, "0.log.20261123-100003"+packedSuffix)}
	var err error
	if told.fd, err = os.Open(told.path); err == nil {
		err = told.identifyPacked()
	}
	if err != nil {
		t.Fatal(err)
	}
	defer told.close()
	j, err := openJournal[filePos](tr.positions())
	if err != nil {
		t.Fatal(err)
	}
	c := &container{}
	at := clock.UnixNano()
	j.inFlight = &inFlight[filePos]{
		ID: "1", From: map[string]filePos{}, To: map[string]filePos{told.key(): c.pos(told)}, Day: dayOf(at),
		Told: []tell{{Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Container: "app", Stream: "stdout"}, Reason: DropRotated, From: at, Until: at}},
	}
	if err := j.write(); err != nil {
		t.Fatal(err)
	}
	_, stop = tr.run(s)
	s.await(key, tr.next+1) // with what tells
	stop()
	once(t, s.got(key), tr.next)
}

// The inode of a file that was read and compressed may be that of the file which comes
// next. What is known of the one is not forgotten for the other, of which nothing was read.
func TestFilesCompressedWhoseInodeIsAnothers(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	_, stop := tr.run(s)
	s.await(key, 100)
	stop()
	j, err := openJournal[filePos](tr.positions())
	if err != nil {
		t.Fatal(err)
	}
	if len(j.known) != 1 {
		t.Fatalf("%d positions are known, want that of one file", len(j.known))
	}
	j.apart = apart
	for inode, p := range j.known {
		j.acknowledged(&batch[filePos]{to: map[string]filePos{inode: {Path: p.Path, Dev: p.Dev, Ino: p.Ino}}})
	}
	if err := j.write(); err != nil {
		t.Fatal(err)
	}
	for i := 1; i <= 3; i++ {
		tr.rotate(i)
		tr.write("0.log", 50)
	}
	for range 2 {
		_, stop = tr.run(s)
		s.await(key, tr.next)
		tr.write("0.log", 1)
		s.await(key, tr.next)
		stop()
	}
	numbered(t, s.got(key), tr.next)
}

// What tells of a lost file, or is left of one that is gone, goes under an inode that may be
// another file's by now. That one's own position stays for as long as it is there.
func TestFilesWhoseInodeWasALostOnes(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	f, stop := tr.run(s)
	s.await(key, 100)
	tr.rename("0.log", "0.log.20261123-100001")
	tr.write("0.log", 50)
	s.await(key, 150)
	stop()
	name, own := "", filePos{}
	for k, p := range f.journal.sources() {
		if own.Last == 0 || p.Last < own.Last {
			name, own = k, p // of the older file
		}
	}
	f, stop = tr.run(s)
	f.journal.set(name, filePos{Path: filepath.Join(tr.root, "shop_cart-2_uid-2", "app", "0.log"), Offset: 10 * own.Offset, First: 1, Last: own.Last + 1})
	f.journal.set("gone", filePos{Path: own.Path})
	waitFor(t, func() bool { _, there := f.journal.position("gone"); return !there }) // positions were looked through
	stop()
	if p, ok := f.journal.position(besides(name, own.First)); !ok || p.Offset != own.Offset || own.Offset == 0 {
		t.Errorf("the file stands at %+v, want %+v", p, own)
	}
	if err := f.journal.write(); err != nil {
		t.Fatal(err)
	}
	tr.write("0.log", 50)
	_, stop = tr.run(s)
	s.await(key, 200)
	stop()
	numbered(t, s.got(key), 200)
}

// A compressed file that was read is older than the one that was read last, though that
// one is gone: it is not read again.
func TestFilesRotatedAwayBehindOlderOnes(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 100)
	_, stop := tr.run(s)
	s.await(key, 100)
	for i := 1; i <= 2; i++ {
		tr.rotate(i)
		tr.write("0.log", 50)
		s.await(key, tr.next)
	}
	stop()
	for i := 3; i <= 5; i++ {
		tr.rotate(i)
		tr.write("0.log", 50)
	}
	for i := 2; i <= 3; i++ { // the first stays
		if err := os.Remove(filepath.Join(tr.dir, fmt.Sprintf("0.log.20261123-1000%02d", i)+packedSuffix)); err != nil {
			t.Fatal(err)
		}
	}
	_, stop = tr.run(s)
	s.await(key, 200+1+150) // and what tells of the lost ones
	stop()
	times := map[string]int{}
	for _, line := range s.got(key) {
		if times[line]++; times[line] > 1 {
			t.Errorf("%q is there %d times", line, times[line])
		}
	}
}

// What is in a compressed file is read as from any other: on from where it was, again
// from a little before, and anew from the beginning.
func TestUnpackingReadsAnywhere(t *testing.T) {
	plain := make([]byte, 300_000)
	for i := range plain {
		plain[i] = byte(i >> 3 % 251)
	}
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	if _, err := z.Write(plain); err != nil {
		t.Fatal(err)
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	u := &unpacking{from: bytes.NewReader(packed.Bytes()), size: int64(len(plain))}
	for i, r := range []struct{ off, n int }{
		{0, 1000}, {1000, 1000}, {1900, 1000}, {1900, 500}, {2100, 5000}, {2100, 5000}, {2099, 10}, {2000, 200_000}, {200_000, 64}, {299_990, 100}, {299_995, 3}, {10, 50_000}, {60, 0}, {60, 1},
	} {
		p := make([]byte, r.n)
		n, err := u.ReadAt(p, int64(r.off))
		if want := plain[r.off:min(len(plain), r.off+r.n)]; err != nil || !bytes.Equal(p[:n], want) {
			t.Errorf("%d: %d of %d bytes at %d, %v", i, n, len(want), r.off, err)
		}
	}
	if n, err := u.ReadAt(make([]byte, 1), int64(len(plain))); n != 0 || !errors.Is(err, io.EOF) {
		t.Errorf("behind the end: %d bytes, %v", n, err)
	}
}

// A compressed file takes no room of the collector's disk, however large it is unpacked.
func TestFilesCompressedNeedNoRoom(t *testing.T) {
	tr, s := newTree(t), newServer(t)
	tr.write("0.log", 10)
	_, stop := tr.run(s)
	s.await(key, 10)
	stop()
	for i := 1; i <= 3; i++ {
		tr.write("0.log", 10_000)
		tr.rotate(i)
	}
	tr.write("0.log", 5)
	_, stop = tr.run(s)
	want := map[string]bool{"file-positions.json": true, "file-positions.json" + spareSuffix: true}
	waitFor(t, func() bool {
		entries, err := os.ReadDir(tr.pos)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			if !want[e.Name()] {
				t.Fatalf("%s lies in the collector's folder", e.Name())
			}
		}
		return len(s.got(key)) >= tr.next
	})
	stop()
	numbered(t, s.got(key), tr.next)
}

// A compressed file is opened once, when it is found: after that, each look only asks whether it is
// still the same.
func TestFilesCompressedAreOpenedOnce(t *testing.T) {
	const files, looks = 5, 3
	tr := newTree(t)
	tr.write("0.log", 10)
	for i := range files {
		tr.rotate(i)
		tr.write("0.log", 10)
	}
	tr.pack(fmt.Sprintf("0.log.20261123-1000%02d", files-1))
	opened := openedIn(t, tr.dir)
	r := tr.started(t)
	r.started = true
	if of := opened(); len(of) != files {
		t.Fatalf("%d compressed files were opened at the start, want %d", len(of), files)
	} else if i := slices.IndexFunc(slices.Collect(maps.Values(of)), func(n int) bool { return n > 1 }); i >= 0 {
		t.Errorf("a file was opened more than once at the start: %v", of)
	}
	for range looks {
		r.scanRoot()
	}
	if of := opened(); len(of) > 0 {
		t.Errorf("opened again: %v", of)
	}
	tr.rotate(files)
	tr.pack(fmt.Sprintf("0.log.20261123-1000%02d", files))
	r.scanRoot()
	if of := opened(); len(of) != 1 {
		t.Errorf("opened are %v, want the one that came", of)
	}
}

// openedIn gives how often each compressed file of a folder was opened since the last time that it was
// asked.
func openedIn(t *testing.T, dir string) func() map[string]int {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err == nil {
		_, err = unix.InotifyAddWatch(fd, dir, unix.IN_OPEN)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return func() map[string]int {
		of, buf := map[string]int{}, make([]byte, lookBytes)
		n, _ := unix.Read(fd, buf) // nothing of it
		for raw := buf[:max(0, n)]; len(raw) >= unix.SizeofInotifyEvent; {
			length := int(binary.NativeEndian.Uint32(raw[12:]))
			name, _, _ := strings.Cut(string(raw[unix.SizeofInotifyEvent:][:length]), "\x00")
			if strings.HasSuffix(name, packedSuffix) {
				of[name]++
			}
			raw = raw[unix.SizeofInotifyEvent+length:]
		}
		return of
	}
}
