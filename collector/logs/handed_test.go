package logs

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/cespare/xxhash/v2"
)

// inFile gives lines of the API as the runtime has them in a file.
func inFile(lines []string) string {
	var b strings.Builder
	for _, l := range lines {
		stamp, text, _ := strings.Cut(l, " ")
		b.WriteString(stamp + " stdout F " + text)
	}
	return b.String()
}

// A node's first collector goes on where the API server's reader was: in the middle of
// lines of one time, in a rotated file or in an instance before the present one. Another
// start before the server has anything of it does so, too.
func TestFilesGoOnAfterTheAPI(t *testing.T) {
	for _, n := range []int{1, 59, 60, 98, 99, 100, 150} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			c, s := newCluster(t), newServer(t)
			_, stop := c.run(c.options(s), s)
			c.write(n)
			s.await(key, n)
			silence(s, stop)
			c.write(150 - n)
			c.restart()
			c.write(30)

			tr := newTree(t)
			tr.dir = filepath.Join(tr.root, "shop_cart-1_uid-cart-1", "app")
			if err := os.MkdirAll(tr.dir, 0o755); err != nil {
				t.Fatal(err)
			}
			tr.raw("0.log.20261123-100000", inFile(c.lines[0][:60]))
			tr.raw("0.log", inFile(c.lines[0][60:]))
			tr.raw("1.log", inFile(c.lines[1]))
			o := tr.options()
			o.State, o.Positions, o.HandOver = c, s.ask, time.Millisecond
			if n == 99 { // stopped with its first batch on its way
				waiting := &cut{server: s, holds: make(chan struct{}), held: make(chan struct{}, 1)}
				_, stopped := tr.runWith(o, waiting)
				<-waiting.held
				stopped()
			}
			_, stop = tr.runWith(o, s)
			s.await(key, c.next)
			c.write(10)
			tr.raw("1.log", inFile(c.lines[1][30:]))
			s.await(key, c.next)
			stop()
			numbered(t, s.got(key), c.next)
		})
	}
}

func TestWhereAnotherReadersLinesEnd(t *testing.T) {
	const first, second = "2026-11-23T10:00:00.100000000Z", "2026-11-23T10:00:00.200000000Z"
	at, _ := parseTime(second)
	parts := second + " stderr P half and \n" + second + " stderr F half\n"
	for name, tc := range map[string]struct {
		file, last string
		seen       int
		want       string // what is left
	}{
		"nothing new":           {first + " stdout F a\n" + second + " stdout F b\n", second + " b", 1, ""},
		"of the same time":      {second + " stdout F a\n" + second + " stdout F b\n", second + " a", 1, second + " stdout F b\n"},
		"the same twice":        {second + " stdout F a\n" + second + " stdout F a\n" + second + " stdout F a\n", second + " a", 2, second + " stdout F a\n"},
		"fewer digits":          {"2026-11-23T10:00:00.2Z stdout F a\n" + "2026-11-23T10:00:00.2Z stdout F b\n", second + " a", 1, "2026-11-23T10:00:00.2Z stdout F b\n"},
		"rotated away":          {"2026-11-23T10:00:01Z stdout F a\n", second + " gone", 1, "2026-11-23T10:00:01Z stdout F a\n"},
		"a record in parts":     {parts + "2026-11-23T10:00:01Z stdout F a\n", second + " half and half", 1, "2026-11-23T10:00:01Z stdout F a\n"},
		"parts that are new":    {first + " stdout F a\n2026-11-23T10:00:01Z stdout P a\n2026-11-23T10:00:01Z stdout F b\n", second + " x", 1, "2026-11-23T10:00:01Z stdout P a\n2026-11-23T10:00:01Z stdout F b\n"},
		"a line without an end": {first + " stdout F a\n" + second + " stdout F b", second + " b", 1, second + " stdout F b"},
		"Docker's":              {`{"log":"a\n","stream":"stdout","time":"` + second + `"}` + "\n" + `{"log":"b\n","stream":"stdout","time":"` + second + `"}` + "\n", second + " a", 1, `{"log":"b\n","stream":"stdout","time":"` + second + `"}` + "\n"},
		"a line without bounds": {first + " stdout F a\n" + strings.Repeat("x", 3*readBytes) + "\n" + second + " stdout F b\n2026-11-23T10:00:01Z stdout F c\n", second + " b", 1, "2026-11-23T10:00:01Z stdout F c\n"},
		"no line at all":        {"\x00\x00rubbish\n", second + " a", 1, "\x00\x00rubbish\n"},
	} {
		path := filepath.Join(t.TempDir(), "0.log")
		if err := os.WriteFile(path, []byte(tc.file), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		h := &handed{to: apiPos{Time: at, Hash: xxhash.Sum64String(tc.last), Seen: tc.seen}}
		offset, err := h.after(f)
		if err != nil || tc.file[offset:] != tc.want {
			t.Errorf("%s: %q is left, %v; want %q", name, tc.file[offset:], err, tc.want)
		}
		_ = f.Close()
	}
}
