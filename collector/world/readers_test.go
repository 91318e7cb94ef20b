package world

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"
)

// Trouble with the question is said once, and again after an answer; nobody is asked of no
// nodes.
func TestTroubleWithReadersIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	asked := 0
	trouble := errors.New("away")
	r := readers{ask: func(_ context.Context, nodes []string) ([]string, error) {
		asked++
		return nodes[:1], trouble
	}, of: "nodes are read", log: slog.New(slog.NewTextHandler(&log, nil))}
	for range 3 {
		if _, err := r.heard(t.Context(), []string{"b", "a"}); !errors.Is(err, trouble) {
			t.Errorf("got %v", err)
		}
	}
	if heard, err := r.heard(t.Context(), nil); asked != 3 || heard != nil || err != nil {
		t.Errorf("asked %d times, heard %v, %v", asked, heard, err)
	}
	trouble = nil
	if heard, err := r.heard(t.Context(), []string{"b", "a"}); err != nil || !slices.Equal(heard, []string{"a"}) {
		t.Errorf("heard %v, %v", heard, err)
	}
	trouble = errors.New("away")
	_, _ = r.heard(t.Context(), []string{"a"})
	if n := strings.Count(log.String(), "ask which nodes are read; as before until the server says"); n != 2 {
		t.Errorf("said %d times: %s", n, log.String())
	}
}

func TestAskingEndsWithItsContext(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	asked := 0
	keepAsking(ctx, func() time.Duration {
		if asked++; asked == 3 {
			stop()
		}
		return time.Nanosecond
	})
	if asked != 3 {
		t.Errorf("asked %d times, want 3", asked)
	}
}
