package engine

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// restive is an inventory of which a pod gets other labels while a round looks at it.
type restive struct {
	*fleet
	asked int
	at    int
}

func (f *restive) Get(cluster string, k object.Key) (object.Object, bool) {
	o, ok := f.fleet.Get(cluster, k)
	if k.Name == "cart-3" {
		if f.asked++; f.asked > f.at {
			p := *o.(*object.Pod)
			p.Labels = map[string]string{"g": "other"}
			return &p, ok
		}
	}
	return o, ok
}

// A pod gets other labels between two metrics of a round, of which one has dimensions.
func TestLabelsChangeWithinARound(t *testing.T) {
	for at := range 8 {
		now := epoch.Add(24 * time.Hour)
		spec := func(metric, objects string) string {
			return fmt.Sprintf(`{"level":"pod","objects":%s,"conditions":[{"metric":%q,"statistic":"last","period":"30s","op":">","thresholds":{"warning":80},"need":1,"of":1}],"recoverAfter":1,"noData":{"action":"keep","after":"5m","severity":"warning"},"group":{"by":["policy"],"interval":"5m"}}`, objects, metric)
		}
		var specs []string
		for n := range indexFrom {
			specs = append(specs, spec(catalogue.PodCPULimitPercent, fmt.Sprintf(`{"names":["cart-%d?"]}`, n)))
		}
		specs = append(specs, spec(podWaiting, `{"names":["cart-*"]}`), spec(catalogue.PodCPULimitPercent, `{"selector":"g=3"}`))
		f := &restive{fleet: &fleet{pods: 20, nodes: 2, value: func(int) float64 { return 90 }}, at: at}
		e := engineOf(t, f.fleet, func() time.Time { return now }, specs)
		e.opts.Inventory = f
		for range 2 {
			now = now.Add(interval)
			e.evaluate(context.Background(), round{source: sourceKey{"prod-1", "all"}, trigger: triggerInterval, at: now.Truncate(interval), interval: interval, received: now})
		}
	}
}
