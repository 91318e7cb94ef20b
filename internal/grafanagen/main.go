// Command grafanagen writes the Grafana dashboards that package grafana makes of the
// catalogue. It must not know what is in them.
//
//	go run ./internal/grafanagen    # from the project's root: writes dashboards/grafana
package main

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/crowsnest-dev/crowsnest/internal/grafana"
)

func main() {
	for _, name := range grafana.Names {
		if err := os.WriteFile(filepath.Join("dashboards", "grafana", name+".json"), grafana.Dashboard(name, nil), 0o644); err != nil {
			fmt.Fprintln(os.Stderr, "grafanagen:", err)
			os.Exit(1)
		}
	}
}
