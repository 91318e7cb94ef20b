package simulate

import (
	"context"
	"testing"
	"time"
)

func TestBackfillQuick(t *testing.T) {
	to := time.Date(2026, 11, 23, 20, 3, 0, 0, time.UTC)
	begin := time.Now()
	if err := Backfill(context.Background(), Options{Churn: DefaultChurn}, t.TempDir(), to.Add(-24*time.Hour), to); err != nil {
		t.Fatal(err)
	}
	t.Log(time.Since(begin))
}
