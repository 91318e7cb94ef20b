package main

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"github.com/crowsnest-dev/crowsnest/test/testbed"
)

// startServer starts a server of its own data folder, which takes what comes
// with the token in tokenFile, and waits until it is ready. The caller stops p.
func (b *bench) startServer(ctx context.Context, name string, env ...string) (server *testbed.Server, tokenFile string, p *testbed.Process, err error) {
	address, err := testbed.FreeAddress()
	if err != nil {
		return nil, "", nil, err
	}
	server = &testbed.Server{URL: "http://" + address, Cluster: benchCluster}
	tokenFile = filepath.Join(b.dir, name+"-token")
	if err := os.WriteFile(tokenFile, []byte(benchToken+"\n"), 0o600); err != nil {
		return nil, "", nil, err
	}
	admin, err := testbed.FreeAddress()
	if err != nil {
		return nil, "", nil, err
	}
	args := append(env, filepath.Join(b.root, "bin/crowsnest"), "server", "--data", filepath.Join(b.dir, name+"-server"),
		"--listen", address, "--admin-listen", admin, "--ingest-token-file", benchCluster+"="+tokenFile)
	p, err = testbed.Start(b.dir, name+"-server", "/usr/bin/env", args...)
	if err != nil {
		return nil, "", nil, err
	}
	if err := p.WaitReady(ctx, server, 10*time.Minute); err != nil {
		p.Stop(20 * time.Second)
		return nil, "", nil, err
	}
	if b.profiles != "" {
		ctx, cancel := context.WithCancel(ctx)
		go func() {
			<-p.Done()
			cancel()
		}()
		go func() {
			if err := keepProfiles(ctx, filepath.Join(b.profiles, name), admin); err != nil {
				b.say("no profiles of %s: %v", name, err)
			}
		}()
	}
	return server, tokenFile, p, nil
}
