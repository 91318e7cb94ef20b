package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/crowsnest-dev/crowsnest/collector/compute"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/queue"
)

// TestAQueueThatWasCarriedHere is imported as a user would: samples of ten days
// ago that a collector could not send.
func TestAQueueThatWasCarriedHere(t *testing.T) {
	r := startServer(t, t.TempDir(), nil)
	folder := t.TempDir()
	q, err := queue.Open(queue.Options{Dir: folder, MaxAge: 30 * day})
	if err != nil {
		t.Fatal(err)
	}
	nowhere, err := push.NewClient(push.ClientOptions{Server: "http://127.0.0.1:1", Sender: "node/n1"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := push.New(push.Options{Client: nowhere, Queue: q})
	if err != nil {
		t.Fatal(err)
	}
	const batches = 10
	old := time.Now().Add(-10 * day).Truncate(30 * time.Second)
	for i := range batches {
		at := old.Add(time.Duration(i) * 30 * time.Second)
		err := p.Push(push.Batch{Through: at, Interval: 30 * time.Second, Samples: []compute.Sample{
			{Metric: "k8s_node_cpu_usage", Labels: labels.FromStrings("node", "n1"), At: at, V: float64(i)},
		}})
		if err != nil {
			t.Fatal(err)
		}
	}
	if waiting, _, _, _ := q.Stats(); waiting != 2 {
		t.Fatalf("%d batches are on disk, want those that are more than may wait in memory", waiting)
	}
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte(r.ingest), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, err := crowsnest(t.Context(), noEnv, "", "import", "queue", folder, "--server", r.URL(), "--token-file", token, "--sender", "node/n1")
	if err != nil || !strings.Contains(out, "all of it is with the server") {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	// Beside each sample is the sender's word that it is complete.
	if !strings.Contains(r.get("/metrics"), "crowsnest_history_samples_total 4\n") {
		t.Error("not both samples are in the log")
	}
	if _, _, err := crowsnest(t.Context(), noEnv, "", "import", "queue", folder, "--server", r.URL(), "--token-file", token, "--sender", "node/n1"); err == nil || !strings.Contains(err.Error(), "nothing waits") {
		t.Errorf("once more: %v", err)
	}
}
