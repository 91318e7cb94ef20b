package ingest

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
)

func TestTurnsGoByAgeAndByTheOrderOfComing(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 5)
		if !turns.take(t.Context(), 0, t0) {
			t.Fatal("no place among none")
		}
		var mu sync.Mutex
		var got []string
		var waiting sync.WaitGroup
		for n, age := range []time.Duration{1 * time.Hour, 2 * time.Hour, 0, 4 * time.Hour, 3 * time.Hour} {
			waiting.Go(func() {
				through := t0.Add(-age)
				if age == 0 {
					through = time.Time{} // it did not say
				}
				if !turns.take(t.Context(), time.Minute, through) {
					t.Errorf("%d was sent away", n)
				}
				mu.Lock()
				defer mu.Unlock()
				got = append(got, fmt.Sprint(age))
			})
			synctest.Wait()
		}
		if turns.take(t.Context(), time.Minute, t0) {
			t.Error("one more than may wait has a place")
		}
		for range 5 {
			turns.give()
			synctest.Wait()
		}
		waiting.Wait()
		if want := []string{"1h0m0s", "4h0m0s", "2h0m0s", "3h0m0s", "0s"}; !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
		turns.give()
		if !turns.take(t.Context(), 0, t0) || turns.take(t.Context(), 0, t0) {
			t.Error("the one place is not free once")
		}
	})
}

func TestTurnThatDoesNotComeIsGivenUp(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		turns := newTurns(1, 5)
		turns.take(t.Context(), 0, t0)
		began := time.Now()
		if turns.take(t.Context(), 3*time.Second, t0) || time.Since(began) != 3*time.Second {
			t.Errorf("given, or after %s", time.Since(began))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if turns.take(ctx, time.Minute, t0) || turns.length() != 0 {
			t.Errorf("given to who is gone, and %d wait", turns.length())
		}
		turns.give()
		if !turns.take(t.Context(), 0, t0) {
			t.Error("the place was lost")
		}
	})
}
