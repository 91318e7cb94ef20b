package logpush

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"strconv"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/promql/parser"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// ServeLoki takes Loki's push: snappy protobuf, or JSON. As Loki does, streams
// that are in order are stored even when others of the request are refused; the
// answer is then 400 and names the first reason.
func (h *Handler) ServeLoki(w http.ResponseWriter, r *http.Request) {
	p, err := h.take(w, r, wayLoki, func(body []byte, contentType string) (*pushed, error) {
		if contentType == "application/json" {
			return h.lokiJSON(body)
		}
		return h.lokiProto(body)
	})
	if err == nil && p.rejected > 0 {
		err = fmt.Errorf("%d of %d lines were refused, the others are stored: %s: %w", p.rejected, p.rejected+p.lines, p.why, fault.ErrInvalid)
	}
	if err != nil {
		prob := h.refuse(r, wayLoki, err)
		for k, vs := range prob.GetHeaders() {
			w.Header()[k] = vs
		}
		http.Error(w, prob.Detail, prob.Status) // Loki's errors are text
		return
	}
	h.metrics.requests.WithLabelValues(wayLoki, "stored").Inc()
	w.WriteHeader(http.StatusNoContent)
}

// lokiLine is an entry of a stream.
type lokiLine struct {
	at       int64
	message  string
	metadata map[string]string
}

// stream takes the lines of one stream of a push.
func (h *Handler) stream(p *pushed, named map[string]string, lines []lokiLine) error {
	if len(named) > maxLabels {
		p.reject(h.metrics, len(lines), droppedLabels, fmt.Sprintf("a stream has %d labels, at most %d are taken", len(named), maxLabels))
		return nil
	}
	st, rest := place(named, wayLoki)
	for _, l := range lines {
		if len(l.metadata) > maxMetadata {
			p.reject(h.metrics, 1, droppedMetadata, fmt.Sprintf("a line has %d fields of structured metadata, at most %d are taken", len(l.metadata), maxMetadata))
			continue
		}
		fields := maps.Clone(rest)
		maps.Copy(fields, l.metadata)
		level(fields)
		if err := p.add(h.metrics, st, l.at, l.message, fields); err != nil {
			return err
		}
	}
	return nil
}

// lokiJSON reads {"streams":[{"stream":{…},"values":[["ns","line",{…}]]}]}.
func (h *Handler) lokiJSON(body []byte) (*pushed, error) {
	if err := checkDepth(body); err != nil {
		return nil, err
	}
	var in struct {
		Streams []struct {
			Stream map[string]string   `json:"stream"`
			Values [][]json.RawMessage `json:"values"`
		} `json:"streams"`
	}
	if err := json.Unmarshal(body, &in); err != nil {
		return nil, fmt.Errorf("read a push of Loki as JSON: %w: %v", fault.ErrMalformed, err)
	}
	p := newPushed()
	for i, s := range in.Streams {
		lines := make([]lokiLine, 0, len(s.Values))
		for j, v := range s.Values {
			l, err := lokiValue(v)
			if err != nil {
				return nil, fault.Field{Path: fmt.Sprintf("streams[%d].values[%d]", i, j), Reason: err.Error()}
			}
			lines = append(lines, l)
		}
		if err := h.stream(p, s.Stream, lines); err != nil {
			return nil, err
		}
	}
	return p, nil
}

func lokiValue(v []json.RawMessage) (l lokiLine, err error) {
	if len(v) < 2 || len(v) > 3 {
		return l, fmt.Errorf("must be [\"nanoseconds\", \"line\"] or with an object of metadata behind them")
	}
	var at string
	if json.Unmarshal(v[0], &at) != nil || json.Unmarshal(v[1], &l.message) != nil {
		return l, fmt.Errorf("time and line must be texts")
	}
	if at != "" {
		if l.at, err = strconv.ParseInt(at, 10, 64); err != nil {
			return l, fmt.Errorf("time must be Unix nanoseconds, not %q", at[:min(len(at), 40)])
		}
	}
	if len(v) == 3 {
		var metadata map[string]any
		if err := json.Unmarshal(v[2], &metadata); err != nil {
			return l, fmt.Errorf("metadata must be an object")
		}
		l.metadata = make(map[string]string, len(metadata))
		for k, value := range metadata {
			if text, ok := value.(string); ok {
				l.metadata[k] = text
				continue
			}
			raw, err := json.Marshal(value)
			if err != nil {
				return l, err
			}
			l.metadata[k] = string(raw)
		}
	}
	return l, nil
}

