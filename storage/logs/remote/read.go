package remote

import (
	"bufio"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
	"github.com/VictoriaMetrics/VictoriaMetrics/lib/encoding/zstd"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// RunQuery is logstorage.Storage.RunQuery: what of the query can be is left to
// the engine, the rest is done here.
func (c *Client) RunQuery(qctx *logstorage.QueryContext, write logstorage.WriteDataBlockFunc) error {
	runner, err := logstorage.NewNetQueryRunner(qctx, c.RunQuery, write)
	if err != nil {
		return err
	}
	return runner.Run(qctx.Context, qctx.Query.GetConcurrency(), func(enough <-chan struct{}, q *logstorage.Query, write logstorage.WriteDataBlockFunc) error {
		ctx, cancel := context.WithCancel(qctx.Context)
		defer cancel()
		done := make(chan struct{})
		defer close(done)
		go func() { // ends with this call
			select {
			case <-enough:
				cancel()
			case <-done:
			}
		}()
		err := c.query(ctx, qctx.WithContextAndQuery(ctx, q), write)
		select {
		case <-enough:
			return nil // the pipes here have what they want; who cancelled asks its context
		default:
			return err
		}
	})
}

// query reads the blocks of an answer. The last part of a whole one are the
// figures of the query: without them it broke off.
func (c *Client) query(ctx context.Context, qctx *logstorage.QueryContext, write logstorage.WriteDataBlockFunc) error {
	ctx, progress, stop := c.stalling(ctx)
	defer stop()
	res, err := c.post(ctx, "/internal/select/query", arguments(qctx))
	if err != nil {
		return stalled(ctx, err)
	}
	defer func() { _ = res.Close() }()
	in := bufio.NewReaderSize(res, 64<<10)
	var (
		head         [8]byte
		packed, data []byte
		block        logstorage.DataBlock
		values       []string
		whole        bool
	)
	for {
		progress()
		if _, err := io.ReadFull(in, head[:]); errors.Is(err, io.EOF) && whole {
			return nil
		} else if err != nil {
			return stalled(ctx, brokeOff(err, ""))
		}
		size := binary.BigEndian.Uint64(head[:])
		if size > uint64(c.opts.MaxBlockBytes) {
			// An error that the engine met half-way stands in the answer as text.
			rest, _ := io.ReadAll(io.LimitReader(in, 2<<10))
			return brokeOff(nil, string(head[:])+string(rest))
		}
		packed = sized(packed, int(size))
		if _, err := io.ReadFull(in, packed); err != nil {
			return stalled(ctx, brokeOff(err, ""))
		}
		if data, err = zstd.DecompressLimited(data[:0], packed, c.opts.MaxBlockBytes); err != nil {
			return brokeOff(err, "")
		}
		for src := data; len(src) > 0; {
			whole = src[0] == 1 // the figures, which nobody here reads
			if src, values, err = block.UnmarshalInplace(src[1:], values[:0]); err != nil {
				return brokeOff(err, "")
			}
			if !whole {
				write(0, &block)
			}
		}
	}
}

// brokeOff says that an answer is not whole.
func brokeOff(err error, text string) error {
	if text = strings.TrimSpace(strings.ToValidUTF8(text, "?")); text == "" {
		text = "nothing more came"
	}
	if err != nil && !errors.Is(err, io.EOF) {
		text = err.Error()
	}
	return fmt.Errorf("the remote log engine's answer broke off: %s (%w)", text, fault.ErrUnavailable)
}

func sized(b []byte, n int) []byte {
	if cap(b) < n {
		return make([]byte, n)
	}
	return b[:n]
}

var errStalled = errors.New("it made no progress")

// stalling gives a context that ends when progress is not called for too long.
func (c *Client) stalling(ctx context.Context) (_ context.Context, progress, stop func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	timer := time.AfterFunc(c.opts.Stall, func() { cancel(fmt.Errorf("%w for %s", errStalled, c.opts.Stall)) })
	return ctx, func() { timer.Reset(c.opts.Stall) }, func() {
		timer.Stop()
		cancel(nil)
	}
}

// stalled names the stall instead of the cancellation that it became.
func stalled(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); errors.Is(cause, errStalled) {
		return fmt.Errorf("ask the remote log engine: %w (%w)", cause, fault.ErrUnavailable)
	}
	return err
}

// allowed is where options of a query allow what its arguments do not; to an engine the options
// are the last word.
var allowed = regexp.MustCompile(`^(options\((?:\w+=\w+, )*allow_partial_response=)true`)

// arguments are those of every question about rows.
func arguments(qctx *logstorage.QueryContext) url.Values {
	hidden, err := json.Marshal(qctx.HiddenFieldsFilters)
	if err != nil {
		panic("BUG: a list of strings cannot be written as JSON")
	}
	return url.Values{
		"version":                {selectVersion},
		"tenant_ids":             {string(logstorage.MarshalTenantIDsToJSON(qctx.TenantIDs))},
		"query":                  {allowed.ReplaceAllString(qctx.Query.String(), "${1}false")},
		"timestamp":              {strconv.FormatInt(qctx.Query.GetTimestamp(), 10)},
		"disable_compression":    {"false"},
		"allow_partial_response": {"false"}, // an answer without one of a cluster's nodes is an error
		"hidden_fields_filters":  {string(hidden)},
	}
}

