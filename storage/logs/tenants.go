package logs

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"math"
	"slices"
	"sync"

	"github.com/VictoriaMetrics/VictoriaLogs/lib/logstorage"
)

// Scope by cluster is held by tenants and not by a filter that is added to the
// query: the library searches the tenants that it is given, in sub-queries,
// joins and stream contexts too, so there is nothing in the text to escape from.
// A cluster's rows also lie together on disk that way, and one cluster can be
// deleted alone.

// tenantOf is the tenant of a cluster: 64 bits of a hash, so that no table of
// numbers has to be kept in step with the data.
func tenantOf(cluster string) logstorage.TenantID {
	h := sha256.Sum256([]byte("cluster " + cluster))
	return logstorage.TenantID{AccountID: binary.BigEndian.Uint32(h[:]), ProjectID: binary.BigEndian.Uint32(h[4:])}
}

// nobody is searched when there is no tenant, so that "count" still answers 0. It
// is not 0:0, which others may use of an engine that is shared.
var nobody = tenantOf("")

// tenants are those that have rows.
type tenants struct {
	mu  sync.RWMutex
	all map[logstorage.TenantID]struct{}
}

func (t *tenants) add(id logstorage.TenantID) {
	t.mu.RLock()
	_, known := t.all[id]
	t.mu.RUnlock()
	if known {
		return
	}
	t.mu.Lock()
	if t.all == nil {
		t.all = map[logstorage.TenantID]struct{}{}
	}
	t.all[id] = struct{}{}
	t.mu.Unlock()
}

func (s *Store) loadTenants() error {
	return guard("list the clusters of the log store", func() error {
		ids, err := s.db.GetTenantIDs(context.Background(), 0, math.MaxInt64)
		if err != nil {
			return err
		}
		s.tenants.all = make(map[logstorage.TenantID]struct{}, len(ids))
		for _, id := range ids {
			s.tenants.all[id] = struct{}{}
		}
		return nil
	})
}

// scope gives the tenants of the clusters; nil means all of them.
func (s *Store) scope(clusters []string) []logstorage.TenantID {
	var ids []logstorage.TenantID
	if clusters != nil {
		for _, c := range clusters {
			if id := tenantOf(c); !slices.Contains(ids, id) {
				ids = append(ids, id)
			}
		}
	} else {
		s.tenants.mu.RLock()
		for id := range s.tenants.all {
			ids = append(ids, id)
		}
		s.tenants.mu.RUnlock()
	}
	if len(ids) == 0 {
		ids = append(ids, nobody)
	}
	return sortTenants(ids)
}

// sortTenants sorts in place: the library walks them beside its own sorted blocks,
// and misses rows of a list that is not sorted.
func sortTenants(ids []logstorage.TenantID) []logstorage.TenantID {
	slices.SortFunc(ids, func(a, b logstorage.TenantID) int {
		return cmp.Or(cmp.Compare(a.AccountID, b.AccountID), cmp.Compare(a.ProjectID, b.ProjectID))
	})
	return ids
}
