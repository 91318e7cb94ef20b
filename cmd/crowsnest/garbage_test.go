package main

import (
	"fmt"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64]int{
		0:         100,
		64 << 20:  100,
		192 << 20: 100,
		256 << 20: 75,
		384 << 20: 50,
		5 << 30:   50,
	} {
		t.Run(fmt.Sprint(live>>20), func(t *testing.T) {
			if got := gcPercent(live); got != want {
				t.Errorf("GOGC is %d, want %d", got, want)
			}
		})
	}
}
