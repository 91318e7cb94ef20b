package edge

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/crowsnest-dev/crowsnest/api/settings"
	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/internal/bubbletest"
	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// TestSettingsReachCollectorsAndLast changes settings while collectors run, asks
// what became of them, and starts one again without the server.
func TestSettingsReachCollectorsAndLast(t *testing.T) {
	bubbletest.Test(t, func(t *testing.T) {
		s, stop := serve(t)
		defer stop()
		o := newObjects()
		o.change([]object.Object{aNode("n1"), aPod("u1", "cart-1", "n1", "cart")})
		free := func(o *collector.Options) { o.Interval = 0 }
		dir := t.TempDir()
		node := s.collect(wire.RoleNode, "n1", o, dir, 0, free)
		cluster := s.collect(wire.RoleCluster, "", o, t.TempDir(), 0) // an interval of its own
		time.Sleep(2 * time.Minute)

		path := "/clusters/" + theCluster + "/settings"
		var got settings.ClusterSettings
		if status := s.ask("GET", path, nil, &got); status != http.StatusOK || got.Version != 0 || len(got.Collectors) != 2 || !got.Collectors[0].Connected {
			t.Fatalf("at first: %d %+v", status, got)
		}
		patterns := make([]string, 100) // so much that it has a channel of its own
		for i := range patterns {
			patterns[i] = fmt.Sprintf("!%d%s", i, strings.Repeat("x", 900))
		}
		change := map[string]any{"settings": map[string]any{"interval_seconds": 10, "families": []string{"core"}, "queue_age_seconds": 3600, "queue_bytes": 32 << 20, "log_rules": map[string]any{"namespaces": patterns, "multiline": []map[string]any{{"workloads": []string{"deployment/cart"}, "start": "^# "}, {"off": true}}}}}
		if status := s.ask("PUT", path, change, &got); status != http.StatusOK || got.Version != 1 {
			t.Fatalf("change: %d %+v", status, got)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		s.ask("GET", path, nil, &got)
		if r := got.Settings.LogRules; r == nil || len(r.Namespaces) != 100 || len(r.Multiline) != 2 || r.Multiline[0].Start != "^# " || r.Multiline[0].Workloads[0] != "deployment/cart" || !r.Multiline[1].Off {
			t.Errorf("the log rules are %+v", r)
		}
		for _, c := range got.Collectors {
			e := c.Effective
			if c.AppliedVersion != 1 || c.Error != "" || e == nil || len(e.Families) != 1 || e.QueueAgeSeconds != 3600 || e.QueueBytes != 32<<20 {
				t.Fatalf("%s made of it %+v, effective %+v", c.Sender, c, e)
			}
			want := map[string]int{"cluster": 30, "node/n1": 10}[c.Sender]
			if _, over := c.Overridden["interval_seconds"]; e.IntervalSeconds != want || over != (want == 30) {
				t.Errorf("%s goes by %d s, overridden: %v", c.Sender, e.IntervalSeconds, c.Overridden)
			}
		}
		if h := node.Health(); h.IntervalSeconds != 10 || h.Queue.MaxAge != 3600 {
			t.Errorf("health %+v", h)
		}
		for name, metric := range map[string]string{"core": catalogue.ContainerMem, "extras": "crowsnest_collection_interval_seconds"} {
			if len(s.series(metric)) == 0 {
				t.Errorf("%s: no %s", name, metric)
			}
		}

		// What is wrong is refused with its place; what was made from an older version too.
		var problem struct {
			Errors []struct{ Location, Message string }
		}
		wrong := map[string]any{"settings": map[string]any{"interval_seconds": 7, "log_rules": map[string]any{"mask": []string{"("}, "multiline": []map[string]any{{"start": "[a"}}}}}
		if status := s.ask("PUT", path, wrong, &problem); status != http.StatusUnprocessableEntity || len(problem.Errors) != 3 || !strings.Contains(fmt.Sprint(problem.Errors), "log_rules.mask[0]") || !strings.Contains(fmt.Sprint(problem.Errors), "log_rules.multiline[0].start") {
			t.Errorf("wrong settings: %d %+v", status, problem)
		}
		change["version"] = 0
		if status := s.ask("PUT", path, change, nil); status != http.StatusConflict {
			t.Errorf("a change of version 0 gave %d", status)
		}

		// The last good ones are in force without the server.
		s.pipes.sever()
		node.stop()
		node = s.collect(wire.RoleNode, "n1", o, dir, 0, free)
		time.Sleep(time.Minute)
		if h := node.Health(); h.IntervalSeconds != 10 || h.Queue.MaxAge != 3600 {
			t.Errorf("after a start without the server: %+v", h)
		}
		node.stop()
		cluster.stop()
	})
}
