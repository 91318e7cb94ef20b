package main

import (
	"context"

	"github.com/crowsnest-dev/crowsnest/api"
	"github.com/crowsnest-dev/crowsnest/api/inventory"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
	"github.com/crowsnest-dev/crowsnest/storage/rollup"
)

// alerting is the wired alert path, from samples that arrive to notifications.
type alerting struct {
	arrived  func(ingest.Arrival)
	rolledUp func(rollup.Written)
	runs     []func(context.Context) error
	options  func(*api.Options)
	// incidents counts active incidents by cluster.
	incidents func(context.Context) (map[string]inventory.IncidentCount, error)
}

func (a *app) newAlerting(context.Context) (*alerting, error) {
	return &alerting{
		arrived: func(ingest.Arrival) {}, rolledUp: func(rollup.Written) {}, options: func(*api.Options) {},
	}, nil
}
