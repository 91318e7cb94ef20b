package backup

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/johannesboyne/gofakes3"
	"github.com/johannesboyne/gofakes3/backend/s3mem"
	"github.com/thanos-io/objstore"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/bucket"
)

// s3 is an S3 in this process. It counts what is asked of it.
type s3 struct {
	backend *s3mem.Backend
	url     string

	mu    sync.Mutex
	asked map[string]int // by method
	fail  func(r *http.Request) bool
}

func newS3(t *testing.T) *s3 {
	t.Helper()
	s := &s3{backend: s3mem.New(), asked: map[string]int{}}
	if err := s.backend.CreateBucket("backups"); err != nil {
		t.Fatal(err)
	}
	inner := gofakes3.New(s.backend).Server()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.mu.Lock()
		s.asked[r.Method]++
		failed := s.fail != nil && s.fail(r)
		s.mu.Unlock()
		if failed {
			http.Error(w, "no", http.StatusForbidden)
			return
		}
		inner.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	s.url = strings.TrimPrefix(server.URL, "http://")
	return s
}

func (s *s3) count(method string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.asked[method]
}

func (s *s3) failing(fail func(r *http.Request) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = fail
}

func (s *s3) open(t *testing.T) objstore.Bucket {
	t.Helper()
	b, err := bucket.Open(fmt.Appendf(nil, "type: S3\nprefix: one/two\nconfig: {bucket: backups, endpoint: %q, insecure: true, access_key: a, secret_key: s, bucket_lookup_type: path}", s.url))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// flip changes a bit of an object.
func (s *s3) flip(t *testing.T, key string) {
	t.Helper()
	object, err := s.backend.GetObject("backups", "one/two/"+key, nil)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(object.Contents)
	if err != nil {
		t.Fatal(err)
	}
	raw[len(raw)/2] ^= 1
	if _, err := s.backend.PutObject("backups", "one/two/"+key, map[string]string{}, strings.NewReader(string(raw)), int64(len(raw)), nil); err != nil {
		t.Fatal(err)
	}
}

// The kinds of buckets that backups are tried with.
var buckets = map[string]func(t *testing.T) objstore.Bucket{
	"S3": func(t *testing.T) objstore.Bucket { return newS3(t).open(t) },
	"a folder as one": func(t *testing.T) objstore.Bucket {
		b, err := bucket.Open([]byte("type: FILESYSTEM\nconfig: {directory: " + t.TempDir() + "}"))
		if err != nil {
			t.Fatal(err)
		}
		return b
	},
}

func TestBackupsInABucketAreRestoredAndShareBlocks(t *testing.T) {
	for name, open := range buckets {
		t.Run(name, func(t *testing.T) {
			g := newRig(t)
			place := Bucket(open(t), "here", func() time.Time { return g.now })
			into := func(o *Options) { o.To = place }
			g.add(t0.Add(-20*time.Hour), 5)
			g.add(t0.Add(-40*time.Hour), 50) // out of order: in a block from the first backup on
			first, p := g.backup(into)
			if p.Copied != p.Total || p.Done != p.Total {
				t.Errorf("the first copied %+v", p)
			}
			g.now = g.now.Add(time.Hour)
			g.add(t0, 10)
			second, p := g.backup(into)
			if p.Copied >= p.Total {
				t.Errorf("the second copied all: %+v", p)
			}
			for id, want := range map[string]int{first.ID: 55, second.ID: 65, "": 65} {
				data := filepath.Join(t.TempDir(), "data")
				if _, err := Restore(t.Context(), place, id, data, nil); err != nil {
					t.Fatalf("%q: %v", id, err)
				}
				if samples, _ := holds(t, data); samples != want {
					t.Errorf("%q has %d samples, want %d", id, samples, want)
				}
			}
			// The oldest goes with the blocks that no other has.
			g.now = g.now.Add(time.Hour)
			third, _ := g.backup(func(o *Options) { o.To, o.Keep = place, 1 })
			all, err := List(t.Context(), place)
			if err != nil || len(all) != 1 || all[0].ID != third.ID {
				t.Fatalf("%d stay, %v", len(all), err)
			}
			data := filepath.Join(t.TempDir(), "data")
			if _, err := Restore(t.Context(), place, "", data, nil); err != nil {
				t.Fatal(err)
			}
			if samples, _ := holds(t, data); samples != 65 {
				t.Errorf("%d samples", samples)
			}
			if _, err := Restore(t.Context(), place, first.ID, filepath.Join(t.TempDir(), "data"), nil); !errors.Is(err, fault.ErrNotFound) {
				t.Errorf("the first is still there: %v", err)
			}
		})
	}
}

// What an interrupted backup has brought is not sent again, but read; what whole
// ones name is not even read.
func TestInterruptedBackupIntoABucketGoesOn(t *testing.T) {
	g := newRig(t)
	for n := range 4 {
		g.add(t0.Add(time.Duration(-10-10*n)*time.Hour), 10) // out of order, so in blocks of their own
	}
	s := newS3(t)
	place := Bucket(s.open(t), "here", func() time.Time { return g.now })
	o := g.options()
	o.To = place
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	o.Progress = func(p Progress) {
		if p.Step == "samples" {
			if n++; n == 5 { // the step's beginning, and four files
				cancel()
			}
		}
	}
	if _, err := Create(ctx, o); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if all, err := List(t.Context(), place); err != nil || len(all) != 0 {
		t.Fatalf("%d backups, %v", len(all), err)
	}
	g.now = g.now.Add(time.Minute)
	m, p := g.backup(func(o *Options) { o.To = place })
	if p.Copied >= p.Total {
		t.Errorf("everything was sent again: %+v", p)
	}
	g.now = g.now.Add(time.Minute)
	before := s.count(http.MethodGet)
	_, p = g.backup(func(o *Options) { o.To = place })
	shared := 0
	for _, f := range m.Files {
		if rel, ok := inBlock(f.Path); ok && immutable(rel) {
			shared++
		}
	}
	if asked := s.count(http.MethodGet) - before; shared == 0 || asked > len(m.Files)+10 {
		t.Errorf("%d reads for a backup of %d files, of which %d were there: %+v", asked, len(m.Files), shared, p)
	}
	// A restore that breaks off goes on, too.
	data := filepath.Join(t.TempDir(), "data")
	broken := 0
	s.failing(func(r *http.Request) bool {
		if r.Method == http.MethodGet && strings.HasSuffix(r.URL.Path, "/index") {
			broken++
			return broken > 1
		}
		return false
	})
	if _, err := Restore(t.Context(), place, m.ID, data, nil); !errors.Is(err, fault.ErrUnavailable) {
		t.Fatalf("got %v", err)
	}
	if id, yes := Unfinished(data); !yes || id != m.ID {
		t.Errorf("unfinished %q, %v", id, yes)
	}
	s.failing(nil)
	if _, err := Restore(t.Context(), place, m.ID, data, func(at Progress) { p = at }); err != nil || p.Copied >= p.Total {
		t.Errorf("%v, %+v", err, p)
	}
	if samples, _ := holds(t, data); samples != 40 {
		t.Errorf("%d samples", samples)
	}
}

func TestDamageInABucketIsFound(t *testing.T) {
	g := newRig(t)
	g.add(t0, 50)
	s := newS3(t)
	place := Bucket(s.open(t), "here", func() time.Time { return g.now })
	m, _ := g.backup(func(o *Options) { o.To = place })
	for _, f := range m.Files {
		key := keyOf(ownDir(m.ID), f)
		s.flip(t, key)
		if _, err := Restore(t.Context(), place, "", filepath.Join(t.TempDir(), "data"), nil); !errors.Is(err, fault.ErrInvalid) || !strings.Contains(err.Error(), f.Path) {
			t.Errorf("%s: %v", f.Path, err)
		}
		s.flip(t, key)
	}
}

func TestOneServerWorksOnABucket(t *testing.T) {
	g := newRig(t)
	g.add(t0, 5)
	s := newS3(t)
	now := func() time.Time { return g.now }
	unlock, err := Bucket(s.open(t), "there", now).lock(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	here := func(o *Options) { o.To = Bucket(s.open(t), "here", now) }
	o := g.options()
	here(&o)
	if _, err := Create(t.Context(), o); !errors.Is(err, fault.ErrConflict) || !strings.Contains(err.Error(), "there works on") {
		t.Errorf("got %v", err)
	}
	// The same one goes on after a kill, and another once it is long gone.
	if _, err := Bucket(s.open(t), "there", now).lock(t.Context()); err != nil {
		t.Error(err)
	}
	if err := unlock(); err != nil {
		t.Error(err)
	}
	g.backup(here)
	if _, err := Bucket(s.open(t), "there", now).lock(t.Context()); err != nil {
		t.Error(err)
	}
	g.now = g.now.Add(staleLock + time.Minute)
	g.backup(here)
}

func TestBucketThatFails(t *testing.T) {
	g := newRig(t)
	g.add(t0, 5)
	s := newS3(t)
	place := Bucket(s.open(t), "here", func() time.Time { return g.now })
	s.failing(func(r *http.Request) bool {
		return r.Method == http.MethodPut && strings.Contains(r.URL.Path, "chunks")
	})
	o := g.options()
	o.To = place
	if _, err := Create(t.Context(), o); !errors.Is(err, fault.ErrUnavailable) || !strings.Contains(err.Error(), "chunks") {
		t.Errorf("got %v", err)
	}
	s.failing(func(*http.Request) bool { return true })
	if _, err := Create(t.Context(), o); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	if _, err := List(t.Context(), place); !errors.Is(err, fault.ErrUnavailable) {
		t.Errorf("got %v", err)
	}
	s.failing(nil)
	g.backup(func(o *Options) { o.To = place })
}
