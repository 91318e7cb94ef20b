package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/crowsnest-dev/crowsnest/api/tokens"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// clusterRemover can forget a cluster. It may have none of it.
type clusterRemover interface {
	DeleteCluster(ctx context.Context, cluster string) error
}

// deleteCluster removes a cluster: first what it could send by, then its data,
// last its row, so that a request that broke off can be repeated.
func (a *app) deleteCluster(ctx context.Context, cluster string) error {
	for _, t := range a.given {
		if t.Principal.Cluster == cluster {
			return fmt.Errorf("cluster %q has an ingest token of the configuration (--ingest-token-file, or the command's own), by which it would come back: take that away and restart the server first: %w", cluster, fault.ErrConflict)
		}
	}
	_, err := a.meta.GetCluster(ctx, cluster)
	if err != nil && !errors.Is(err, fault.ErrNotFound) {
		return err
	}
	_, reported := a.inventory.Info(cluster)
	if err != nil && !reported {
		return err
	}
	if err := a.revoke(ctx, cluster); err != nil {
		return err
	}
	for _, s := range []clusterRemover{a.history, a.rollups, a.metrics, a.logs, a.inventory} {
		if err := s.DeleteCluster(ctx, cluster); err != nil && !errors.Is(err, fault.ErrNotFound) {
			return fmt.Errorf("delete cluster %q: %w", cluster, err)
		}
	}
	a.known.Delete(cluster)
	a.told.Forget(cluster)
	if err := a.meta.DeleteCluster(ctx, cluster); err != nil && !errors.Is(err, fault.ErrNotFound) {
		return err
	}
	a.logger.Info("cluster deleted", "cluster", cluster)
	return nil
}

// revoke takes the cluster's ingest tokens away.
func (a *app) revoke(ctx context.Context, cluster string) error {
	all, err := a.meta.ListTokens(ctx)
	if err != nil {
		return err
	}
	var left []meta.Token
	for _, t := range all {
		if t.Cluster != cluster || t.Kind != meta.TokenIngest {
			left = append(left, t)
			continue
		}
		if err := a.meta.DeleteToken(ctx, t.ID); err != nil && !errors.Is(err, fault.ErrNotFound) {
			return err
		}
	}
	a.auth.SetStored(tokens.Stored(left))
	return nil
}
