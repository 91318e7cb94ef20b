package scrape

import (
	"bytes"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/storage"
)

var contentTypes = []string{
	"text/plain; version=0.0.4", "text/plain; version=1.0.0; escaping=allow-utf-8", "application/openmetrics-text; version=1.0.0; charset=utf-8",
	"application/json", "", // protobuf does not come past the gateway
}

// take leads a body through the parser that the scrape loop would choose, with
// its options, and through our appender. entries is how much it gave.
func take(s *Scraper, body []byte, contentType string) (entries int) {
	p, err := textparse.New(body, contentType, labels.NewSymbolTable(), textparse.ParserOptions{IgnoreNativeHistograms: true, FallbackContentType: "text/plain"})
	if p == nil {
		_ = err
		return 0
	}
	a := &appender{s: s, family: "static"}
	var ls labels.Labels
	for {
		e, err := p.Next()
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = a.Rollback()
			}
			break
		}
		entries++
		switch e {
		case textparse.EntrySeries:
			_, _, v := p.Series()
			p.Labels(&ls)
			if ls.Get("__name__") == "" || !ls.IsValid(2) || a.fresh != nil && len(a.fresh) > s.o.Limits.Samples { // as the loop does
				continue
			}
			if _, err := a.Append(0, ls, 0, 1, v, nil, nil, storage.AOptions{}); err != nil {
				continue
			}
		case textparse.EntryHistogram:
			_, _, h, fh := p.Histogram()
			p.Labels(&ls)
			_, _ = a.Append(0, ls, 0, 1, 0, h, fh, storage.AOptions{})
		}
	}
	_ = a.Commit()
	return entries
}

func parsing(t testing.TB) *Scraper {
	s, err := New(Options{Sources: []Source{&fixed{}}, Families: []string{"static"}})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func FuzzExposition(f *testing.F) {
	for i := range contentTypes {
		for _, text := range []string{
			"# HELP a help\n# TYPE a counter\na_total{x=\"1\"} 5 # {trace_id=\"x\"} 1\n# EOF\n",
			"# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_count 1\nh_sum NaN\n", "a{", "a{b=\"", "{\"a.b\",c=\"d\"} 1 1\n", "a 1e999\na -Inf\na 0x1p-2\n", "\x00\xff", "# EOF",
		} {
			f.Add([]byte(text), uint8(i))
		}
	}
	f.Fuzz(func(t *testing.T, body []byte, kind uint8) {
		if n := take(parsing(t), body, contentTypes[int(kind)%len(contentTypes)]); n > 4*len(body)+16 {
			t.Errorf("%d entries of %d bytes", n, len(body))
		}
	})
}

// Bodies as large as the limit lets through, and made to be expensive, cost a
// small multiple of their size.
func TestHostileBodiesCostInProportionToTheirSize(t *testing.T) {
	const size = 1 << 20 // a quarter of the limit: the race detector is slow
	for name, body := range map[string][]byte{
		"one name":    append(bytes.Repeat([]byte("a"), size), " 1\n"...),
		"no end":      append([]byte("a{b=\""), bytes.Repeat([]byte("x"), size)...),
		"escapes":     append(append([]byte("a{b=\""), bytes.Repeat([]byte(`\n`), size/2)...), "\"} 1\n"...),
		"many labels": []byte("a{" + strings.Repeat("b=\"c\",", size/6) + "} 1\n"),
		"many series": bytes.Repeat([]byte("a 1\n"), size/4),
		"many types":  bytes.Repeat([]byte("# TYPE a counter\n"), size/17),
		"braces":      bytes.Repeat([]byte("{"), size),
		"line breaks": bytes.Repeat([]byte("\n"), size),
		"nothing":     make([]byte, size),
	} {
		for _, ct := range contentTypes {
			s := parsing(t)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			take(s, body, ct)
			runtime.ReadMemStats(&after)
			if got := after.TotalAlloc - before.TotalAlloc; got > 80*size { // the worst: 700,000 labels in one series, added up over all growing of slices
				t.Errorf("%s as %q: %d MiB allocated for a body of %d MiB", name, ct, got>>20, size>>20)
			}
		}
	}
}
