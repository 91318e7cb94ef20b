package boards_test

import (
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humagin"
	"github.com/gin-gonic/gin"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/boards"
	"github.com/crowsnest-dev/crowsnest/api/problem"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/storage/meta"
)

const head = "apiVersion: crowsnest.dev/v1\nkind: Board\nmetadata: {name: shop}\nspec:\n  title: Shop\n"

func TestABoardIsMadeReadChangedAndDeleted(t *testing.T) {
	do := server(t)
	const panel = `  panels: [{title: CPU, kind: chart, metrics: [k8s_workload_cpu_core_used], object: {cluster: c, namespace: shop}, by: [workload]}]`
	says(t, do(access.LocalAdmin, "POST", "/boards", head+panel, 201), `"id":"brd_`, `"revision":1`, `"updatedBy":"me"`, `"metrics":["k8s_workload_cpu_core_used"]`)
	says(t, do(access.LocalAdmin, "POST", "/boards", head+panel, 409), "is there already", `"current":{`)
	says(t, do(access.LocalAdmin, "GET", "/boards", "", 200), `"name":"shop"`)
	changed := strings.Replace(head, "{name: shop}", "{name: shop, revision: 1}", 1) + "  panels: []"
	says(t, do(access.LocalAdmin, "PUT", "/boards/shop", changed, 200), `"revision":2`, `"panels":[]`)
	says(t, do(access.LocalAdmin, "PUT", "/boards/shop", changed, 409), "revision 1 is not the current one", `"current":{`)
	says(t, do(access.LocalAdmin, "PUT", "/boards/shop?manager=file", strings.Replace(changed, "revision: 1", "revision: 2", 1), 409), "is managed by console")
	says(t, do(access.LocalAdmin, "PUT", "/boards/other", changed, 422), `must be \"other\"`)
	do(access.LocalAdmin, "DELETE", "/boards/shop", "", 204)
	do(access.LocalAdmin, "GET", "/boards/shop", "", 404)
	do(access.LocalAdmin, "DELETE", "/boards/shop", "", 404)
}

// Nothing but the envelope is between an export and an import.
func TestABoardComesBackAsItWasSent(t *testing.T) {
	do := server(t)
	const sent = `{"apiVersion":"crowsnest.dev/v1","kind":"Board","metadata":{"name":"all"},"spec":{"title":"All <kinds> 🦅","description":"d","panels":[` +
		`{"title":"a","kind":"query","wide":true,"query":"sum(rate(x[5m]))","view":"table"},` +
		`{"title":"b","kind":"table","object":{"cluster":"c","namespace":"n"},"of":"pods","filter":"cart","sort":"-cpu"},` +
		`{"title":"c","kind":"logs","query":"error | level:warn"}]}}`
	got := do(access.LocalAdmin, "POST", "/boards", sent, 201)
	_, want, _ := strings.Cut(sent, `"spec":`)
	says(t, strings.NewReplacer(`\u003c`, "<", `\u003e`, ">").Replace(got), `"spec":`+strings.TrimSuffix(want, "}"))
}

