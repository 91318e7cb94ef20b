package kube

import (
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

const (
	// MaxMembers bounds the replicas that share work. Each has a place, whose Lease
	// has a name that rights can say.
	MaxMembers = 8
	// settleFor is how long a replica that joins others waits before it works: so
	// long it takes at most until they have seen it and let go of what is its now.
	// They look each leaseRenew, and at their work as often.
	settleFor = 2*leaseRenew + 2*time.Second
	// answerFor bounds a round, and giving a place back: the two follow each other
	// when the process ends.
	answerFor = 4 * time.Second
)

// MembersOptions say who shares work.
type MembersOptions struct {
	Client *Client // required
	Name   string  // of the Leases, in the client's namespace, before "-0", "-1" …; required
	Logger *slog.Logger
	Now    func() time.Time // default time.Now
}

// Members are the replicas that share work. Each holds the Lease of a place; what
// is whose follows from the places that are held, by rendezvous hashing, so that a
// replica which comes or goes moves only what is its own. Whoever comes waits until
// the others have let go, and whoever could not renew its Lease lets go before it
// ends: nothing is worked on twice, and for some seconds it may be by nobody.
type Members struct {
	o        MembersOptions
	identity string

	mu      sync.Mutex
	places  [MaxMembers]place
	own     int       // place; -1 without one
	from    time.Time // when work may begin
	renewed time.Time // by our clock, before the request was sent
	lone    string    // why there is nobody to share with: the right is missing
	said    string
}

// place is what is known of one Lease.
type place struct {
	version string
	holder  string
	seenAt  time.Time // when this version was first seen
}

// NewMembers makes it; nothing is asked yet.
func NewMembers(o MembersOptions) (*Members, error) {
	if o.Client == nil || o.Name == "" {
		return nil, errors.New("kube: members need Client and Name")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	identity, err := os.Hostname()
	if err != nil {
		return nil, fmt.Errorf("kube: members: %w", err)
	}
	return &Members{o: o, identity: identity, own: -1}, nil
}

// Run holds a place while work runs, and gives it back after it has ended.
func (m *Members) Run(ctx context.Context, work func(context.Context) error) error {
	// A round that has begun goes to its end: of a place that was taken while nobody
	// read the answer, nobody would know that it is to be given back.
	asking := context.WithoutCancel(ctx)
	holding, stop := context.WithCancel(asking)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for m.round(asking); sleep(holding, leaseRenew); m.round(asking) {
		}
	}()
	err := work(ctx)
	stop()
	<-done
	m.leave(asking)
	return err
}

// Owns says whether a piece of work is this replica's now.
func (m *Members) Owns(key string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.o.Now()
	if !m.worksLocked(now) {
		return false
	}
	best, most := -1, uint64(0)
	for i := range m.places {
		if i != m.own && !m.places[i].held(now) {
			continue
		}
		if w := weight(i, key); best < 0 || w > most {
			best, most = i, w
		}
	}
	return best == m.own
}

func (m *Members) worksLocked(now time.Time) bool {
	return m.own >= 0 && !now.Before(m.from) && now.Sub(m.renewed) <= leaseFor-leaseRenew
}

// Lone says why work cannot be shared; empty when it can.
func (m *Members) Lone() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.lone
}

// Held gives the places that are held, as far as this replica knows, and its own.
// It changes whenever Owns may.
func (m *Members) Held() (held []int, own int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.o.Now()
	for i := range m.places {
		if i != m.own && m.places[i].held(now) {
			held = append(held, i)
		}
	}
	if m.worksLocked(now) {
		return held, m.own
	}
	return held, -1
}

// held: a Lease counts from when this process saw it change, so clocks need not
// agree.
func (p place) held(now time.Time) bool {
	return p.holder != "" && now.Sub(p.seenAt) < leaseFor
}

// weight is what a place bids for a key; the highest has it.
func weight(place int, key string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte{byte(place)})
	_, _ = h.Write([]byte(key))
	x := h.Sum64()
	// FNV's last byte hardly reaches its high bits, which decide here.
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// round looks who is there, and takes or renews a place.
func (m *Members) round(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answerFor)
	defer cancel()
	err := m.look(ctx)
	if err == nil {
		err = m.keep(ctx)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.lone = ""
	if apierrors.IsForbidden(err) {
		m.lone = fmt.Sprintf("needs create and list on leases.coordination.k8s.io in namespace %s, get and update on %s-0 to -%d", m.o.Client.Namespace, m.o.Name, MaxMembers-1)
	}
	text := ""
	if err != nil && ctx.Err() == nil {
		text = err.Error()
	}
	if text != "" && text != m.said {
		m.o.Logger.Warn("hold a place among the replicas", "err", err)
	}
	m.said = text
}

