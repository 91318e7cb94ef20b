package main

import (
	"fmt"
	"testing"
)

func TestGCPercent(t *testing.T) {
	for live, want := range map[uint64][2]int{ // ordinarily, and while a backlog comes
		0:         {100, 100},
		64 << 20:  {100, 100},
		192 << 20: {100, 100},
		256 << 20: {75, 75},
		384 << 20: {50, 50},
		480 << 20: {50, 40},
		768 << 20: {50, 25},
		5 << 30:   {50, 25},
	} {
		t.Run(fmt.Sprint(live>>20), func(t *testing.T) {
			if got := [2]int{gcPercent(live, false), gcPercent(live, true)}; got != want {
				t.Errorf("GOGC is %d, want %d", got, want)
			}
		})
	}
}

func TestGoMemory(t *testing.T) {
	for container, want := range map[uint64]uint64{0: 0, 512 << 20: 512<<20 - 512<<20/5, 1 << 30: 1<<30 - 1<<30/5, 8 << 30: 8<<30 - roomBeside} {
		if got := goMemory(container); got != want {
			t.Errorf("of %d MiB Go may have %d bytes, want %d", container>>20, got, want)
		}
	}
}
