// Package earlylog owns one line: what a library tells the standard logger
// while it is initialised, before any program of ours can say anything. Without
// this package every command would begin with it on machines whose kernel has no
// pressure figures. It must not know anything else, and must not import what is
// not of the standard library: Go initialises packages in the order of their
// import paths once their imports are, so this one comes before the library,
// which waits for net/http.
package earlylog

import (
	"bytes"
	"io"
	"log"
	"os"
)

func init() { log.SetOutput(filter{os.Stderr}) }

var unwanted = []byte("metrics: disable exposing PSI metrics")

type filter struct{ next io.Writer }

func (f filter) Write(line []byte) (int, error) {
	if bytes.Contains(line, unwanted) {
		return len(line), nil
	}
	return f.next.Write(line)
}
