package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/world"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// realCluster makes a subject of the cluster that a kubeconfig names, read from
// outside its nodes.
func realCluster(config kube.Config, cluster *clusterID) (subject, error) {
	client, err := kube.Open(config)
	if err != nil {
		return subject{}, err
	}
	return subject{
		cluster: cluster.or(kube.ClusterID(client.Context)),
		what:    fmt.Sprintf("the Kubernetes cluster of context %q at %s", client.Context, client.Host()),
		world: func(ctx context.Context, dir string, client *push.Client, logger *slog.Logger) (collector.World, error) {
			// An API server that does not answer must not hold up what works without it.
			ask, cancel := context.WithTimeout(ctx, 15*time.Second)
			defer cancel()
			w, err := world.Open(ask, world.Options{Kube: config, Role: wire.RoleAll, Dir: dir, Owners: client.Owners, LogPositions: client.LogPositions, LogReaders: client.LogReaders, Logger: logger})
			if err != nil {
				return collector.World{}, err
			}
			if w.Trouble != nil {
				logger.Warn("cluster not reached yet, goes on trying", "cluster", w.Client.Host(), "error", w.Trouble)
			}
			for _, m := range w.Missing {
				logger.Warn("permission missing", "verb", m.Verb, "resource", m.Resource, "consequence", m.For)
			}
			return w.World, nil
		},
	}, nil
}
