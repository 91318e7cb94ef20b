package logpush

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"

	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	"go.opentelemetry.io/collector/pdata/plog/plogotlp"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// ServeOTLP takes an ExportLogsServiceRequest, protobuf or JSON. What cannot be
// stored is told as a partial success, as the protocol wants it: senders do not
// repeat that.
func (h *Handler) ServeOTLP(w http.ResponseWriter, r *http.Request) {
	asJSON := false
	p, err := h.take(w, r, wayOTLP, func(body []byte, contentType string) (*pushed, error) {
		in := plogotlp.NewExportRequest()
		switch contentType {
		case "application/json":
			asJSON = true
			if err := checkDepth(body); err != nil {
				return nil, err
			}
			if err := in.UnmarshalJSON(body); err != nil {
				return nil, fmt.Errorf("read OTLP as JSON: %w: %v", fault.ErrMalformed, err)
			}
		case "", "application/x-protobuf":
			if err := checkValues(body, requestShape, 0); err != nil {
				return nil, err
			}
			if err := in.UnmarshalProto(body); err != nil {
				return nil, fmt.Errorf("read OTLP: %w: %v", fault.ErrMalformed, err)
			}
		default:
			return nil, fmt.Errorf("content type %q is not taken, send application/x-protobuf or application/json: %w", contentType, fault.ErrMalformed)
		}
		return h.otlp(in.Logs())
	})
	contentType := "application/x-protobuf"
	if asJSON {
		contentType = "application/json"
	}
	w.Header().Set("Content-Type", contentType)
	if err != nil {
		prob := h.refuse(r, wayOTLP, err)
		for k, vs := range prob.GetHeaders() {
			w.Header()[k] = vs
		}
		w.WriteHeader(prob.Status)
		if asJSON {
			_ = json.NewEncoder(w).Encode(map[string]string{"message": prob.Detail}) // the client is gone; it comes again
			return
		}
		// google.rpc.Status{message=2}
		_, _ = w.Write(protowire.AppendString(protowire.AppendTag(nil, 2, protowire.BytesType), prob.Detail))
		return
	}
	h.metrics.requests.WithLabelValues(wayOTLP, "stored").Inc()
	out := plogotlp.NewExportResponse()
	if p.rejected > 0 {
		out.PartialSuccess().SetRejectedLogRecords(int64(p.rejected))
		out.PartialSuccess().SetErrorMessage(p.why)
	}
	body, err := out.MarshalProto()
	if asJSON {
		body, err = out.MarshalJSON()
	}
	if err != nil {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	_, _ = w.Write(body)
}

func (h *Handler) otlp(in plog.Logs) (*pushed, error) {
	p := newPushed()
	for _, rl := range in.ResourceLogs().All() {
		of := rl.Resource().Attributes()
		if of.Len() > maxLabels {
			n := 0
			for _, sl := range rl.ScopeLogs().All() {
				n += sl.LogRecords().Len()
			}
			p.reject(h.metrics, n, droppedLabels, fmt.Sprintf("a resource has %d attributes, at most %d are taken", of.Len(), maxLabels))
			continue
		}
		st, resource := place(attributes(of), wayOTLP)
		for _, sl := range rl.ScopeLogs().All() {
			for _, rec := range sl.LogRecords().All() {
				if rec.Attributes().Len() > maxMetadata {
					p.reject(h.metrics, 1, droppedMetadata, fmt.Sprintf("a record has %d attributes, at most %d are taken", rec.Attributes().Len(), maxMetadata))
					continue
				}
				stream, own := st, attributes(rec.Attributes())
				// Some collectors name the stream with each record.
				for name, to := range map[string]*string{"log.iostream": &stream.Stream, "stream": &stream.Stream} {
					if v := own[name]; v == "stdout" || v == "stderr" {
						*to = v
						delete(own, name)
					}
				}
				fields := maps.Clone(resource)
				maps.Copy(fields, own)
				describe(fields, sl.Scope().Name(), rec)
				at := int64(rec.Timestamp())
				if at <= 0 {
					at = int64(rec.ObservedTimestamp())
				}
				if err := p.add(h.metrics, stream, at, rec.Body().AsString(), fields); err != nil {
					return nil, err
				}
			}
		}
	}
	return p, nil
}

// describe adds what a record says besides its attributes.
func describe(fields map[string]string, scope string, rec plog.LogRecord) {
	switch {
	case rec.SeverityText() != "":
		fields["level"] = rec.SeverityText()
	case rec.SeverityNumber() != plog.SeverityNumberUnspecified:
		// 1–4 trace, 5–8 debug, 9–12 info, 13–16 warn, 17–20 error, 21–24 fatal
		names := []string{"trace", "debug", "info", "warn", "error", "fatal"}
		if i := (int(rec.SeverityNumber()) - 1) / 4; i >= 0 && i < len(names) {
			fields["level"] = names[i]
		}
	default:
		level(fields)
	}
	if id := rec.TraceID(); !id.IsEmpty() {
		fields["trace_id"] = id.String()
	}
	if id := rec.SpanID(); !id.IsEmpty() {
		fields["span_id"] = id.String()
	}
	if scope != "" {
		fields["scope.name"] = scope
	}
	if name := rec.EventName(); name != "" {
		fields["event.name"] = name
	}
}

func attributes(m pcommon.Map) map[string]string {
	out := make(map[string]string, m.Len())
	for k, v := range m.All() {
		out[k] = v.AsString()
	}
	return out
}

// shape says which fields of a message lead to values that may hold values.
type shape map[protowire.Number]*shape

// The path from a request to its AnyValues, by field numbers of OTLP.
var (
	valueShape = func() *shape {
		value := &shape{} // AnyValue{array_value=5 of values, kvlist_value=6 of pairs}
		(*value)[5] = &shape{1: value}
		(*value)[6] = &shape{1: {2: value}}
		return value
	}()
	pairShape    = &shape{2: valueShape}
	scopeShape   = &shape{1: {3: pairShape}, 2: {5: valueShape, 6: pairShape}}
	requestShape = &shape{1: {1: {1: pairShape}, 2: scopeShape, 1000: scopeShape}} // 1000: as older senders name it, which the decoder reads, too
)

// checkValues refuses a request whose values are nested so deep that the decoder,
// which follows them by recursion, would run out of stack.
func checkValues(msg []byte, of *shape, depth int) error {
	if depth > 2*maxDepth {
		return fmt.Errorf("values are nested deeper than %d: %w", maxDepth, fault.ErrInvalid)
	}
	return eachField(msg, func(num protowire.Number, raw []byte, _ uint64) error {
		if next := (*of)[num]; next != nil && raw != nil {
			return checkValues(raw, next, depth+1)
		}
		return nil
	})
}
