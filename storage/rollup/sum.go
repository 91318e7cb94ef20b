package rollup

import (
	"math"
)

// sum adds values so that the result does not depend on their order: each is
// split into its whole part and a fraction in units of 2^-40, and integers are
// added. A rollup made of passing samples and one made of the store's are then
// the same to the last bit, and so are those of a live run and a backtest.
//
// The error is under 2^-40 for each value. Up to 2^24 values fit.
type sum struct {
	whole    int64
	fraction uint64
	n        int32
}

const fractionUnit = 1 << 40

// add takes a value and says whether it can be summed: a number whose size is
// below 2^52, so that whole parts cannot overflow.
func (s *sum) add(v float64) bool {
	if !(math.Abs(v) < 1<<52) { // NaN too
		return false
	}
	whole := math.Floor(v)
	s.whole += int64(whole)
	s.fraction += uint64((v - whole) * fractionUnit)
	s.n++
	return true
}

// value is the sum.
func (s *sum) value() float64 {
	whole := s.whole + int64(s.fraction/fractionUnit)
	return float64(whole) + float64(s.fraction%fractionUnit)/fractionUnit
}
