package main

import (
	"context"
	"fmt"
	"log/slog"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// realCluster makes a subject of the cluster that a kubeconfig names, read from
// outside its nodes.
func realCluster(client *kube.Client, cluster string) (subject, error) {
	return subject{
		cluster: cluster,
		what:    fmt.Sprintf("the Kubernetes cluster of context %q at %s", client.Context, client.Host()),
		world: func(ctx context.Context, dir string, _ *push.Client, logger *slog.Logger) (collector.World, error) {
			return outside(ctx, client, logger)
		},
	}, nil
}

func outside(_ context.Context, client *kube.Client, logger *slog.Logger) (collector.World, error) {
	source, err := kube.NewSource(kube.Options{Client: client, Role: wire.RoleAll, Logger: logger})
	if err != nil {
		return collector.World{}, err
	}
	k, err := kubelet.New(kubelet.Options{})
	if err != nil {
		return collector.World{}, err
	}
	return collector.World{State: source, Readings: []collector.Readings{k}}, nil
}
