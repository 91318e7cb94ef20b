package kube

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	leaseFor   = 15 * time.Second // how long a leader that is silent stays leader
	leaseRenew = 5 * time.Second
)

// LeadOptions say what only one of several replicas does.
type LeadOptions struct {
	Client *Client
	Name   string                          // of the Lease, in the client's namespace
	Run    func(ctx context.Context) error // the work; its ctx ends when the lead is lost
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Lead waits for the lead, does the work, and gives the lead back when ctx ends.
// It returns an error when the lead was lost while working, so that the process
// begins anew. It follows client-go's leader election on the same Lease object,
// without the generated clientset that comes with it: a lease counts from when
// this process saw it change, so clocks need not agree, and every write carries
// the version that was read, so that two never both win.
func Lead(ctx context.Context, o LeadOptions) error {
	if o.Now == nil {
		o.Now = time.Now
	}
	identity, err := os.Hostname()
	if err != nil {
		return fmt.Errorf("lead: %w", err)
	}
	e := &election{LeadOptions: o, identity: identity}
	if err := e.acquire(ctx); err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	o.Logger.Info("this replica leads", "lease", o.Name, "identity", identity)
	workCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	lost := make(chan error, 1)
	go func() {
		err := e.hold(workCtx)
		cancel() // the work ends before another may begin
		lost <- err
	}()
	workErr := o.Run(workCtx)
	cancel()
	holdErr := <-lost
	if holdErr == nil {
		e.release(context.WithoutCancel(ctx))
	}
	return errors.Join(workErr, holdErr)
}

type election struct {
	LeadOptions
	identity string
	seen     string    // resource version of the lease
	seenAt   time.Time // when it was first seen
}

func (e *election) acquire(ctx context.Context) error {
	said := ""
	for {
		held, err := e.try(ctx)
		if held {
			return nil
		}
		text := "another replica leads"
		if err != nil {
			text = err.Error()
		}
		if apierrors.IsForbidden(err) {
			text = fmt.Sprintf("needs get, create and update on leases.coordination.k8s.io in namespace %s: %v", e.Client.Namespace, err)
		}
		if text != said {
			e.Logger.Info("waits for the lead", "lease", e.Name, "reason", text)
			said = text
		}
		if !sleep(ctx, leaseRenew) {
			return ctx.Err()
		}
	}
}

// hold renews until ctx ends; an error means that the lead is lost.
func (e *election) hold(ctx context.Context) error {
	renewed := e.Now()
	for sleep(ctx, leaseRenew) {
		held, err := e.try(ctx)
		switch {
		case held:
			renewed = e.Now()
		case ctx.Err() != nil:
			return nil
		case err == nil:
			return errors.New("lead: another replica took it")
		case e.Now().Sub(renewed) > leaseFor-leaseRenew:
			return fmt.Errorf("lead: could not be renewed: %w", err)
		}
	}
	return nil
}

// try takes or renews the lease, if it is free or ours.
func (e *election) try(ctx context.Context) (held bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()
	leases := e.Client.Group(coordinationv1.SchemeGroupVersion)
	now := metav1.NewMicroTime(e.Now())
	seconds := int32(leaseFor / time.Second)
	lease := &coordinationv1.Lease{}
	err = leases.Get().Namespace(e.Client.Namespace).Resource("leases").Name(e.Name).Do(ctx).Into(lease)
	if apierrors.IsNotFound(err) {
		lease = &coordinationv1.Lease{
			ObjectMeta: metav1.ObjectMeta{Name: e.Name, Namespace: e.Client.Namespace},
			Spec:       coordinationv1.LeaseSpec{HolderIdentity: &e.identity, LeaseDurationSeconds: &seconds, AcquireTime: &now, RenewTime: &now},
		}
		err = leases.Post().Namespace(e.Client.Namespace).Resource("leases").Body(lease).Do(ctx).Into(&coordinationv1.Lease{})
		return err == nil, err
	}
	if err != nil {
		return false, err
	}
	if lease.ResourceVersion != e.seen {
		e.seen, e.seenAt = lease.ResourceVersion, e.Now()
	}
	holder := value(lease.Spec.HolderIdentity, "")
	if holder != e.identity {
		if holder != "" && e.Now().Sub(e.seenAt) < time.Duration(value(lease.Spec.LeaseDurationSeconds, seconds))*time.Second {
			return false, nil
		}
		lease.Spec.AcquireTime = &now
		changes := value(lease.Spec.LeaseTransitions, 0) + 1
		lease.Spec.LeaseTransitions = &changes
	}
	lease.Spec.HolderIdentity, lease.Spec.LeaseDurationSeconds, lease.Spec.RenewTime = &e.identity, &seconds, &now
	out := &coordinationv1.Lease{}
	err = leases.Put().Namespace(e.Client.Namespace).Resource("leases").Name(e.Name).Body(lease).Do(ctx).Into(out)
	if err != nil {
		return false, err
	}
	e.seen, e.seenAt = out.ResourceVersion, e.Now()
	return true, nil
}

// release lets the next replica begin at once.
func (e *election) release(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, leaseRenew)
	defer cancel()
	leases := e.Client.Group(coordinationv1.SchemeGroupVersion)
	lease := &coordinationv1.Lease{}
	if err := leases.Get().Namespace(e.Client.Namespace).Resource("leases").Name(e.Name).Do(ctx).Into(lease); err != nil {
		return
	}
	if value(lease.Spec.HolderIdentity, "") != e.identity {
		return
	}
	nobody := ""
	lease.Spec.HolderIdentity = &nobody
	_ = leases.Put().Namespace(e.Client.Namespace).Resource("leases").Name(e.Name).Body(lease).Do(ctx).Error()
}
