package earlylog

import (
	"bytes"
	"log"
	"testing"
)

func TestOnlyTheOneLineIsLeftOut(t *testing.T) {
	var out bytes.Buffer
	l := log.New(filter{&out}, "", 0)
	l.Print("INFO: metrics: disable exposing PSI metrics because of failed init: open /sys/fs/cgroup/cpu.pressure: no such file or directory")
	l.Print("something else")
	if out.String() != "something else\n" {
		t.Errorf("got %q", &out)
	}
}
