// Package problem owns how a failure is told to a client: the one table from
// kinds of fault to status and code, as RFC 9457 problem details. It must not
// know routes or what was attempted.
package problem

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"sync"

	"github.com/danielgtaylor/huma/v2"
	"github.com/oklog/ulid/v2"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Problem is the body of every error answer of our own API.
type Problem struct {
	Type     string            `json:"type" format:"uri" doc:"Names the kind of problem, as code does." example:"urn:crowsnest:problem:invalid"`
	Title    string            `json:"title" doc:"The kind of problem in words." example:"Invalid input"`
	Status   int               `json:"status" doc:"The HTTP status." example:"422"`
	Code     string            `json:"code" enum:"malformed,unauthenticated,forbidden,not_found,conflict,too_large,invalid,limited,internal,unavailable" doc:"The kind of problem for machines."`
	Detail   string            `json:"detail,omitempty" doc:"What went wrong this time, and what would help."`
	Reason   Reason            `json:"reason,omitempty" doc:"Names the sentence that detail is, for whoever says it in another language; left out where it is of no such sentence."`
	Params   map[string]string `json:"params,omitempty" doc:"What stands for the {names} in the sentence of reason."`
	Instance string            `json:"instance,omitempty" doc:"Of an internal error: the id under which the server's log has it."`
	Errors   []Wrong           `json:"errors,omitempty" doc:"Every wrong field of the input."`

	cause error
}

// Wrong is one wrong field of an input.
type Wrong struct {
	Location string            `json:"location,omitempty" doc:"Where in the request." example:"body.spec.conditions[0].period"`
	Message  string            `json:"message" doc:"What is allowed." example:"must be a multiple of 30s, at most 24h"`
	Value    any               `json:"value,omitempty" doc:"What was given."`
	Reason   Reason            `json:"reason,omitempty" doc:"Names the sentence that message is, for whoever says it in another language; left out where it is of no such sentence."`
	Params   map[string]string `json:"params,omitempty" doc:"What stands for the {names} in the sentence of reason."`
}

// Reason is fault.Code, which the API's description lists with its sentences.
type Reason fault.Code

// Schema lists every reason, and what each says in English.
func (Reason) Schema(huma.Registry) *huma.Schema {
	s := &huma.Schema{Type: huma.TypeString, Extensions: map[string]any{}}
	sentences := map[string]string{}
	for _, c := range fault.Codes() {
		s.Enum = append(s.Enum, string(c))
		sentences[string(c)] = c.Sentence()
	}
	s.Extensions["x-sentences"] = sentences
	return s
}

// table maps kinds to answers. The order matters where an error is of two kinds.
var table = []struct {
	kind   error
	status int
	code   string
	title  string
}{
	{fault.ErrTooLarge, http.StatusRequestEntityTooLarge, "too_large", "Too large"},
	{fault.ErrMalformed, http.StatusBadRequest, "malformed", "Malformed request"},
	{fault.ErrUnauthenticated, http.StatusUnauthorized, "unauthenticated", "Not authenticated"},
	{fault.ErrForbidden, http.StatusForbidden, "forbidden", "Forbidden"},
	{fault.ErrNotFound, http.StatusNotFound, "not_found", "Not found"},
	{fault.ErrConflict, http.StatusConflict, "conflict", "Conflict"},
	{fault.ErrInvalid, http.StatusUnprocessableEntity, "invalid", "Invalid input"},
	{fault.ErrLimited, http.StatusTooManyRequests, "limited", "Too many requests"},
	{fault.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "Unavailable"},
}

// Error turns an error into the answer for it. What is of no kind that a client
// can act on becomes an internal error: its text stays out of the answer and is
// found in the log under the instance.
func Error(err error) error {
	if err == nil {
		return nil
	}
	return Of(err)
}

// Of is Error with its type.
func Of(err error) *Problem {
	var p *Problem
	if errors.As(err, &p) {
		return p
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		err = errors.Join(fault.ErrTooLarge, err)
	}
	if errors.Is(err, context.Canceled) {
		// The client left, or the server ends: nothing failed.
		err = errors.Join(fault.ErrUnavailable, err)
	}
	for _, row := range table {
		if !errors.Is(err, row.kind) {
			continue
		}
		p := &Problem{Type: "urn:crowsnest:problem:" + row.code, Title: row.title, Status: row.status, Code: row.code, Detail: err.Error(), cause: err}
		p.Errors = wrongs(err)
		if refused, ok := errors.AsType[*fault.Refused](err); ok {
			p.Reason, p.Params = Reason(refused.Reason.Code), refused.Reason.Params
		}
		return p
	}
	return &Problem{
		Type: "urn:crowsnest:problem:internal", Title: "Internal error", Status: http.StatusInternalServerError, Code: "internal",
		Detail:   "The server met an error that it did not expect; its log has it under the instance.",
		Reason:   Reason(fault.Unexpected),
		Instance: "urn:crowsnest:error:" + ulid.Make().String(),
		cause:    err,
	}
}

