package alerts

import (
	"cmp"
	"encoding/base64"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

// resourceQuery says which of the objects of a kind are listed, and how.
type resourceQuery struct {
	Limit  int    `query:"limit" minimum:"1" maximum:"1000" doc:"At most so many. Left out: all."`
	Cursor string `query:"cursor" doc:"As next of the page before has it, of the same sort and filter."`
	Sort   string `query:"sort" enum:"name,-name,updatedAt,-updatedAt" default:"name" doc:"- is downwards."`
	Filter string `query:"filter" maxLength:"500" doc:"Words that all must occur in the name or in a label, as team=shop; case does not matter."`
}

// page gives the rows that are asked for, and the cursor of what follows; nil at
// the end. Cursors name the last row that was given, so that rows which come and
// go meanwhile neither repeat nor hide others.
func (q resourceQuery) page(rows []meta.Resource) (page []meta.Resource, next *string, err error) {
	words := strings.Fields(strings.ToLower(q.Filter))
	page = slices.DeleteFunc(slices.Clone(rows), func(r meta.Resource) bool {
		return slices.ContainsFunc(words, func(w string) bool { return !mentions(r, w) })
	})
	field, down := strings.CutPrefix(q.Sort, "-")
	key := func(r meta.Resource) string {
		at := ""
		if field == "updatedAt" {
			at = r.UpdatedAt.UTC().Format("20060102150405.000")
		}
		return at + "\x00" + r.Project + "\x00" + r.Name
	}
	order := func(a, b string) int {
		if down {
			a, b = b, a
		}
		return cmp.Compare(a, b)
	}
	slices.SortFunc(page, func(a, b meta.Resource) int { return order(key(a), key(b)) })
	if q.Cursor != "" {
		after, err := base64.RawURLEncoding.DecodeString(q.Cursor)
		if err != nil || strings.Count(string(after), "\x00") != 2 {
			return nil, nil, fault.Wrong("query.cursor", fault.Say(fault.Cursor), q.Cursor)
		}
		from := slices.IndexFunc(page, func(r meta.Resource) bool { return order(key(r), string(after)) > 0 })
		if from < 0 {
			from = len(page)
		}
		page = page[from:]
	}
	if q.Limit > 0 && len(page) > q.Limit {
		page = page[:q.Limit]
		cursor := base64.RawURLEncoding.EncodeToString([]byte(key(page[q.Limit-1])))
		next = &cursor
	}
	return page, next, nil
}

// mentions says whether a lower-case word occurs in what a resource is called.
func mentions(r meta.Resource, word string) bool {
	if strings.Contains(strings.ToLower(r.Name), word) {
		return true
	}
	for k, v := range r.Labels {
		if strings.Contains(strings.ToLower(k+"="+v), word) {
			return true
		}
	}
	return false
}
