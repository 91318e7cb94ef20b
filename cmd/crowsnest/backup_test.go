package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func TestABackupBecomesAServerAgain(t *testing.T) {
	t.Run("of a folder", func(t *testing.T) {
		folder := filepath.Join(t.TempDir(), "backups")
		becomesAServerAgain(t, func(s *settings) { s.backupDir = folder }, "--from", folder)
	})
	t.Run("of a bucket", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "bucket.yaml")
		if err := os.WriteFile(file, []byte("type: FILESYSTEM\nprefix: crowsnest\nconfig: {directory: "+t.TempDir()+"}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		becomesAServerAgain(t, func(s *settings) { s.backupBucket = file }, "--from-bucket", file)
	})
}

func becomesAServerAgain(t *testing.T, into func(*settings), from ...string) {
	t.Helper()
	r := startServer(t, t.TempDir(), into)
	if code, body := r.send("POST", wire.PathMetrics, r.ingest, protobuf, remoteWrite(t, "k8s_node_cpu_usage", 42, "node", "n1"), "Content-Encoding", "snappy"); code/100 != 2 {
		t.Fatalf("write: %d %s", code, body)
	}
	batch := wire.LogBatch{Sender: "all", ID: "b1", Groups: []wire.LogGroup{{Stream: wire.LogStream{Namespace: "shop", Pod: "cart-1", Stream: "stdout"},
		Lines: []wire.LogLine{{Time: time.Now().UnixNano(), Message: "out of socks"}}}}}
	if code, body := r.send("POST", wire.PathLogs, r.ingest, "application/json", compressed(t, batch), "Content-Encoding", "zstd"); code != 204 {
		t.Fatalf("logs: %d %s", code, body)
	}
	if code, body := r.send("POST", api.Prefix+"/tokens", "", "application/json", []byte(`{"kind":"ingest","name":"edge","cluster":"edge"}`)); code != 201 {
		t.Fatalf("token: %d %s", code, body)
	}
	out, progress, err := crowsnest(context.Background(), noEnv, "", "backup", "--server", r.URL())
	if err != nil || !strings.Contains(out, " made: ") {
		t.Fatalf("backup: %s %s %v", out, progress, err)
	}
	id := strings.Fields(out)[1]
	if listed, _, err := crowsnest(context.Background(), noEnv, "", "backup", "list", "--server", r.URL()); err != nil || !strings.Contains(listed, id) || strings.Count(listed, "\n") != 1 {
		t.Errorf("list: %q %v", listed, err)
	}
	r.stop()

	data := filepath.Join(t.TempDir(), "restored")
	if out, _, err := crowsnest(context.Background(), noEnv, "", append([]string{"restore", "--to", data}, from...)...); err != nil || !strings.Contains(out, "--data "+data) {
		t.Fatalf("restore: %s %v", out, err)
	}
	r = startServer(t, data, nil)
	if body := r.get("/api/v1/query?query=k8s_node_cpu_usage"); !strings.Contains(body, `"42"`) {
		t.Errorf("samples: %s", body)
	}
	if body := r.get("/select/logsql/query?query=socks"); !strings.Contains(body, "out of socks") {
		t.Errorf("lines: %s", body)
	}
	if body := r.get(api.Prefix + "/tokens"); !strings.Contains(body, `"edge"`) {
		t.Errorf("tokens: %s", body)
	}
	if _, _, err := crowsnest(context.Background(), noEnv, "", "backup", "--server", r.URL()); err == nil || !strings.Contains(err.Error(), "--backup-dir") {
		t.Errorf("without a folder: %v", err)
	}
	if _, _, err := crowsnest(context.Background(), noEnv, "", append([]string{"restore", "--to", data}, from...)...); err == nil || !strings.Contains(err.Error(), "not empty") {
		t.Errorf("over a data folder: %v", err)
	}
}

func TestADataFolderThatIsNotWholeIsRefused(t *testing.T) {
	data := t.TempDir()
	if err := os.WriteFile(filepath.Join(data, "RESTORING"), []byte("20261123T100000.000Z"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := openDataDir(data); err == nil || !strings.Contains(err.Error(), "20261123T100000.000Z") {
		t.Errorf("got %v", err)
	}
	s := newSettings()
	s.data, s.listen, s.backupDir = data, "127.0.0.1:0", filepath.Join(data, "backups")
	if err := s.check(); err == nil || !strings.Contains(err.Error(), "backup-dir") {
		t.Errorf("backups in the data folder: %v", err)
	}
	s.backupDir, s.backupBucket = t.TempDir(), "bucket.yaml"
	if err := s.check(); err == nil || !strings.Contains(err.Error(), "backup-bucket") {
		t.Errorf("two places: %v", err)
	}
}
