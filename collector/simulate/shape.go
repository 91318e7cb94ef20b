package simulate

import "math"

// Times inside the simulator are world seconds since origin: a Monday, so that
// a week's shape needs no offset. At Speed 1 they are real seconds.

const (
	minute = 60.0
	hour   = 3600.0
	day    = 24 * hour
	week   = 7 * day
)

// hash mixes words into 64 bits (splitmix64). The whole fleet is a function of
// it: the same seed gives the same fleet at the same time, whoever asks.
func hash(words ...uint64) uint64 {
	h := uint64(0x9e3779b97f4a7c15)
	for _, w := range words {
		h ^= w + 0x9e3779b97f4a7c15 + h<<6 + h>>2
		h ^= h >> 30
		h *= 0xbf58476d1ce4e5b9
		h ^= h >> 27
		h *= 0x94d049bb133111eb
		h ^= h >> 31
	}
	return h
}

// unit makes a number in [0, 1) of a hash.
func unit(words ...uint64) float64 { return float64(hash(words...)>>11) / (1 << 53) }

// between picks a number in [lo, hi) by a hash.
func between(lo, hi float64, words ...uint64) float64 { return lo + (hi-lo)*unit(words...) }

func hashString(s string) uint64 {
	h := uint64(14695981039346656037)
	for i := range len(s) {
		h = (h ^ uint64(s[i])) * 1099511628211
	}
	return h
}

// schedule is an endless row of moments, about one a period, each somewhere in
// the middle of its own period. Both neighbours of any time are found in O(1).
type schedule struct {
	key    uint64
	period float64 // 0: no moments at all
	spread float64 // share of the period over which moments scatter, 0 to 0.8
	shift  float64 // added to every moment
}

func (s schedule) moment(k float64) float64 {
	return (k+0.1+s.spread*unit(s.key, math.Float64bits(k)))*s.period + s.shift
}

// around gives the last moment at or before w and the first one after it.
func (s schedule) around(w float64) (last, next float64) {
	if s.period == 0 {
		return math.Inf(-1), math.Inf(1)
	}
	k := math.Floor((w - s.shift) / s.period)
	last, next = s.moment(k-1), s.moment(k)
	if next <= w {
		last, next = next, s.moment(k+1)
	}
	return last, next
}

// wave is a sum of sines. Its integral is closed, so that a counter costs the
// same at any time.
type wave [3]struct{ amplitude, omega, phase float64 }

// at gives the wave and its integral, whose constant is left out.
func (v *wave) at(w float64) (value, integral float64) {
	for i := range v {
		t := &v[i]
		if t.amplitude == 0 {
			continue
		}
		sin, cos := math.Sincos(t.omega*w + t.phase)
		value += t.amplitude * cos
		integral += t.amplitude / t.omega * sin
	}
	return value, integral
}

// dailyWave has its peak at the given hour, a second one half as strong, and
// calmer weekends. Its sum stays within ±strength.
func dailyWave(strength, peakHour float64) wave {
	var v wave
	v[0].amplitude, v[0].omega = strength*0.65, 2*math.Pi/day
	v[0].phase = -2 * math.Pi * peakHour / 24
	v[1].amplitude, v[1].omega = strength*0.15, 4*math.Pi/day
	v[1].phase = -4 * math.Pi * (peakHour - 3.5) / 24
	v[2].amplitude, v[2].omega = strength*0.2, 2*math.Pi/week
	v[2].phase = -2 * math.Pi * 2 / 7 // Wednesday
	return v
}

// noiseWave looks irregular: three periods that do not divide each other.
func noiseWave(strength float64, key uint64) wave {
	var v wave
	for i, p := range [3][2]float64{{70, 200}, {300, 900}, {1500, 5000}} {
		v[i].amplitude = strength * [3]float64{0.3, 0.35, 0.35}[i]
		v[i].omega = 2 * math.Pi / between(p[0], p[1], key, uint64(i), 1)
		v[i].phase = 2 * math.Pi * unit(key, uint64(i), 2)
	}
	return v
}

// burst is extra use at full height for the first length seconds of each period.
type burst struct{ period, length, offset, height float64 }

func (b burst) integral(w float64) float64 {
	if b.period == 0 {
		return 0
	}
	k, rest := divide(w-b.offset, b.period)
	return b.height * (k*b.length + math.Min(rest, b.length))
}

func divide(w, period float64) (k, rest float64) {
	k = math.Floor(w / period)
	return k, w - k*period
}
