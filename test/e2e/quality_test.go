//go:build e2e

package e2e

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/crowsnest-dev/crowsnest/test/quality"
)

// Six of the faults that make faults measures one by one, here at once and
// beside all other tests: each is found by its policy within its time, nothing
// else fires in its namespace, and it ends with its cause.
func TestFaultsAreFound(t *testing.T) {
	t.Parallel()
	lab, err := quality.Start(t.Context(), quality.FromFiles(), bed.cluster, filepath.Join(t.TempDir(), "lab"), t.Output())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(lab.Stop)
	lab.Beside = true
	t.Run("faults", func(t *testing.T) {
		for _, f := range quality.Faults() {
			if !f.Short {
				continue
			}
			t.Run(f.Name, func(t *testing.T) {
				t.Parallel()
				row, err := lab.Run(t.Context(), f.Name)
				if err != nil {
					t.Fatal(err)
				}
				if !row.Holds {
					t.Errorf("%s: %s: %+v", f.How, strings.Join(row.Wrong, "; "), row.Findings)
				}
			})
		}
	})
}
