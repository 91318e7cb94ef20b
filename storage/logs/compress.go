//go:build !cgo

package logs

import (
	"sync/atomic"
	_ "unsafe" // for go:linkname

	"github.com/klauspost/compress/zstd"
)

// Without cgo the library compresses by klauspost/compress, whose fast levels
// leave a block as it is in which nothing repeats: random hexadecimal digits, as
// trace ids are, take twice the bytes that they need, and were half of the disk
// of lines with such ids. The library has no option for that, but keeps its
// encoders in a variable. A test looks whether this still helps.
//
//go:linkname libraryEncoders github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd.av
var libraryEncoders atomic.Value

// compressLiterals has the library use encoders that also write what does not
// repeat in fewer bits. It must run before the library compresses anything.
func compressLiterals() error {
	encoders := map[zstd.EncoderLevel]*zstd.Encoder{}
	for _, level := range []zstd.EncoderLevel{zstd.SpeedFastest, zstd.SpeedDefault} {
		e, err := zstd.NewWriter(nil, zstd.WithEncoderCRC(false), zstd.WithEncoderLevel(level), zstd.WithAllLitEntropyCompression(true))
		if err != nil {
			return err
		}
		encoders[level] = e
	}
	libraryEncoders.Store(encoders)
	return nil
}
