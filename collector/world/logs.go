package world

import (
	"context"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// follower is a source of package logs, which declares the sink that it needs
// itself.
type follower interface {
	Run(ctx context.Context, sink logs.Sink) error
	Health() wire.LogHealth
}

// containerLogs makes such a source one of a World.
type containerLogs struct{ follower }

var _ collector.Logs = containerLogs{}

// Run implements collector.Logs.
func (l containerLogs) Run(ctx context.Context, sink collector.LogSink) error {
	return l.follower.Run(ctx, sink)
}