// Fail makes a problem of a kind with a text of its own. For answers that have
// no error to begin with.
func Fail(kind error, detail string) *Problem {
	p := Of(kind)
	p.Detail = detail
	return p
}

func wrongs(err error) []Wrong {
	var fs fault.Fields
	var f fault.Field
	switch {
	case errors.As(err, &fs):
	case errors.As(err, &f):
		fs = fault.Fields{f}
	default:
		return nil
	}
	out := make([]Wrong, len(fs))
	for i, f := range fs {
		out[i] = Wrong{Location: location(f.Path), Message: f.Reason, Value: printable(f.Value), Reason: Reason(f.Code), Params: f.Params}
	}
	return out
}

// location of a field is in the body, unless its path says otherwise.
func location(path string) string {
	switch {
	case path == "":
		return "body"
	case strings.HasPrefix(path, "query."):
		return path
	}
	return "body." + path
}

// printable keeps what JSON cannot say (NaN, a channel) from breaking an answer.
func printable(v any) any {
	if _, err := json.Marshal(v); err != nil {
		return nil
	}
	return v
}

func (p *Problem) Error() string {
	if p.cause != nil {
		return p.cause.Error()
	}
	return p.Detail
}

// Unwrap gives what the problem was made from.
func (p *Problem) Unwrap() error { return p.cause }

// GetStatus makes a Problem a huma.StatusError.
func (p *Problem) GetStatus() int { return p.Status }

// ContentType makes a Problem a huma.ContentTypeFilter.
func (p *Problem) ContentType(string) string { return "application/problem+json" }

// GetHeaders makes a Problem a huma.HeadersError.
func (p *Problem) GetHeaders() http.Header {
	h := http.Header{}
	switch p.Status {
	case http.StatusUnauthorized:
		// Basic lets a browser ask for the token by itself: any user name, the
		// token as the password.
		h.Add("WWW-Authenticate", `Bearer realm="crowsnest"`)
		h.Add("WWW-Authenticate", `Basic realm="crowsnest: any user name, an API token as the password", charset="UTF-8"`)
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		h.Set("Retry-After", "5")
	}
	return h
}

var (
	_ huma.StatusError       = (*Problem)(nil)
	_ huma.HeadersError      = (*Problem)(nil)
	_ huma.ContentTypeFilter = (*Problem)(nil)
)

type reporterKey struct{}

// WithReporter gives a context whose internal errors are handed to report, with
// the instance that the client was told.
func WithReporter(ctx context.Context, report func(instance string, err error)) context.Context {
	return context.WithValue(ctx, reporterKey{}, report)
}

// Report hands an internal error to the reporter of ctx. Write does it, and so
// does the server for whatever huma answers: handlers need not.
func (p *Problem) Report(ctx context.Context) {
	if report, ok := ctx.Value(reporterKey{}).(func(string, error)); ok && p.Status == http.StatusInternalServerError {
		report(p.Instance, p.cause)
	}
}

// Write answers a plain request with the problem that err is.
func Write(w http.ResponseWriter, r *http.Request, err error) {
	p := Of(err)
	p.Report(r.Context())
	for k, vs := range p.GetHeaders() {
		for _, v := range vs {
			w.Header().Add(k, v)
		}
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_ = json.NewEncoder(w).Encode(p) // the client is gone; there is nobody to tell
}

var use sync.Once

// Use makes huma's own failures (validation, an error that a handler returned
// plain) Problems as well, and the schema of errors in the OpenAPI document
// ours. huma has one place for this in the process, hence once.
func Use() {
	use.Do(func() {
		huma.NewErrorWithContext = func(ctx huma.Context, status int, msg string, errs ...error) huma.StatusError {
			p := fromHuma(status, msg, errs)
			if ctx != nil {
				for k, vs := range p.GetHeaders() {
					for _, v := range vs {
						ctx.AppendHeader(k, v)
					}
				}
			}
			return p
		}
		huma.NewError = func(status int, msg string, errs ...error) huma.StatusError { return fromHuma(status, msg, errs) }
	})
}

func fromHuma(status int, msg string, errs []error) *Problem {
	if status == http.StatusInternalServerError && len(errs) == 1 {
		return Of(errs[0]) // a handler returned a plain error
	}
	p := &Problem{Type: "about:blank", Title: http.StatusText(status), Status: status, Code: "internal", Detail: msg}
	if 400 <= status && status < 500 {
		p.Code = "malformed"
	}
	for _, row := range table {
		if row.status == status {
			p.Type, p.Title, p.Code = "urn:crowsnest:problem:"+row.code, row.title, row.code
		}
	}
	for _, err := range errs {
		if err == nil {
			continue
		}
		var d huma.ErrorDetailer
		if errors.As(err, &d) {
			detail := d.ErrorDetail()
			p.Errors = append(p.Errors, shaped(detail))
			continue
		}
		p.Errors = append(p.Errors, Wrong{Message: err.Error()})
	}
	return p
}
