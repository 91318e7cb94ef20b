package kube

import (
	"fmt"
	"strings"
	"time"
	_ "time/tzdata" // CronJobs name time zones, images may lack them

	"github.com/robfig/cron/v3"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/intstr"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// rolloutDeadline is how long a StatefulSet's or DaemonSet's rollout may excuse
// missing replicas; these have no deadline of their own.
const rolloutDeadline = 10 * time.Minute

// controller is what is kept of a Deployment, StatefulSet, DaemonSet,
// ReplicaSet, Job or CronJob.
type controller struct {
	object.Workload
	kind  string // as Kubernetes writes it
	owner owner

	maxUnavailable int
	rolling        bool          // not all replicas are of the newest revision
	rollingSince   time.Time     // last progress where Kubernetes tells it, else when it was first seen
	deadline       time.Duration // of a rollout; 0 when it cannot excuse anything (any more)
	stuck          bool          // Kubernetes says so

	failed       bool   // a Job that will not be tried again
	failedReason string //

	schedule      cron.Schedule // of a CronJob; nil when it cannot be read
	scheduleError string
	lastSchedule  time.Time
	startDeadline time.Duration // 0: one period
	active        int
	forbid        bool // no second Job while one runs
}

func convertDeployment(d *appsv1.Deployment) *controller {
	desired := int(value(d.Spec.Replicas, 1))
	c := newController("Deployment", metaOf(&d.ObjectMeta), ownerOf(&d.ObjectMeta), &d.Spec.Template.Spec)
	c.Desired, c.Ready, c.Updated = desired, int(d.Status.ReadyReplicas), int(d.Status.UpdatedReplicas)
	c.Revision = d.Annotations["deployment.kubernetes.io/revision"]
	c.Paused = d.Spec.Paused || desired == 0
	c.maxUnavailable = desired // Recreate takes all down
	if ru := d.Spec.Strategy.RollingUpdate; d.Spec.Strategy.Type != appsv1.RecreateDeploymentStrategyType {
		var surge, unavailable *intstr.IntOrString
		if ru != nil {
			surge, unavailable = ru.MaxSurge, ru.MaxUnavailable
		}
		c.maxUnavailable = scaled(unavailable, "25%", desired, false)
		if c.maxUnavailable == 0 && scaled(surge, "25%", desired, true) == 0 {
			c.maxUnavailable = 1 // Kubernetes' own rule, else nothing could move
		}
	}
	c.rolling = d.Status.ObservedGeneration < d.Generation || int(d.Status.UpdatedReplicas) < desired || d.Status.Replicas > d.Status.UpdatedReplicas
	c.deadline = time.Duration(value(d.Spec.ProgressDeadlineSeconds, 600)) * time.Second
	for _, cond := range d.Status.Conditions {
		if cond.Type != appsv1.DeploymentProgressing {
			continue
		}
		c.rollingSince = cond.LastUpdateTime.UTC()
		if cond.Status == corev1.ConditionFalse || cond.Reason == "ProgressDeadlineExceeded" {
			c.deadline = 0
			// Of the template that is there now; the word on the one before stands a
			// moment longer.
			c.stuck = d.Status.ObservedGeneration >= d.Generation && !c.Paused
		}
		// The rollout came to its end; replicas that went missing later are missing.
		if cond.Reason == "NewReplicaSetAvailable" && d.Status.ObservedGeneration >= d.Generation {
			c.rolling = false
		}
	}
	return c
}

func convertStatefulSet(s *appsv1.StatefulSet) *controller {
	desired := int(value(s.Spec.Replicas, 1))
	c := newController("StatefulSet", metaOf(&s.ObjectMeta), ownerOf(&s.ObjectMeta), &s.Spec.Template.Spec)
	c.Desired, c.Ready, c.Updated = desired, int(s.Status.ReadyReplicas), int(s.Status.UpdatedReplicas)
	c.Revision = s.Status.UpdateRevision
	c.Paused = desired == 0
	c.maxUnavailable = 1
	if ru := s.Spec.UpdateStrategy.RollingUpdate; ru != nil && ru.MaxUnavailable != nil {
		c.maxUnavailable = max(1, scaled(ru.MaxUnavailable, "1", desired, true))
	}
	c.rolling = s.Spec.UpdateStrategy.Type != appsv1.OnDeleteStatefulSetStrategyType &&
		(s.Status.ObservedGeneration < s.Generation || (s.Status.CurrentRevision != s.Status.UpdateRevision && int(s.Status.UpdatedReplicas) < desired))
	c.deadline = rolloutDeadline
	return c
}

func convertDaemonSet(d *appsv1.DaemonSet) *controller {
	c := newController("DaemonSet", metaOf(&d.ObjectMeta), ownerOf(&d.ObjectMeta), &d.Spec.Template.Spec)
	c.Desired, c.Ready, c.Updated = int(d.Status.DesiredNumberScheduled), int(d.Status.NumberReady), int(d.Status.UpdatedNumberScheduled)
	c.Revision = d.Annotations["deprecated.daemonset.template.generation"]
	c.maxUnavailable = 1
	if ru := d.Spec.UpdateStrategy.RollingUpdate; ru != nil {
		c.maxUnavailable = scaled(ru.MaxUnavailable, "1", c.Desired, true)
	}
	c.rolling = d.Spec.UpdateStrategy.Type != appsv1.OnDeleteDaemonSetStrategyType &&
		(d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedNumberScheduled < d.Status.DesiredNumberScheduled)
	c.deadline = rolloutDeadline
	return c
}

func convertReplicaSet(r *appsv1.ReplicaSet) *controller {
	c := newController("ReplicaSet", metaOf(&r.ObjectMeta), ownerOf(&r.ObjectMeta), &r.Spec.Template.Spec)
	if c.owner.uid != "" {
		// It is only a step on the way to its Deployment.
		c.Labels, c.Images = nil, nil
		return c
	}
	c.Desired, c.Ready, c.Updated = int(value(r.Spec.Replicas, 1)), int(r.Status.ReadyReplicas), int(r.Status.Replicas)
	c.Paused = c.Desired == 0
	return c
}

func convertJob(j *batchv1.Job) *controller {
	c := newController("Job", metaOf(&j.ObjectMeta), ownerOf(&j.ObjectMeta), &j.Spec.Template.Spec)
	finished := false
	for _, cond := range j.Status.Conditions {
		if cond.Status != corev1.ConditionTrue {
			continue
		}
		switch cond.Type {
		case batchv1.JobFailed:
			c.failed, c.failedReason, finished = true, cond.Reason, true
		case batchv1.JobComplete:
			finished = true
		}
	}
	c.Job = &object.JobState{Failed: c.failed, StartedAt: timeOf(j.Status.StartTime), FinishedAt: timeOf(j.Status.CompletionTime)}
	for _, cond := range j.Status.Conditions {
		if cond.Type == batchv1.JobFailed && cond.Status == corev1.ConditionTrue {
			c.Job.FinishedAt = cond.LastTransitionTime.UTC()
		}
	}
	c.Paused = value(j.Spec.Suspend, false)
	if !finished && !c.Paused {
		c.Desired = int(value(j.Spec.Parallelism, 1))
		if n := j.Spec.Completions; n != nil {
			c.Desired = min(c.Desired, max(0, int(*n-j.Status.Succeeded)))
		}
	}
	c.Ready, c.Updated = int(value(j.Status.Ready, 0)), c.Desired
	return c
}

func convertCronJob(j *batchv1.CronJob) *controller {
	c := newController("CronJob", metaOf(&j.ObjectMeta), ownerOf(&j.ObjectMeta), &j.Spec.JobTemplate.Spec.Template.Spec)
	c.Paused = value(j.Spec.Suspend, false)
	c.active = len(j.Status.Active)
	c.forbid = j.Spec.ConcurrencyPolicy == batchv1.ForbidConcurrent
	c.startDeadline = time.Duration(value(j.Spec.StartingDeadlineSeconds, 0)) * time.Second
	c.lastSchedule = timeOf(j.Status.LastScheduleTime)
	text := j.Spec.Schedule
	if zone := value(j.Spec.TimeZone, ""); zone != "" {
		text = "TZ=" + zone + " " + text
	}
	var err error
	if c.schedule, err = parseSchedule(text); err != nil {
		c.scheduleError = err.Error()
	}
	return c
}

// parseSchedule keeps the library's panics on odd input from the collector.
func parseSchedule(text string) (s cron.Schedule, err error) {
	defer func() {
		if r := recover(); r != nil {
			s, err = nil, fmt.Errorf("schedule %q cannot be read", text)
		}
	}()
	return cron.ParseStandard(text)
}

func newController(kind string, m object.Meta, o owner, spec *corev1.PodSpec) *controller {
	return &controller{
		Workload: object.Workload{Meta: m, Ref: object.WorkloadRef{Type: strings.ToLower(kind), Name: m.Name}, Images: images(spec)},
		kind:     kind, owner: o,
	}
}

// judge fills in Abnormal and Reason as of a time. lastJob is a CronJob's newest
// Job, nil when there is none.
func (c *controller) judge(now time.Time, lastJob *controller) object.Workload {
	w := c.Workload
	switch c.kind {
	case "Job":
		if c.failed {
			w.Abnormal, w.Reason = 1, orElse(c.failedReason, "Failed")
		}
	case "CronJob":
		w.Abnormal, w.Reason = c.judgeCron(now, lastJob)
		job := object.JobState{Missed: c.overdue(now)}
		if lastJob != nil && lastJob.Job != nil {
			job.Failed, job.StartedAt, job.FinishedAt = lastJob.Job.Failed, lastJob.Job.StartedAt, lastJob.Job.FinishedAt
		}
		w.Job = &job
	default:
		w.Rolls = c.kind != "ReplicaSet"
		w.Stuck = c.stuck || c.kind != "Deployment" && c.rolling && !c.excused(now)
		w.Abnormal = max(0, w.Desired-w.Ready)
		if c.excused(now) {
			w.Abnormal = max(0, w.Desired-c.maxUnavailable-w.Ready)
			w.Reason = "rolling out"
		} else if w.Abnormal > 0 {
			w.Reason = fmt.Sprintf("%d of %d replicas not ready", w.Abnormal, w.Desired)
			if c.rolling {
				w.Reason = "rollout makes no progress, " + w.Reason
			}
		}
	}
	return w
}

// excused says whether a rollout is under way, within its deadline.
func (c *controller) excused(now time.Time) bool {
	return c.rolling && c.deadline > 0 && now.Sub(c.rollingSince) < c.deadline
}

func (c *controller) judgeCron(now time.Time, lastJob *controller) (int, string) {
	if lastJob != nil && lastJob.failed {
		return 1, "last Job failed: " + orElse(lastJob.failedReason, "Failed")
	}
	if c.schedule == nil {
		return 1, "schedule cannot be read: " + c.scheduleError
	}
	if due, late := c.due(now); late {
		return 1, "overdue since " + due.UTC().Format(time.RFC3339)
	}
	return 0, ""
}

func (c *controller) overdue(now time.Time) bool {
	_, late := c.due(now)
	return late
}

// due is when a CronJob's next Job should have begun, and whether that is past
// by its deadline, else by one period.
func (c *controller) due(now time.Time) (due time.Time, late bool) {
	if c.schedule == nil || c.Paused || (c.forbid && c.active > 0) {
		return time.Time{}, false
	}
	since := c.lastSchedule
	if since.IsZero() {
		since = c.CreatedAt
	}
	due = c.schedule.Next(since)
	if due.IsZero() {
		return due, false // it never comes, as the 31st of February
	}
	grace := c.startDeadline
	if grace == 0 {
		grace = c.schedule.Next(due).Sub(due)
	}
	return due, now.After(due.Add(grace))
}

// timed says whether judge can change though no object does.
func (c *controller) timed() bool { return c.rolling || c.kind == "CronJob" }

func value[T any](p *T, otherwise T) T {
	if p == nil {
		return otherwise
	}
	return *p
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

func scaled(v *intstr.IntOrString, otherwise string, total int, up bool) int {
	x := intstr.Parse(otherwise)
	if v != nil {
		x = *v
	}
	n, err := intstr.GetScaledValueFromIntOrPercent(&x, total, up)
	if err != nil || n < 0 {
		return 0
	}
	return n
}
