// Package bubbletest owns how tests with time of their own are run.
package bubbletest

import (
	"runtime"
	"testing"
	"testing/synctest"
)

// Test is synctest.Test with one processor. With several, goroutines that run timers of one
// bubble at once share what the race detector keeps for these, and it crashes:
// https://github.com/golang/go/issues/78156. Not for tests that run beside others.
func Test(t *testing.T, f func(*testing.T)) {
	t.Helper()
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	synctest.Test(t, f)
}
