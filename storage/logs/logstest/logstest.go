// Package logstest helps tests that open a log store: it must not be linked into
// a program.
package logstest

import (
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/crowsnest-dev/crowsnest/storage/logs"
)

// Leaks are the options for goleak in a package that opens a log store: the
// library keeps a few goroutines for the life of the process. Call it before
// anything else in TestMain.
func Leaks() []goleak.Option {
	return []goleak.Option{
		goleak.IgnoreCurrent(),
		goleak.IgnoreAnyFunction("github.com/VictoriaMetrics/metrics.summariesSwapCron"),
	}
}

// Open opens a store in a folder of the test's own and closes it at its end.
func Open(t testing.TB) *logs.Store {
	t.Helper()
	if err := logs.Prepare(256 << 20); err != nil {
		t.Fatal(err)
	}
	// Tests have lines of their own time, which is a fixed one, and the store goes by the
	// clock: it keeps them however late the test is run.
	s, err := logs.Open(logs.Options{Dir: t.TempDir(), CommitInterval: 20 * time.Millisecond, MinFreeBytes: 1 << 20, Retention: 50 * 365 * day})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}
