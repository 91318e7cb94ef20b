//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"testing"
	"time"
)

// Every line that a container wrote is there once, in the order in which it was
// written.
func TestLogsAreCompleteAndInOrder(t *testing.T) {
	const lines = 20_000
	eachSite(t, func(t *testing.T, s *site) {
		query := fmt.Sprintf(`{cluster=%q,namespace="e2e",workload="lines",container="app",stream="stdout"} | sort by (_time) | fields _time, _msg, pod, node, workload_type`, s.server.Cluster)
		await(t, 5*time.Minute, "role "+s.role, func(ctx context.Context) error {
			rows, err := s.server.Logs(ctx, query, 2*lines)
			if err != nil {
				return err
			}
			for i, row := range rows {
				if want := fmt.Sprintf("line %d of %d", i+1, lines); row["_msg"] != want {
					return fmt.Errorf("of %d rows, row %d is %q, want %q", len(rows), i+1, row["_msg"], want)
				}
			}
			if len(rows) != lines {
				return fmt.Errorf("%d lines, want %d", len(rows), lines)
			}
			if rows[0]["workload_type"] != "deployment" {
				return fmt.Errorf("the lines do not say whose they are: %v", rows[0])
			}
			return nil
		})
	})
}

// What the API server says about a pod is kept as events.
func TestEvents(t *testing.T) {
	eachSite(t, func(t *testing.T, s *site) {
		for _, reason := range []string{"BackOff", "FailedScheduling", "Unhealthy"} {
			await(t, 3*time.Minute, fmt.Sprintf("%s in role %s", reason, s.role), func(ctx context.Context) error {
				rows, err := s.server.Logs(ctx, fmt.Sprintf(`{cluster=%q,stream="events"} namespace:="e2e" reason:=%q`, s.server.Cluster, reason), 10)
				if err != nil {
					return err
				}
				if len(rows) == 0 {
					return fmt.Errorf("no event")
				}
				if rows[0]["_msg"] == "" || rows[0]["type"] != "Warning" || rows[0]["kind"] != "Pod" {
					return fmt.Errorf("the event does not say what it is: %v", rows[0])
				}
				return nil
			})
		}
	})
}
