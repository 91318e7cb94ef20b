package inventory

import (
	"fmt"
	"strings"
	"time"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// trouble is the workload that a cluster's sentence names.
type trouble struct {
	name   string
	reason string        // of its worst pod, else its own
	since  time.Duration // how long it has been abnormal; 0 when unknown
	ready  int
	wanted int
	job    bool
}

// facts are what a cluster's state and sentence are made from.
type facts struct {
	synced    bool
	unlisted  string    // why its objects are not listed; empty when nothing is known to hinder
	lastSeen  time.Time // zero: never
	interval  time.Duration
	nodes     NodeCount
	notReady  []string // names of real nodes
	workloads WorkloadCount
	worst     *trouble
	incidents IncidentCount
	down      int // sources that are down
	sources   int
}

// staleAfter is how long a cluster may be silent.
func staleAfter(interval time.Duration) time.Duration { return 3 * interval }

// judge gives the state and the sentence of a cluster at a time.
func judge(f facts, now time.Time) (state, sentence string) {
	if f.lastSeen.IsZero() || !f.synced {
		if f.lastSeen.IsZero() {
			return StateWaiting, "Waiting for the first data"
		}
		if f.unlisted != "" {
			return StateWarning, "Its objects cannot be listed: " + f.unlisted
		}
		return StateWaiting, "Its objects are being listed"
	}
	silent := now.Sub(f.lastSeen)
	var parts []string
	state = StateOK
	worse := func(s string) {
		if state == StateOK || s == StateCritical {
			state = s
		}
	}
	if n := len(f.notReady); n > 0 {
		worse(StateCritical)
		if n == 1 {
			parts = append(parts, fmt.Sprintf("node %s is not ready", f.notReady[0]))
		} else {
			parts = append(parts, fmt.Sprintf("%d of %s are not ready", n, plural(f.nodes.Total, "node")))
		}
	}
	if f.workloads.Abnormal > 0 {
		worse(StateWarning)
		parts = append(parts, fmt.Sprintf("%d of %s %s unhealthy", f.workloads.Abnormal, plural(f.workloads.Total, "workload"), isAre(f.workloads.Abnormal)))
		if f.worst != nil {
			parts = append(parts, f.worst.String())
		}
	}
	switch {
	case f.incidents.Critical > 0:
		worse(StateCritical)
	case f.incidents.Warning > 0:
		worse(StateWarning)
	}
	if len(parts) == 0 {
		switch f.workloads.Total {
		case 0:
			parts = append(parts, "there are no workloads yet")
		case 1:
			parts = append(parts, "its one workload is healthy")
		default:
			parts = append(parts, fmt.Sprintf("all %d workloads are healthy", f.workloads.Total))
		}
		if n := f.incidents.Critical + f.incidents.Warning; n > 0 {
			parts = append(parts, fmt.Sprintf("%s %s open", plural(n, "incident"), isAre(n)))
		}
	}
	if f.down > 0 {
		worse(StateWarning)
		parts = append(parts, fmt.Sprintf("%d of %s cannot be read", f.down, plural(f.sources, "source")))
	}
	if silent > staleAfter(f.interval) {
		state = StateStale
		parts = append([]string{fmt.Sprintf("no data for %s; as last seen", span(silent))}, parts...)
		return state, capital(parts[0] + ", " + strings.Join(parts[1:], "; "))
	}
	return state, capital(strings.Join(parts, "; "))
}

// String says what a workload does, and for how long: "cart has been restarting
// for 12 min".
func (t trouble) String() string {
	// doing follows "has been", state follows "is".
	doing, state := "", ""
	switch t.reason {
	case "CrashLoopBackOff", "Error", "Completed":
		doing, state = "restarting", "restarting"
	case "OOMKilled":
		doing, state = "running out of memory", "running out of memory"
	case "ImagePullBackOff", "ErrImagePull", "InvalidImageName", "ErrImageNeverPull":
		doing, state = "unable to pull its image", "unable to pull its image"
	case "CreateContainerConfigError", "CreateContainerError", "RunContainerError":
		doing, state = "unable to start its containers", "unable to start its containers"
	case "Unschedulable":
		doing, state = "without a node for its pods", "without a node for its pods"
	default:
		if t.job {
			if t.since > 0 {
				return fmt.Sprintf("%s failed %s ago", t.name, span(t.since))
			}
			return t.name + " failed"
		}
		state = fmt.Sprintf("at %d of %s", t.ready, plural(t.wanted, "replica"))
		doing = state
	}
	if t.since > 0 {
		return fmt.Sprintf("%s has been %s for %s", t.name, doing, span(t.since))
	}
	return fmt.Sprintf("%s is %s", t.name, state)
}

// span says a duration in its largest unit: 40 s, 12 min, 3 h, 2 days.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%d s", max(1, int(d.Seconds())))
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", int(d.Hours()))
	}
	return fmt.Sprintf("%d days", int(d.Hours()/24))
}

func plural(n int, word string) string {
	if n == 1 {
		return fmt.Sprintf("%d %s", n, word)
	}
	return fmt.Sprintf("%d %ss", n, word)
}

func isAre(n int) string {
	if n == 1 {
		return "is"
	}
	return "are"
}

func capital(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

// flapGap is how long an abnormal workload may look well in between: a container
// that crashes in a loop is ready for moments, up to 5 min apart.
const flapGap = 6 * time.Minute

// abnormalSince finds since when a workload has been abnormal, from its states,
// oldest first. Short spells of being well do not count.
func abnormalSince(states []state, now time.Time) time.Time {
	since := time.Time{}
	wellFrom := now // the beginning of what follows the state at hand
	for i := len(states) - 1; i >= 0; i-- {
		s := states[i]
		if s.abnormal {
			since, wellFrom = s.from, s.from
			continue
		}
		if wellFrom.Sub(s.from) > flapGap {
			break
		}
	}
	return since
}

// state is one state of a workload.
type state struct {
	from     time.Time
	abnormal bool
}

// isJob tells workloads that end by themselves.
func isJob(ref object.WorkloadRef) bool { return ref.Type == "job" || ref.Type == "cronjob" }
