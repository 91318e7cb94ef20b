package inventory

import (
	_ "embed"
	"fmt"

	"github.com/klauspost/compress/zstd"
)

// dictionary is what bodies have in common: one object of each kind as JSON, the
// most frequent kind last. It is part of the format of the file: what was packed
// by it can be read by it alone, so it never changes. A better one gets another
// number, beside this one.
//
//go:embed dictionary.json
var dictionary []byte

const dictionaryID = 1

// maxBody bounds what a packed body may become.
const maxBody = 8 << 20

// packer makes bodies small: to a quarter or less, since one object's JSON is
// hardly longer than what it has in common with others. It is for concurrent use.
type packer struct {
	enc *zstd.Encoder
	dec *zstd.Decoder
}

// packLevel finds what an object has in common with the dictionary as well as the next
// level does, which has larger tables: they are copied from the dictionary's for each
// object, and that took most of the time of packing.
const packLevel = zstd.SpeedFastest

func newPacker() (*packer, error) { return newPackerAt(packLevel) }

func newPackerAt(level zstd.EncoderLevel) (*packer, error) {
	enc, err := zstd.NewWriter(nil, zstd.WithEncoderDictRaw(dictionaryID, dictionary), zstd.WithEncoderConcurrency(1),
		zstd.WithEncoderCRC(false), zstd.WithLowerEncoderMem(true), zstd.WithWindowSize(64<<10), zstd.WithEncoderLevel(level))
	if err != nil {
		return nil, err
	}
	dec, err := zstd.NewReader(nil, zstd.WithDecoderDictRaw(dictionaryID, dictionary), zstd.WithDecoderConcurrency(0),
		zstd.WithDecoderMaxMemory(maxBody), zstd.WithDecoderLowmem(true))
	if err != nil {
		return nil, err
	}
	return &packer{enc, dec}, nil
}

func (p *packer) close() { p.dec.Close() }

func (p *packer) pack(body []byte) []byte { return p.enc.EncodeAll(body, nil) }

// unpack reads what pack made, and bodies that were written as they are by
// earlier versions.
func (p *packer) unpack(stored []byte) ([]byte, error) {
	if len(stored) > 0 && stored[0] == '{' {
		return stored, nil
	}
	body, err := p.dec.DecodeAll(stored, nil)
	if err != nil {
		return nil, fmt.Errorf("unpack object: %w", err)
	}
	return body, nil
}