// Field numbers of logproto: PushRequest{streams=1}, Stream{labels=1, entries=2},
// Entry{timestamp=1, line=2, structuredMetadata=3}, LabelPair{name=1, value=2},
// Timestamp{seconds=1, nanos=2}.
func (h *Handler) lokiProto(body []byte) (*pushed, error) {
	p := newPushed()
	series := parser.NewParser(parser.Options{})
	err := eachField(body, func(num protowire.Number, stream []byte, _ uint64) error {
		if num != 1 || stream == nil {
			return nil
		}
		var text []byte
		var lines []lokiLine
		if err := eachField(stream, func(num protowire.Number, raw []byte, _ uint64) error {
			switch {
			case raw == nil:
			case num == 1:
				text = raw
			case num == 2:
				if p.lines+len(lines) >= maxLines {
					return errTooMuch
				}
				l, err := lokiEntry(raw)
				if err != nil {
					return err
				}
				lines = append(lines, l)
			}
			return nil
		}); err != nil {
			return err
		}
		named, why := lokiLabels(series, text)
		if named == nil {
			reason := droppedWrong
			if len(text) > maxLabelText || bytes.Count(text, []byte("=")) > maxLabels {
				reason = droppedLabels
			}
			p.reject(h.metrics, len(lines), reason, why)
			return nil
		}
		return h.stream(p, named, lines)
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// lokiLabels reads {name="value", …}. Without labels it says why.
func lokiLabels(series parser.Parser, text []byte) (out map[string]string, why string) {
	// Reading costs more than sending, so length comes first.
	if n := bytes.Count(text, []byte("=")); len(text) > maxLabelText || n > 16*maxLabels {
		return nil, fmt.Sprintf("a stream has about %d labels in %d bytes, at most %d labels and %d bytes are taken", n, len(text), maxLabels, maxLabelText)
	}
	out = map[string]string{}
	if len(bytes.TrimSpace(text)) == 0 {
		return out, ""
	}
	parsed, err := series.ParseMetric(string(text))
	if err != nil {
		return nil, fmt.Sprintf("the labels %.100q cannot be read: %v", text, err)
	}
	parsed.Range(func(l labels.Label) { out[l.Name] = l.Value })
	return out, ""
}

func lokiEntry(raw []byte) (l lokiLine, err error) {
	err = eachField(raw, func(num protowire.Number, b []byte, _ uint64) error {
		switch {
		case b == nil:
		case num == 1:
			var seconds, nanos uint64
			if err := eachField(b, func(num protowire.Number, _ []byte, v uint64) error {
				switch num {
				case 1:
					seconds = v
				case 2:
					nanos = v
				}
				return nil
			}); err != nil {
				return err
			}
			// Beyond int64 it would wrap around; the store drops what is too new.
			if s := int64(seconds); s > 0 && s < 9_000_000_000 {
				l.at = s*1e9 + int64(nanos%1e9)
			}
		case num == 2:
			l.message = string(b)
		case num == 3:
			var name, value string
			if err := eachField(b, func(num protowire.Number, b []byte, _ uint64) error {
				switch num {
				case 1:
					name = string(b)
				case 2:
					value = string(b)
				}
				return nil
			}); err != nil {
				return err
			}
			if l.metadata == nil {
				l.metadata = map[string]string{}
			}
			if len(l.metadata) <= maxMetadata {
				l.metadata[name] = value
			}
		}
		return nil
	})
	return l, err
}

// eachField calls fn with the fields of a message: their bytes, or their number.
func eachField(msg []byte, fn func(num protowire.Number, raw []byte, v uint64) error) error {
	for len(msg) > 0 {
		num, typ, n := protowire.ConsumeTag(msg)
		if n < 0 {
			return fmt.Errorf("read protobuf: %w: %v", fault.ErrMalformed, protowire.ParseError(n))
		}
		msg = msg[n:]
		var raw []byte
		var v uint64
		switch typ {
		case protowire.BytesType:
			raw, n = protowire.ConsumeBytes(msg)
			if raw == nil {
				raw = []byte{}
			}
		case protowire.VarintType:
			v, n = protowire.ConsumeVarint(msg)
		default:
			n = protowire.ConsumeFieldValue(num, typ, msg)
		}
		if n < 0 {
			return fmt.Errorf("read protobuf: %w: %v", fault.ErrMalformed, protowire.ParseError(n))
		}
		msg = msg[n:]
		if err := fn(num, raw, v); err != nil {
			return err
		}
	}
	return nil
}

// maxDepth bounds how deep values may be nested.
const maxDepth = 64

// checkDepth refuses JSON that is nested so deep that reading it would take
// memory out of proportion.
func checkDepth(body []byte) error {
	depth, quoted := 0, false
	for i := 0; i < len(body); i++ {
		switch c := body[i]; {
		case quoted && c == '\\':
			i++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{' || c == '[':
			if depth++; depth > maxDepth {
				return fmt.Errorf("the JSON is nested deeper than %d: %w", maxDepth, fault.ErrInvalid)
			}
		case c == '}' || c == ']':
			depth--
		}
	}
	return nil
}