// values asks for a list of values with their numbers of rows.
func (c *Client) values(qctx *logstorage.QueryContext, path string, more ...string) ([]logstorage.ValueWithHits, error) {
	args := arguments(qctx)
	for i := 0; i < len(more); i += 2 {
		args.Set(more[i], more[i+1])
	}
	raw, err := c.whole(qctx.Context, path, args)
	if err != nil {
		return nil, err
	}
	data, err := zstd.DecompressLimited(nil, raw, c.opts.MaxBlockBytes)
	if err != nil {
		return nil, brokeOff(err, "")
	}
	if len(data) < 8 {
		return nil, brokeOff(nil, "")
	}
	n, data := binary.BigEndian.Uint64(data), data[8:]
	var out []logstorage.ValueWithHits
	for range n { // each takes a byte at least, so this ends with the data
		var v logstorage.ValueWithHits
		if data, err = v.UnmarshalInplace(data); err != nil {
			return nil, brokeOff(err, "")
		}
		v.Value = strings.Clone(v.Value)
		out = append(out, v)
	}
	return out, nil // the query's figures follow
}

// whole reads an answer of bounded length.
func (c *Client) whole(ctx context.Context, path string, args url.Values) ([]byte, error) {
	ctx, _, stop := c.stalling(ctx)
	defer stop()
	res, err := c.post(ctx, path, args)
	if err != nil {
		return nil, stalled(ctx, err)
	}
	defer func() { _ = res.Close() }()
	raw, err := io.ReadAll(io.LimitReader(res, int64(c.opts.MaxBlockBytes)+1))
	if err != nil {
		return nil, stalled(ctx, brokeOff(err, ""))
	}
	if len(raw) > c.opts.MaxBlockBytes {
		return nil, fmt.Errorf("the remote log engine's answer is longer than %d bytes: ask for a shorter time or fewer values: %w", c.opts.MaxBlockBytes, fault.ErrLimited)
	}
	return raw, nil
}

// GetFieldNames is logstorage.Storage.GetFieldNames.
func (c *Client) GetFieldNames(qctx *logstorage.QueryContext, filter string) ([]logstorage.ValueWithHits, error) {
	return c.values(qctx, "/internal/select/field_names", "filter", filter)
}

// GetFieldValues is logstorage.Storage.GetFieldValues.
func (c *Client) GetFieldValues(qctx *logstorage.QueryContext, field, filter string, limit uint64) ([]logstorage.ValueWithHits, error) {
	return c.values(qctx, "/internal/select/field_values", "field", field, "filter", filter, "limit", strconv.FormatUint(limit, 10))
}

// GetStreams is logstorage.Storage.GetStreams.
func (c *Client) GetStreams(qctx *logstorage.QueryContext, limit uint64) ([]logstorage.ValueWithHits, error) {
	return c.values(qctx, "/internal/select/streams", "limit", strconv.FormatUint(limit, 10))
}

// GetStreamIDs is logstorage.Storage.GetStreamIDs.
func (c *Client) GetStreamIDs(qctx *logstorage.QueryContext, limit uint64) ([]logstorage.ValueWithHits, error) {
	return c.values(qctx, "/internal/select/stream_ids", "limit", strconv.FormatUint(limit, 10))
}

// GetStreamFieldNames is logstorage.Storage.GetStreamFieldNames.
func (c *Client) GetStreamFieldNames(qctx *logstorage.QueryContext, filter string) ([]logstorage.ValueWithHits, error) {
	return c.values(qctx, "/internal/select/stream_field_names", "filter", filter)
}

// GetStreamFieldValues is logstorage.Storage.GetStreamFieldValues.
func (c *Client) GetStreamFieldValues(qctx *logstorage.QueryContext, field, filter string, limit uint64) ([]logstorage.ValueWithHits, error) {
	return c.values(qctx, "/internal/select/stream_field_values", "field", field, "filter", filter, "limit", strconv.FormatUint(limit, 10))
}

// GetTenantIDs is logstorage.Storage.GetTenantIDs: those of others, who use the
// engine too, are among them.
func (c *Client) GetTenantIDs(ctx context.Context, start, end int64) ([]logstorage.TenantID, error) {
	raw, err := c.whole(ctx, "/internal/select/tenant_ids", url.Values{"start": {strconv.FormatInt(start, 10)}, "end": {strconv.FormatInt(end, 10)}})
	if err != nil {
		return nil, err
	}
	var ids []logstorage.TenantID
	if err := json.Unmarshal(raw, &ids); err != nil {
		return nil, brokeOff(err, "")
	}
	return ids, nil
}

// DeleteRunTask is logstorage.Storage.DeleteRunTask. An engine takes it only with
// -internaldelete.enable; a *Refusal says so.
func (c *Client) DeleteRunTask(ctx context.Context, id string, timestamp int64, tenants []logstorage.TenantID, f *logstorage.Filter) error {
	_, err := c.whole(ctx, "/internal/delete/run_task", url.Values{
		"version": {deleteVersion}, "task_id": {id}, "timestamp": {strconv.FormatInt(timestamp, 10)},
		"tenant_ids": {string(logstorage.MarshalTenantIDsToJSON(tenants))}, "filter": {f.String()},
	})
	return err
}

// DeleteActiveTasks is logstorage.Storage.DeleteActiveTasks.
func (c *Client) DeleteActiveTasks(ctx context.Context) ([]*logstorage.DeleteTask, error) {
	raw, err := c.whole(ctx, "/internal/delete/active_tasks", url.Values{"version": {deleteVersion}})
	if err != nil {
		return nil, err
	}
	return logstorage.UnmarshalDeleteTasksFromJSON(raw)
}
