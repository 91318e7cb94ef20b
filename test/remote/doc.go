// Package remote owns the proof that samples and lines can be with other engines:
// it builds VictoriaMetrics, Thanos and VictoriaLogs from their modules, starts them
// on loopback and runs the storage test-suites, moves by the command and a whole
// server with a simulated cluster against them (make remote). It must not know how
// storage/remote and storage/logs work inside.
package remote
