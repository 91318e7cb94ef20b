package access

import (
	"context"
	"errors"
	"testing"

	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func TestAuthorize(t *testing.T) {
	admin := &Principal{Kind: LocalAdmin, Name: "local"}
	api := &Principal{Kind: APIToken, Name: "ci"}
	ingest := &Principal{Kind: IngestToken, Name: "prod", Cluster: "prod-1"}
	for name, tc := range map[string]struct {
		who     *Principal
		verb    Verb
		cluster string
		want    error
	}{
		"nobody reads":                    {nil, Read, "", fault.ErrUnauthenticated},
		"nobody sends":                    {nil, Ingest, "prod-1", fault.ErrUnauthenticated},
		"the local admin reads all":       {admin, Read, "", nil},
		"the local admin makes tokens":    {admin, Admin, "", nil},
		"the local admin sends no data":   {admin, Ingest, "prod-1", fault.ErrForbidden},
		"an API token reads a cluster":    {api, Read, "prod-1", nil},
		"an API token writes":             {api, Write, "", nil},
		"an API token sends no data":      {api, Ingest, "prod-1", fault.ErrForbidden},
		"an ingest token sends its own":   {ingest, Ingest, "prod-1", nil},
		"an ingest token, another's":      {ingest, Ingest, "prod-2", fault.ErrForbidden},
		"an ingest token, all clusters'":  {ingest, Ingest, "", fault.ErrForbidden},
		"an ingest token reads not":       {ingest, Read, "prod-1", fault.ErrForbidden},
		"an ingest token writes not":      {ingest, Write, "prod-1", fault.ErrForbidden},
		"an ingest token makes no tokens": {ingest, Admin, "", fault.ErrForbidden},
		"an ingest token of no cluster":   {&Principal{Kind: IngestToken}, Ingest, "", fault.ErrForbidden},
		"an unknown kind":                 {&Principal{Kind: "guest"}, Read, "", fault.ErrForbidden},
	} {
		t.Run(name, func(t *testing.T) {
			ctx, asked := Track(context.Background())
			if asked() {
				t.Fatal("asked before anybody did")
			}
			if tc.who != nil {
				ctx = With(ctx, *tc.who)
			}
			err := Authorize(ctx, tc.verb, tc.cluster, "")
			if !errors.Is(err, tc.want) || (tc.want == nil) != (err == nil) {
				t.Errorf("got %v, want %v", err, tc.want)
			}
			if !asked() {
				t.Error("the request is not marked as asked")
			}
		})
	}
}