func TestAWrongBoardIsRefusedWithEachReason(t *testing.T) {
	do := server(t)
	for panels, want := range map[string]string{
		`[{kind: pie, title: x}]`:                                                                                  "must be one of chart, query, table, logs",
		`[{kind: query, title: x}]`:                                                                                "spec.panels[0].query: is required",
		`[{kind: query, title: x, query: 'sum('}]`:                                                                 "is no PromQL",
		`[{kind: query, title: x, query: up, of: pods}]`:                                                           "does not belong to a panel of kind query",
		`[{kind: chart, title: x, metrics: [k8s_pod_cpu_core_usd]}]`:                                               "the nearest is k8s_pod_",
		`[{kind: chart, title: x}]`:                                                                                "must name 1 to 12 metrics",
		`[{kind: chart, title: x, metrics: [k8s_pod_cpu_core_used, k8s_node_cpu_usage]}]`:                          "is about a node, those before it about a pod",
		`[{kind: chart, title: x, metrics: [k8s_node_cpu_usage], object: {pod: p}, by: [mountpoint]}]`:             "metrics of a node have no such label",
		`[{kind: table, title: x, of: pods}]`:                                                                      "object.cluster: is required",
		`[{kind: table, title: x, of: pods, object: {cluster: c, colour: red}}]`:                                   "a table is narrowed by cluster",
		`[{kind: logs, title: x, query: y, colour: red}]`:                                                          "unknown key",
		`[` + strings.Repeat(`{kind: logs, title: x, query: y},`, 61) + `]`:                                        "at most 60 are allowed",
		`[{kind: logs, title: '` + strings.Repeat("x", 121) + `', query: y}]`:                                      "must be at most 120 characters",
		`[{kind: query, title: a, query: '` + strings.Repeat("x", 8193) + `'}, {kind: logs, title: '', query: y}]`: "spec.panels[1].title: is required",
	} {
		says(t, do(access.LocalAdmin, "POST", "/boards", head+"  panels: "+panels, 422), want)
	}
	do(access.LocalAdmin, "POST", "/boards", "{", 400)
	do("", "POST", "/boards", head+"  panels: []", 401)
}

func TestMetricsOfUsersAreDrawn(t *testing.T) {
	t.Cleanup(func() { catalogue.SetCustom(nil) })
	do := server(t)
	const panel = head + "  panels: [{title: Orders, kind: chart, metrics: [shop_orders], object: {cluster: c, namespace: shop}, by: [code]}]"
	says(t, do(access.LocalAdmin, "POST", "/boards", panel, 422), "spec.panels[0].metrics[0]")
	catalogue.SetCustom([]catalogue.Metric{{Name: "shop_orders", Level: catalogue.Workload, Unit: catalogue.Count, Dimensions: []string{"code"}}})
	says(t, do(access.LocalAdmin, "POST", "/boards", panel, 201), `"metrics":["shop_orders"]`)
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(head + "  panels: [{title: CPU, kind: chart, metrics: [k8s_workload_cpu_core_used], object: {cluster: c}}]"))
	f.Add([]byte(`{"apiVersion":"crowsnest.dev/v1","kind":"Board","spec":{"panels":[{"kind":"query","query":"sum("}]}}`))
	f.Fuzz(func(t *testing.T, document []byte) {
		if b, err := boards.Parse(document); err == nil && (b.Metadata.Name == "" || b.Spec.Title == "" || b.Spec.Panels == nil) {
			t.Errorf("took a board that lacks what is required: %+v", b)
		}
	})
}

func server(t *testing.T) func(kind access.Kind, method, path, body string, want int) string {
	t.Helper()
	db, err := meta.Open(filepath.Join(t.TempDir(), "meta.db"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	problem.Use()
	gin.SetMode(gin.ReleaseMode)
	g := gin.New()
	config := huma.DefaultConfig("test", "v1")
	config.DocsPath, config.SchemasPath, config.OpenAPIPath, config.CreateHooks = "", "", "", nil
	boards.Register(humagin.New(g, config), boards.Options{Store: db, Now: func() time.Time { return time.Date(2026, 11, 23, 9, 0, 0, 0, time.UTC) }})
	return func(kind access.Kind, method, path, body string, want int) string {
		t.Helper()
		r := httptest.NewRequest(method, path, strings.NewReader(body))
		r.Header.Set("Content-Type", "application/yaml")
		ctx, asked := access.Track(r.Context())
		if kind != "" {
			ctx = access.With(ctx, access.Principal{Kind: kind, Name: "me"})
		}
		rec := httptest.NewRecorder()
		g.ServeHTTP(rec, r.WithContext(ctx))
		if rec.Code != want {
			t.Fatalf("%s %s: got %d, want %d: %s", method, path, rec.Code, want, rec.Body)
		}
		if !asked() {
			t.Errorf("%s %s did not ask access.Authorize", method, path)
		}
		return rec.Body.String()
	}
}

func says(t *testing.T, text string, wants ...string) {
	t.Helper()
	for _, want := range wants {
		if !strings.Contains(text, want) {
			t.Errorf("got %s, want it to say %s", text, want)
		}
	}
}
