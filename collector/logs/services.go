package logs

import (
	"errors"

	"github.com/crowsnest-dev/crowsnest/internal/object"
)

// Services tells of which Services pods are. It may be called concurrently.
type Services interface {
	// Of gives the names of a pod's Services. known is false while they cannot be told;
	// it does not wait.
	Of(pod *object.Pod) (names []string, known bool)
}

// verdict is what a selection makes of a container.
type verdict int

const (
	taken verdict = iota
	refused
	// elsewhere is refused for its Services alone: these change without its pod.
	elsewhere
	// undecided waits for its Services to be told.
	undecided
)

// judge says whether a container's lines are collected; pod is nil when it is not
// known, services where no rule asks for them.
func (s selection) judge(id Container, pod *object.Pod, services Services) verdict {
	if !s.takes(id, pod) {
		return refused
	}
	if pod == nil || len(s.services) == 0 {
		return taken
	}
	names, known := services.Of(pod)
	switch {
	case !known:
		return undecided
	case !s.takesServices(pod.Namespace, names):
		return elsewhere
	}
	return taken
}

// takesServices says whether a pod of these Services is meant.
func (s selection) takesServices(namespace string, names []string) bool {
	wanted := onlyLeavesOut(s.services)
	for _, name := range names {
		takes, leavesOut := match(s.services, namespace+"/"+name)
		if leavesOut {
			return false
		}
		wanted = wanted || takes
	}
	return wanted
}

// answerable says that rules which ask for Services have somebody to ask.
func (r *Rules) answerable(s Services) error {
	if len(r.Select.Services) > 0 && s == nil {
		return errors.New("log selection: nobody here tells of which Services a pod is")
	}
	return nil
}