// look lists the Leases.
func (m *Members) look(ctx context.Context) error {
	list := &coordinationv1.LeaseList{}
	err := m.o.Client.Group(coordinationv1.SchemeGroupVersion).Get().Namespace(m.o.Client.Namespace).Resource("leases").Do(ctx).Into(list)
	if err != nil {
		return err
	}
	now := m.o.Now()
	m.mu.Lock()
	defer m.mu.Unlock()
	var seen [MaxMembers]bool
	for i := range list.Items {
		l := &list.Items[i]
		number, ok := strings.CutPrefix(l.Name, m.o.Name+"-")
		n, err := strconv.Atoi(number)
		if !ok || err != nil || n < 0 || n >= MaxMembers || strconv.Itoa(n) != number {
			continue
		}
		seen[n] = true
		m.seenLocked(n, l, now)
	}
	for n := range seen {
		if !seen[n] {
			m.places[n] = place{}
		}
	}
	if m.own >= 0 && m.places[m.own].holder != m.identity {
		m.o.Logger.Warn("another replica took this one's place", "place", m.own)
		m.own = -1
	}
	return nil
}

func (m *Members) seenLocked(n int, l *coordinationv1.Lease, now time.Time) {
	if p := &m.places[n]; p.version != l.ResourceVersion {
		*p = place{version: l.ResourceVersion, holder: value(l.Spec.HolderIdentity, ""), seenAt: now}
	}
}

// keep renews the place that this replica has, or takes the first that nobody
// holds; its own of before, if it is there.
func (m *Members) keep(ctx context.Context) error {
	now := m.o.Now()
	m.mu.Lock()
	// Who had to let go for want of a renewal comes anew: others have its work.
	n, joins := m.own, m.own < 0 || now.Sub(m.renewed) > leaseFor-leaseRenew
	others := 0
	for i := range m.places {
		if i != n && m.places[i].held(now) && m.places[i].holder != m.identity {
			others++
		}
	}
	if n < 0 {
		n = slices.IndexFunc(m.places[:], func(p place) bool { return p.holder == m.identity })
	}
	if n < 0 {
		n = slices.IndexFunc(m.places[:], func(p place) bool { return !p.held(now) })
	}
	if n < 0 {
		m.mu.Unlock()
		return fmt.Errorf("all %d places are held: more replicas do not share the work", MaxMembers)
	}
	version := m.places[n].version
	m.mu.Unlock()
	l, err := m.write(ctx, n, version, m.identity, now)
	if err != nil {
		return err // of a conflict the next round knows more
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.own, m.renewed = n, now
	m.seenLocked(n, l, now)
	if joins {
		m.from = now
		if others > 0 {
			m.from = now.Add(settleFor)
		}
		m.o.Logger.Info("this replica shares the work", "place", n, "others", others)
	}
	return nil
}

// write sets the holder of a place, of which version is the newest that was read;
// none where the Lease is not there.
func (m *Members) write(ctx context.Context, n int, version, holder string, now time.Time) (*coordinationv1.Lease, error) {
	seconds, stamp := int32(leaseFor/time.Second), metav1.NewMicroTime(now)
	l := &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("%s-%d", m.o.Name, n), Namespace: m.o.Client.Namespace, ResourceVersion: version},
		Spec:       coordinationv1.LeaseSpec{HolderIdentity: &holder, LeaseDurationSeconds: &seconds, RenewTime: &stamp},
	}
	leases := m.o.Client.Group(coordinationv1.SchemeGroupVersion)
	request := leases.Post()
	if version != "" {
		request = leases.Put().Name(l.Name)
	}
	out := &coordinationv1.Lease{}
	err := request.Namespace(l.Namespace).Resource("leases").Body(l).Do(ctx).Into(out)
	return out, err
}

// leave gives the place back, so that the others go on with its work at once.
func (m *Members) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, answerFor)
	defer cancel()
	m.mu.Lock()
	n := m.own
	m.own = -1
	version := ""
	if n >= 0 {
		version = m.places[n].version
	}
	m.mu.Unlock()
	if n >= 0 {
		_, _ = m.write(ctx, n, version, "", m.o.Now()) // else it ends by itself
	}
}
