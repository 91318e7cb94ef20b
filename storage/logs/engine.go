package logs

import (
	"context"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"

	"github.com/crowsnest-dev/crowsnest/storage/logs/remote"
)

// engine finds rows and deletes them: the library in this process, or a VictoriaLogs
// elsewhere. Its methods are the library's own, with their contracts: they may be
// called concurrently, and a query that its context ends early is no error of theirs.
type engine interface {
	RunQuery(*logstorage.QueryContext, logstorage.WriteDataBlockFunc) error
	GetFieldNames(c *logstorage.QueryContext, filter string) ([]logstorage.ValueWithHits, error)
	GetFieldValues(c *logstorage.QueryContext, field, filter string, limit uint64) ([]logstorage.ValueWithHits, error)
	GetStreams(c *logstorage.QueryContext, limit uint64) ([]logstorage.ValueWithHits, error)
	GetStreamIDs(c *logstorage.QueryContext, limit uint64) ([]logstorage.ValueWithHits, error)
	GetStreamFieldNames(c *logstorage.QueryContext, filter string) ([]logstorage.ValueWithHits, error)
	GetStreamFieldValues(c *logstorage.QueryContext, field, filter string, limit uint64) ([]logstorage.ValueWithHits, error)
	GetTenantIDs(ctx context.Context, start, end int64) ([]logstorage.TenantID, error)
	DeleteRunTask(ctx context.Context, id string, timestamp int64, tenants []logstorage.TenantID, f *logstorage.Filter) error
	DeleteActiveTasks(ctx context.Context) ([]*logstorage.DeleteTask, error)
}

var (
	_ engine = (*logstorage.Storage)(nil)
	_ engine = (*remote.Client)(nil)
)
