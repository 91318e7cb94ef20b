package logs

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding"
)

// Random hexadecimal digits hold four bits in each byte.
func TestWhatDoesNotRepeatIsCompressed(t *testing.T) {
	var ids []byte
	r := rand.New(rand.NewPCG(1, 2))
	for range 1000 {
		ids = fmt.Appendf(ids, "%016x%016x", r.Uint64(), r.Uint64())
	}
	for level := 1; level <= 3; level++ {
		packed := encoding.CompressZSTDLevel(nil, ids, level)
		if got := float64(len(packed)) / float64(len(ids)); got > 0.6 {
			t.Errorf("level %d: %.2f of the bytes are left, want about half", level, got)
		}
		if back, err := encoding.DecompressZSTD(nil, packed); err != nil || string(back) != string(ids) {
			t.Errorf("level %d: not what it was: %v", level, err)
		}
	}
}
