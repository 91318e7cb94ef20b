// Package remote owns the proof that samples can be with another engine: it
// builds VictoriaMetrics and Thanos from their modules, starts them on loopback
// and runs the storage test-suite against them (make remote). It must not know
// how storage/remote works inside.
package remote
