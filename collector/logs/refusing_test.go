package logs

import (
	"context"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// refusing is a server that takes nothing.
type refusing struct{}

var _ Sink = refusing{}

func (refusing) Send(context.Context, *wire.LogBatch) error { return fault.ErrInvalid }
