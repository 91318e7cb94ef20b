// Package edge runs real collectors against the server's real stores, over HTTP
// in memory and on a clock of its own: hours of outages pass in seconds. Its
// tests look at every point of the grid for what was lost, told twice or told
// too late.
package edge
