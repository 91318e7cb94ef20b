package kube

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/crowsnest-dev/crowsnest/collector/state"
)

func TestPlatformObjects(t *testing.T) {
	a, c := newAPI(t)
	a.put("/api/v1/resourcequotas", `{`+meta("small", "q1", "")+`,"status":{"hard":{"requests.cpu":"4","pods":"10","services":"0"},"used":{"requests.cpu":"1","pods":"10","services":"0"}}}`)
	a.put("/api/v1/persistentvolumeclaims", `{`+meta("data", "c1", "")+`,"status":{"phase":"Pending"}}`)
	a.put("/apis/autoscaling/v2/horizontalpodautoscalers", `{`+meta("cart", "h1", "")+
		`,"spec":{"maxReplicas":9,"scaleTargetRef":{"kind":"Deployment","name":"cart"}},"status":{"currentReplicas":2,"desiredReplicas":3}}`)
	a.put("/apis/discovery.k8s.io/v1/endpointslices", `{`+meta("web-x", "e1", "", `"labels":{"kubernetes.io/service-name":"web"}`)+
		`,"addressType":"IPv4","endpoints":[{"addresses":["10.0.0.1"],"conditions":{"ready":true}},{"addresses":["10.0.0.2"],"conditions":{"ready":false}},{"addresses":["10.0.0.3"],"conditions":{"ready":false,"terminating":true}},{"addresses":["10.0.0.4"]}]}`)
	a.put("/apis/discovery.k8s.io/v1/endpointslices", `{`+meta("own", "e2", "")+`,"addressType":"IPv4","endpoints":[]}`)
	s := start(t, c, Options{})
	now := eventually(t, s, "the platform's objects", synced)
	if q := now.Quotas["q1"]; q == nil || q.UsedPercent["requests.cpu"] != 25 || q.UsedPercent["pods"] != 100 || q.UsedPercent["services"] != 0 || q.CPUCores != 4 {
		t.Errorf("quota %+v", q)
	}
	if v := now.Claims["c1"]; v == nil || v.Bound || v.Name != "data" {
		t.Errorf("claim %+v", v)
	}
	if h := now.Autoscalers["h1"]; h == nil || h.Current != 2 || h.Desired != 3 || h.Max != 9 || h.Target.String() != "deployment/cart" {
		t.Errorf("autoscaler %+v", h)
	}
	if e := now.Endpoints["e1"]; e == nil || len(now.Endpoints) != 1 || e.Service != "web" || e.Ready != 2 || e.NotReady != 1 {
		t.Errorf("endpoints %+v", now.Endpoints)
	}
	a.put("/api/v1/persistentvolumeclaims", `{`+meta("data", "c1", "")+`,"status":{"phase":"Bound"}}`)
	eventually(t, s, "the bound claim", func(n *state.Snapshot) bool { return n.Claims["c1"].Bound })
	a.remove("/apis/autoscaling/v2/horizontalpodautoscalers", "cart")
	eventually(t, s, "the end of the autoscaler", func(n *state.Snapshot) bool { return len(n.Autoscalers) == 0 })
}

func TestJobStates(t *testing.T) {
	job := convertJob(read[batchv1.Job](t, `{status: {startTime: "2026-11-23T10:00:00Z", conditions: [{type: Failed, status: "True", lastTransitionTime: "2026-11-23T10:05:00Z"}]}}`))
	if j := job.judge(now, nil).Job; j == nil || !j.Failed || j.FinishedAt.Sub(j.StartedAt).Minutes() != 5 {
		t.Errorf("a failed Job is %+v", j)
	}
	cron := convertCronJob(read[batchv1.CronJob](t, `{metadata: {name: c, creationTimestamp: "2026-11-23T08:30:00Z"}, spec: {schedule: "0 * * * *", jobTemplate: {}}, status: {lastScheduleTime: "2026-11-23T09:00:00Z"}}`))
	if j := cron.judge(now, job).Job; j == nil || !j.Failed || !j.Missed {
		t.Errorf("a CronJob that is overdue after a failed Job is %+v", j)
	}
	done := convertJob(read[batchv1.Job](t, `{status: {startTime: "2026-11-23T11:00:00Z", completionTime: "2026-11-23T11:01:00Z", conditions: [{type: Complete, status: "True"}]}}`))
	if j := cron.judge(now, done).Job; j.Failed || j.FinishedAt.IsZero() {
		t.Errorf("after a later success it is %+v", j)
	}
}

