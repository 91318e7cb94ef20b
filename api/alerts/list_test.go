package alerts

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

func TestPagesOfResources(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 11, 23, 9, minute, 0, 0, time.UTC) }
	rows := []meta.Resource{
		{Project: "default", Name: "a", UpdatedAt: at(3)}, {Project: "default", Name: "b", UpdatedAt: at(1), Labels: map[string]string{"team": "Shop"}},
		{Project: "default", Name: "cart-cpu", UpdatedAt: at(1)}, {Project: "default", Name: "d", UpdatedAt: at(2), Labels: map[string]string{"team": "shop", "tier": "web"}},
		{Project: "other", Name: "a", UpdatedAt: at(4)},
	}
	for _, tc := range []struct {
		query resourceQuery
		want  string
	}{
		{resourceQuery{Sort: "name"}, "a b cart-cpu d a"},
		{resourceQuery{Sort: "-name"}, "a d cart-cpu b a"},
		{resourceQuery{Sort: "updatedAt"}, "b cart-cpu d a a"},
		{resourceQuery{Sort: "-updatedAt"}, "a a d cart-cpu b"},
		{resourceQuery{Sort: "name", Filter: "CART"}, "cart-cpu"},
		{resourceQuery{Sort: "name", Filter: "team=shop"}, "b d"},
		{resourceQuery{Sort: "name", Filter: "team=shop web"}, "d"},
		{resourceQuery{Sort: "name", Filter: "nothing"}, ""},
	} {
		for limit := range len(rows) + 1 {
			q, got := tc.query, []string{}
			q.Limit = limit
			for pages := 0; ; pages++ {
				page, next, err := q.page(rows)
				if err != nil || pages > len(rows) || (limit > 0 && len(page) > limit) {
					t.Fatalf("%+v: %v, page %d has %d", q, err, pages, len(page))
				}
				for _, r := range page {
					got = append(got, r.Name)
				}
				if next == nil {
					break
				}
				q.Cursor = *next
			}
			if s := strings.Join(got, " "); s != tc.want {
				t.Errorf("%+v: got %q, want %q", tc.query, s, tc.want)
			}
		}
	}
	// The row that a cursor names may be gone, and others have come.
	_, next, err := resourceQuery{Sort: "name", Limit: 2}.page(rows)
	if err != nil || next == nil {
		t.Fatal(next, err)
	}
	changed := append(slices.DeleteFunc(slices.Clone(rows), func(r meta.Resource) bool { return r.Name == "b" }), meta.Resource{Project: "default", Name: "a2"})
	page, _, err := resourceQuery{Sort: "name", Limit: 2, Cursor: *next}.page(changed)
	if err != nil || len(page) != 2 || page[0].Name != "cart-cpu" || page[1].Name != "d" {
		t.Errorf("got %v, %v", page, err)
	}
	for _, cursor := range []string{"?", "YQ"} {
		if _, _, err := (resourceQuery{Cursor: cursor}).page(rows); err == nil || !strings.Contains(fmt.Sprint(err), "must be next") {
			t.Errorf("%q: %v", cursor, err)
		}
	}
}
