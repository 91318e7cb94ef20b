package incident

import (
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/catalogue"
)

// ExampleMessage is a message as it comes when a pod's CPU is near its limit:
// what a template is tried on while it is written.
func ExampleMessage(now time.Time, l Links) Message {
	const id, policy = "inc_example", "cart-cpu"
	began, value := Time(now.Add(-5*time.Minute)), 98.7
	series := make([]Point, 5)
	for i := range series {
		series[i] = Point{T: now.Add(time.Duration(i-len(series)) * time.Minute), V: 94.7 + float64(i)}
	}
	object := Object{Level: catalogue.Pod, Cluster: "prod-1", Namespace: "shop", WorkloadType: "deployment", Workload: "cart", Pod: "cart-7c9f4d5b8-x2k9p", Node: "n-12"}
	return Message{
		Version: Version, ID: "ntf_example", Type: Firing, Timestamp: Time(now), Sequence: 1,
		Incident: MessageIncident{
			ID: id, URL: l.Incident(id), Title: "cart in shop: CPU above 95 % of its limit", State: "open", Severity: string(catalogue.Critical),
			Cluster: MessageCluster{ID: object.Cluster, Name: object.Cluster}, StartedAt: began, Labels: map[string]string{"team": "shop"},
		},
		Alerts: []MessageAlert{{
			ID: "alt_example", State: "firing", Severity: string(catalogue.Critical), StartedAt: began,
			Policy: MessagePolicy{Name: policy, Project: "default", Revision: 3, URL: l.Policy(policy)},
			Object: object, Dimensions: map[string]string{},
			Conditions: []Condition{{
				Metric: catalogue.PodCPULimitPercent, Statistic: "avg", Period: "1m", Op: ">", Threshold: 95, Need: 5, Of: 5, Value: &value, Unit: string(catalogue.Percent), Holds: true,
			}},
			Explanation: "avg over 1m was 94.7, 95.7, 96.7, 97.7, 98.7 % in the last 5 periods; critical above 95 %",
			Annotations: map[string]string{"summary": `cart is "slow"`},
			Evidence: Evidence{
				Series: series,
				Logs:   []Line{{Time: Time(now.Add(-time.Minute)), Line: `level=error msg="deadline exceeded" path=/checkout`, Level: "error", Pod: object.Pod, Container: "cart"}},
				Events: []Event{{Time: Time(now.Add(-2 * time.Minute)), Reason: "Unhealthy", Message: "Readiness probe failed: timeout", Type: "Warning", Kind: "Pod", Name: object.Pod, Count: 3}},
			},
		}},
	}
}
