// Package access owns who asks and what they may do: principals, how a request
// proves to be one, and the one Authorize that every handler and every querier
// asks. It must not know routes, storage or what is answered.
package access

import (
	"context"
	"fmt"
	"sync/atomic"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

// Kind is the sort of a principal.
type Kind string

const (
	LocalAdmin  Kind = "local_admin"  // whoever reaches the loopback listener of a server without API tokens
	APIToken    Kind = "api_token"    // reads and changes everything, sends no data
	IngestToken Kind = "ingest_token" // sends data of one cluster, and nothing else
	Ticket      Kind = "ticket"       // a link of a notification: made only by the handler that opened it, for the one thing that it is for
)

// Principal is who asks.
type Principal struct {
	Kind    Kind
	Name    string // for people: the token's name
	Cluster string // of an ingest token: the only cluster it may send for
}

// Verb is what somebody wants to do.
type Verb string

const (
	Read   Verb = "read"   // look at data, objects, policies, incidents
	Write  Verb = "write"  // change policies, targets, incidents
	Ingest Verb = "ingest" // send samples, log lines, inventory, health
	Admin  Verb = "admin"  // tokens, and whatever concerns the server itself
)

type principalKey struct{}
type askedKey struct{}

// With gives a context whose requests are made by p.
func With(ctx context.Context, p Principal) context.Context {
	return context.WithValue(ctx, principalKey{}, p)
}

// From gives the principal of a request, false when there is none.
func From(ctx context.Context) (Principal, bool) {
	p, ok := ctx.Value(principalKey{}).(Principal)
	return p, ok
}

// Who names the principal of a request, for what is written down of it: by its
// name, or its kind where it has none.
func Who(ctx context.Context) string {
	p, _ := From(ctx)
	if p.Name != "" {
		return p.Name
	}
	return string(p.Kind)
}

// Track gives a context that remembers whether Authorize was asked, for the
// test that walks all routes.
func Track(ctx context.Context) (tracked context.Context, asked func() bool) {
	var flag atomic.Bool
	return context.WithValue(ctx, askedKey{}, &flag), flag.Load
}

// Authorize says whether the principal of ctx may do verb on what belongs to
// the cluster and namespace; "" stands for all of them. It returns nil,
// fault.ErrUnauthenticated when nobody is known, or fault.ErrForbidden.
func Authorize(ctx context.Context, verb Verb, cluster, namespace string) error {
	if flag, ok := ctx.Value(askedKey{}).(*atomic.Bool); ok {
		flag.Store(true)
	}
	p, ok := From(ctx)
	if !ok {
		return fmt.Errorf("%s: %w", verb, fault.ErrUnauthenticated)
	}
	switch p.Kind {
	case LocalAdmin, APIToken:
		// The cluster of what is sent comes from the token, so that nobody can
		// write another one's; hence only ingest tokens send.
		if verb == Ingest {
			return fmt.Errorf("sending data needs an ingest token of the cluster (crowsnest token create --kind ingest --cluster NAME): %w", fault.ErrForbidden)
		}
		return nil
	case Ticket:
		if verb != Read && verb != Write {
			return fmt.Errorf("%s: %s: %w", p.Name, verb, fault.ErrForbidden)
		}
		return nil
	case IngestToken:
		switch {
		case verb != Ingest:
			return fault.Because(fault.ErrForbidden, fault.IngestOnly, p.Name, verb)
		case p.Cluster == "" || cluster != p.Cluster:
			return fmt.Errorf("ingest token %q is for cluster %q, not %q: %w", p.Name, p.Cluster, cluster, fault.ErrForbidden)
		}
		return nil
	}
	return fmt.Errorf("principal of unknown kind %q: %w", p.Kind, fault.ErrForbidden)
}
