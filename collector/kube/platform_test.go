package kube

import (
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
