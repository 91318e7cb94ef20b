package inventory

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Found is an object that a search found.
type Found struct {
	Kind      string `json:"kind" enum:"node,namespace,workload,service,pod"`
	Cluster   string `json:"cluster"`
	Namespace string `json:"namespace,omitempty"`
	Type      string `json:"type,omitempty" doc:"Of a workload: deployment, statefulset …"`
	Name      string `json:"name"`
}

type searchIn struct {
	Words string `query:"q" maxLength:"400" doc:"Each must be in the object's name, kind, namespace or cluster."`
	Limit int    `query:"limit" default:"40" minimum:"1" maximum:"200"`
}

// searchOrder is how kinds stand among equals: the wider first.
var searchOrder = []object.Kind{object.KindNamespace, object.KindNode, object.KindWorkload, object.KindService, object.KindPod}

// search looks through all objects: some 20 ms for 100,000 of them.
func (h *handlers) search(ctx context.Context, in *searchIn) (page[Found], error) {
	if err := access.Authorize(ctx, access.Read, "", ""); err != nil {
		return page[Found]{}, err
	}
	type hit struct {
		Found
		score int
	}
	words := searchWords(in.Words)
	var hits []hit
	if len(words) > 0 {
		for _, cluster := range h.opts.Store.Clusters() {
			for i, kind := range searchOrder {
				for _, o := range h.opts.Store.List(cluster, kind) {
					m := o.GetMeta()
					typ := ""
					if w, ok := o.(*object.Workload); ok {
						typ = w.Ref.Type
					}
					if score, ok := scoreOf(words, m.Name, string(kind), m.Namespace, cluster, typ); ok {
						hits = append(hits, hit{Found{string(kind), cluster, m.Namespace, typ, m.Name}, score - i})
					}
				}
			}
		}
	}
	slices.SortFunc(hits, func(a, b hit) int {
		return cmp.Or(cmp.Compare(b.score, a.score), cmp.Compare(len(a.Name), len(b.Name)), cmp.Compare(a.Name, b.Name), cmp.Compare(a.Cluster, b.Cluster), cmp.Compare(a.Namespace, b.Namespace))
	})
	out := page[Found]{Items: make([]Found, 0, min(len(hits), in.Limit))}
	for _, h := range hits[:min(len(hits), in.Limit)] {
		out.Items = append(out.Items, h.Found)
	}
	return out, nil
}

// scoreOf tells how well an object answers the words: a name that is the word
// beats one that begins with it, which beats one that has it anywhere; words may
// also be in what is around the name.
func scoreOf(words []string, name string, around ...string) (score int, ok bool) {
	lower := strings.ToLower(name)
	for _, w := range words {
		at := strings.Index(lower, w)
		switch {
		case lower == w:
			score += 100
		case at == 0:
			score += 60
		case at > 0 && strings.IndexByte("-./ ", lower[at-1]) >= 0:
			score += 40
		case at > 0:
			score += 20
		case hasAll([]string{w}, around...):
			score += 8
		default:
			return 0, false
		}
	}
	return score, true
}

func searchWords(text string) []string { return strings.Fields(strings.ToLower(text)) }

// hasAll tells whether each word is in one of the texts.
func hasAll(words []string, texts ...string) bool {
	for _, w := range words {
		if !slices.ContainsFunc(texts, func(t string) bool { return strings.Contains(strings.ToLower(t), w) }) {
			return false
		}
	}
	return true
}
