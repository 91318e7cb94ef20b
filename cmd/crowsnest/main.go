// Command crowsnest is the server and the tool to work with it. It owns flags,
// the wiring of all parts and the order in which they start and end; what any
// part does it must not know.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	_ "github.com/crowsnest-dev/crowsnest/internal/earlylog" // keeps a library's greeting off the terminal
)

// version is set by the linker: -X main.version=v1.2.3.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	// A second signal ends the process at once, as people expect of Ctrl-C.
	context.AfterFunc(ctx, stop)
	err := newRoot(os.LookupEnv).ExecuteContext(ctx)
	stop()
	switch {
	case err == nil:
	case errors.Is(err, errUsage):
		os.Exit(2)
	default:
		fmt.Fprintln(os.Stderr, "crowsnest:", err)
		os.Exit(1)
	}
}
