package logs_test

import (
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/storage/logs"
	"github.com/crowsnest-dev/crowsnest/storage/logs/logstest"
	"github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

func TestEmbedded(t *testing.T) {
	logstest.Run(t, func(t *testing.T) func(...func(*logs.Options)) *logs.Store {
		return logstest.Opener(t, logs.Options{CommitInterval: 20 * time.Millisecond, MinFreeBytes: 1 << 20}, nil)
	}, 20*time.Second) // how soon it is, the benches measure
}

func TestRemote(t *testing.T) {
	logstest.Run(t, func(t *testing.T) func(...func(*logs.Options)) *logs.Store {
		url := logstest.StartFar(t).URL
		return logstest.Opener(t, logs.Options{CommitInterval: 20 * time.Millisecond, Settle: 300 * time.Millisecond}, func() *remote.Client { return client(t, url) })
	}, 20*time.Second)
}

func client(t *testing.T, url string) *remote.Client {
	t.Helper()
	c, err := remote.New(remote.Options{WriteURL: url, QueryURL: url})
	if err != nil {
		t.Fatal(err)
	}
	return c
}
