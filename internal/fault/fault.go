// Package fault names the kinds of failure that a caller can act on. Every
// other package wraps one of these sentinels; api maps them to a status in one
// table. It must not know HTTP, storage or any other package of ours.
package fault

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
	"syscall"
)

// The kinds. Use errors.Is; nobody matches text.
var (
	ErrMalformed       = errors.New("malformed")       // the input cannot be read at all
	ErrInvalid         = errors.New("invalid")         // it can be read, but asks for something impossible
	ErrTooLarge        = errors.New("too large")       // it exceeds a size bound
	ErrUnauthenticated = errors.New("unauthenticated") // no credential, or one that is unknown
	ErrForbidden       = errors.New("forbidden")       // a known principal without the right
	ErrNotFound        = errors.New("not found")
	ErrConflict        = errors.New("conflict")    // somebody else wrote first
	ErrLimited         = errors.New("limited")     // a limit is reached; trying later can help
	ErrUnavailable     = errors.New("unavailable") // a part is down or read-only; trying later can help
)

// DiskFull tells whether a write failed as the disk, or what its user may take of it, is full.
func DiskFull(err error) bool {
	return errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT)
}

// Field is one wrong value in an input. It is an ErrInvalid.
type Field struct {
	Path   string            // where, as the user wrote it: "spec.conditions[0].period"; empty: the body as a whole
	Reason string            // what would be right: "must be a multiple of 30s, at most 24h"
	Code   Code              // of the sentence that Reason is; empty for words of its own
	Params map[string]string // what stands for the sentence's {names}
	Value  any               // what was given; nil when the field was missing
}

// Wrong gives one wrong value, for a reason.
func Wrong(path string, r Reason, value any) Field {
	return Field{Path: path, Reason: r.Text, Code: r.Code, Params: r.Params, Value: value}
}

func (f Field) Error() string {
	path := cmp.Or(f.Path, "body")
	if f.Value == nil {
		return fmt.Sprintf("%s: %s", path, f.Reason)
	}
	return fmt.Sprintf("%s: %s (got %v)", path, f.Reason, f.Value)
}

// Unwrap makes errors.Is(f, ErrInvalid) true.
func (f Field) Unwrap() error { return ErrInvalid }

// Fields collects every wrong value of one input, so that a user mends them in
// one go. The zero value is ready to use.
type Fields []Field

// Add notes one wrong value, for a reason that only its own words tell.
func (fs *Fields) Add(path, reason string, value any) { fs.Say(path, Plain(reason), value) }

// Say notes one wrong value, for a reason that can be said in another language.
func (fs *Fields) Say(path string, r Reason, value any) { *fs = append(*fs, Wrong(path, r, value)) }

// Err is nil when nothing was added.
func (fs Fields) Err() error {
	if len(fs) == 0 {
		return nil
	}
	return fs
}

func (fs Fields) Error() string {
	parts := make([]string, len(fs))
	for i, f := range fs {
		parts[i] = f.Error()
	}
	return strings.Join(parts, "; ")
}

// Unwrap makes errors.Is(fs, ErrInvalid) true and lets errors.As find a Field.
func (fs Fields) Unwrap() []error {
	errs := make([]error, len(fs))
	for i, f := range fs {
		errs[i] = f
	}
	return errs
}
