package kube

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

const (
	maxLookups  = 4096 // owners that are remembered
	maxWaiting  = 256  // look-ups that wait; more are asked for again later
	lookupEvery = 50 * time.Millisecond
	retryAfter  = 5 * time.Minute // a look-up that failed
)

// askFirst is how often the server is asked about a pod before the API server is.
const askFirst = 3

// askAgain are the waits before the server is asked again about a pod that it
// did not know.
var askAgain = []time.Duration{2 * time.Second, 5 * time.Second, 15 * time.Second, time.Minute, 5 * time.Minute}

// keepOwners asks the server for the workloads of this node's pods: thousands of
// node collectors must not ask the API server.
func (s *Source) keepOwners(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.wakeOwners:
		}
		if !sleep(ctx, 200*time.Millisecond) { // pods come in groups
			return
		}
		for ctx.Err() == nil {
			askCtx, cancel := context.WithTimeout(ctx, 5*time.Second)
			owners, err := s.o.Owners(askCtx, s.o.Node)
			cancel()
			if err != nil {
				s.log.Debug("owners are not known yet", "err", err)
			}
			wait := s.takeOwners(owners)
			if wait == 0 || !sleep(ctx, wait) {
				break
			}
		}
	}
}

// takeOwners notes what the server said and gives how long to wait before
// asking about the rest; 0 when nothing is left to ask.
func (s *Source) takeOwners(owners map[string]object.WorkloadRef) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	wait := time.Duration(0)
	for uid, p := range s.pods {
		id := string(uid)
		if ref, ok := owners[id]; ok && ref.Name != "" {
			delete(s.asked, id)
			if s.told[id] != ref {
				s.told[id] = ref
				s.publishPodLocked(p)
			}
			continue
		}
		if _, known := s.told[id]; known || p.owner.uid == "" {
			continue
		}
		again := askAgain[min(s.asked[id], len(askAgain)-1)]
		if s.asked[id]++; s.asked[id] == askFirst {
			s.publishPodLocked(p) // now the API server is asked
		}
		if wait == 0 || again < wait {
			wait = again
		}
	}
	return wait
}

// lookup finds the owners of objects whose kinds are not watched, one metadata
// request each, remembered.
type lookup struct {
	client *Client
	found  func(types.UID) // called without locks, after an owner became known
	log    *slog.Logger
	now    func() time.Time
	queue  chan owner

	mu        sync.Mutex
	answers   map[types.UID]answer
	resources map[string]map[string]apiResource // of API versions, by kind
	said      map[string]bool                   // kinds whose trouble was logged
}

type apiResource struct {
	name       string
	namespaced bool
}

type answer struct {
	owner   owner
	known   bool      // false while it waits, or when it failed
	retryAt time.Time // after a failure
}

func newLookup(c *Client, found func(types.UID), log *slog.Logger, now func() time.Time) *lookup {
	return &lookup{
		client: c, found: found, log: log, now: now, queue: make(chan owner, maxWaiting),
		answers: map[types.UID]answer{}, resources: map[string]map[string]apiResource{}, said: map[string]bool{},
	}
}

// owner gives the owner of o, as far as it is known; a first question is queued.
func (l *lookup) owner(o owner) (next owner, known bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a, asked := l.answers[o.uid]
	if asked && (a.known || l.now().Before(a.retryAt)) {
		return a.owner, a.known
	}
	if len(l.answers) >= maxLookups && !asked {
		for uid := range l.answers { // any: they are asked for again when needed
			delete(l.answers, uid)
			break
		}
	}
	select {
	case l.queue <- o:
		l.answers[o.uid] = answer{retryAt: l.now().Add(retryAfter)}
	default:
	}
	return owner{}, false
}

// ownedBy lists what was looked up and turned out to be owned by uid.
func (l *lookup) ownedBy(uid types.UID) []types.UID {
	l.mu.Lock()
	defer l.mu.Unlock()
	var out []types.UID
	for child, a := range l.answers {
		if a.known && a.owner.uid == uid {
			out = append(out, child)
		}
	}
	return out
}

func (l *lookup) forget(uid types.UID) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.answers, uid)
}

// run asks one at a time, at most 20 a second.
func (l *lookup) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case o := <-l.queue:
			next, err := l.get(ctx, o)
			l.mu.Lock()
			if err != nil {
				if !l.said[o.kind] {
					l.said[o.kind] = true
					l.log.Info("owners of a kind cannot be looked up; objects of it count as top controllers", "kind", o.kind, "err", err)
				}
				l.answers[o.uid] = answer{retryAt: l.now().Add(retryAfter)}
			} else {
				l.answers[o.uid] = answer{owner: next, known: true}
			}
			l.mu.Unlock()
			if err == nil {
				l.found(o.uid)
			}
		}
		if !sleep(ctx, lookupEvery) {
			return
		}
	}
}

const metadataOnly = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"

func (l *lookup) get(ctx context.Context, o owner) (owner, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	path := "/apis/" + o.apiVersion
	if !strings.Contains(o.apiVersion, "/") {
		path = "/api/" + o.apiVersion
	}
	resource, err := l.resource(ctx, path, o)
	if err != nil {
		return owner{}, err
	}
	if resource.namespaced {
		path += "/namespaces/" + o.namespace
	}
	raw, err := l.client.Raw(ctx, metadataOnly, path+"/"+resource.name+"/"+o.name).Raw()
	if err != nil {
		return owner{}, err
	}
	var m metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &m); err != nil {
		return owner{}, err
	}
	return ownerOf(&m.ObjectMeta), nil
}

// resource finds the resource of a kind; each API version is asked for once.
func (l *lookup) resource(ctx context.Context, path string, o owner) (apiResource, error) {
	l.mu.Lock()
	kinds, ok := l.resources[o.apiVersion]
	l.mu.Unlock()
	if !ok {
		raw, err := l.client.Raw(ctx, "application/json", path).Raw()
		if err != nil {
			return apiResource{}, err
		}
		var list metav1.APIResourceList
		if err := json.Unmarshal(raw, &list); err != nil {
			return apiResource{}, err
		}
		kinds = map[string]apiResource{}
		for _, r := range list.APIResources {
			if !strings.Contains(r.Name, "/") {
				kinds[r.Kind] = apiResource{r.Name, r.Namespaced}
			}
		}
		l.mu.Lock()
		l.resources[o.apiVersion] = kinds
		l.mu.Unlock()
	}
	r, ok := kinds[o.kind]
	if !ok {
		return r, fmt.Errorf("API version %s has no kind %s", o.apiVersion, o.kind)
	}
	return r, nil
}