func TestCards(t *testing.T) {
	p := convertPod(read[corev1.Pod](t, `{spec: {containers: [{name: a, resources: {requests: {nvidia.com/gpu: 2}, limits: {nvidia.com/gpu: 2}}},
		{name: b, resources: {requests: {tencent.com/vcuda-core: 30}}}, {name: c, resources: {requests: {nvidia.com/mig-1g.5gb: 1}}}]}}`))
	n := convertNode(read[corev1.Node](t, `{status: {allocatable: {cpu: "4", pods: "110", nvidia.com/gpu: "8"}}}`))
	if p.GPUs != 2.3 || n.GPUs != 8 || n.MaxPods != 110 {
		t.Errorf("the pod asks for %v cards, the node has %v and holds %d pods", p.GPUs, n.GPUs, n.MaxPods)
	}
}

// A Service without a selector has the pods that EndpointSlices name; one with a
// selector says itself which it selects.
func TestPodsOfAServiceWithoutASelector(t *testing.T) {
	a, c := newAPI(t)
	slice := func(name, service string, pods ...string) {
		var endpoints []string
		for _, p := range pods {
			endpoints = append(endpoints, fmt.Sprintf(`{"addresses":["10.0.0.1"],"targetRef":{"kind":"Pod","namespace":"ns","name":%q}}`, p))
		}
		a.put("/apis/discovery.k8s.io/v1/endpointslices", `{`+meta(name, "uid-"+name, "", fmt.Sprintf(`"labels":{"kubernetes.io/service-name":%q}`, service))+
			`,"addressType":"IPv4","endpoints":[`+strings.Join(endpoints, ",")+`]}`)
	}
	slice("by-hand-1", "by-hand", "b")
	slice("cart-1", "cart", "a")
	a.put("/api/v1/services", `{`+meta("by-hand", "v1", "")+`,"spec":{}}`)
	a.put("/api/v1/services", `{`+meta("cart", "v2", "")+`,"spec":{"selector":{"app":"cart"}}}`)
	s := start(t, c, Options{})
	pods := func(n *state.Snapshot, uid string) []string {
		if v := n.Services[uid]; v != nil {
			return v.Pods
		}
		return nil
	}
	eventually(t, s, "the pod of the first slice", func(n *state.Snapshot) bool { return n.Synced && slices.Equal(pods(n, "v1"), []string{"b"}) })
	slice("by-hand-2", "by-hand", "c", "a", "b")
	now := eventually(t, s, "the pods of both slices", func(n *state.Snapshot) bool { return slices.Equal(pods(n, "v1"), []string{"a", "b", "c"}) })
	if got := pods(now, "v2"); len(got) > 0 {
		t.Errorf("pods %v are named beside a selector", got)
	}
	a.remove("/apis/discovery.k8s.io/v1/endpointslices", "by-hand-2")
	eventually(t, s, "the pod of the slice that is left", func(n *state.Snapshot) bool { return slices.Equal(pods(n, "v1"), []string{"b"}) })
	a.remove("/api/v1/services", "by-hand")
	eventually(t, s, "no such Service", func(n *state.Snapshot) bool { return n.Services["v1"] == nil })
	slice("by-hand-1", "by-hand", "a")
	a.put("/api/v1/services", `{`+meta("by-hand", "v3", "")+`,"spec":{}}`)
	eventually(t, s, "the Service that came back", func(n *state.Snapshot) bool { return slices.Equal(pods(n, "v3"), []string{"a"}) })
}
