// Command crowsnest-collector measures one cluster, or one node of it, and sends
// what it finds to a Crowsnest server.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if os.Getenv("GOGC") == "" {
		// A node's memory belongs to its pods: what lines need for a moment is not to be
		// taken twice. The collections that this costs are a twentieth of a core's work.
		debug.SetGCPercent(50)
	}
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "crowsnest-collector:", err)
		os.Exit(1)
	}
}
