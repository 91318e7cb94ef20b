// Package faults kills, fills and breaks, and looks what is left. Its tests run
// processes of their own; long runs are asked for by environment variables:
//
//	CROWSNEST_FAULTS_KILLS=1000 go test ./test/faults -run NothingThatIsToBeTold -timeout 4h
//
// kills the whole server a thousand times while it delivers (make kill-outbox).
package faults
