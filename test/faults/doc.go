// Package faults kills, fills and breaks, and looks what is left. Its tests run
// processes of their own; long runs are asked for by environment variables.
package faults
