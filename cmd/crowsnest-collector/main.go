// Command crowsnest-collector measures one cluster, or one node of it, and sends
// what it finds to a Crowsnest server.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
)

// version is set by the linker.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "crowsnest-collector:", err)
		os.Exit(1)
	}
}
