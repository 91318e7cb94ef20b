package peers

import (
	"fmt"
	"slices"
	"strings"

	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// State is what follows for a node of what is known of it.
type State string

// States, the worst first.
const (
	NodeDown      State = "node_down"      // no peer gets an answer, and its collector is silent
	Isolated      State = "isolated"       // no peer gets an answer, but its collector speaks to the server
	LinkDown      State = "link_down"      // some peers reach it, others do not
	PodNetDown    State = "pod_network"    // its collector speaks to the server; peers reach the node, but no pod on it
	KubeletDown   State = "kubelet_down"   // the node answers, its kubelet does not
	CollectorDown State = "collector_down" // the node answers, the collector on it does not, to nobody
	CutOff        State = "cut_off"        // peers reach its collector; the server does not hear it
	Reached       State = "reached"        // all is well
	Forbidden     State = "forbidden"      // peers may not ask
	Unknown       State = "unknown"        // nobody says anything
)

// States lists every state, the worst first.
var States = []State{NodeDown, Isolated, LinkDown, PodNetDown, KubeletDown, CollectorDown, CutOff, Unknown, Forbidden, Reached}

// Trouble says whether something is wrong.
func (s State) Trouble() bool { return slices.Index(States, s) < slices.Index(States, Unknown) }

// Reason is the state as a word in the manner of Kubernetes' reasons; empty where
// nothing is wrong.
func (s State) Reason() string {
	if !s.Trouble() {
		return ""
	}
	return map[State]string{
		NodeDown: "Unreachable", Isolated: "Isolated", LinkDown: "LinkDown", PodNetDown: "PodNetworkDown", KubeletDown: "KubeletDown",
		CollectorDown: "CollectorDown", CutOff: "CollectorCutOff",
	}[s]
}

// Verdict is what follows for one node.
type Verdict struct {
	State    State
	Sentence string // for people
	votes    []vote
}

// vote is one node's word on another one.
type vote struct {
	wire.PeerAnswer
	from  string
	alone bool // it reaches none of those that it asks
}

// hearing says of which nodes the server hears the collector. A node that is not
// in it never had one.
type hearing map[string]bool

// judge draws the conclusion for one node.
func judge(node string, heard hearing, votes []vote) Verdict {
	v := Verdict{votes: votes}
	speaks, known := heard[node]
	var by [3]struct{ yes, no []string } // node or anything, kubelet, collector
	got := map[string]bool{}             // who asks → whether anything came back
	forbidden, ignored := 0, 0
	for _, w := range votes {
		switch {
		case w.Result == wire.PeerForbidden:
			forbidden++
			continue
		case w.alone:
			ignored++
			continue
		}
		// A refusal, or an answer that makes no sense, still comes from there.
		got[w.from] = got[w.from] || w.Result != wire.PeerSilent
		i := slices.Index([]string{wire.ProbeNode, wire.ProbeKubelet, wire.ProbeCollector}, w.Probe)
		if i <= 0 {
			continue
		}
		if w.Result == wire.PeerReached {
			by[i].yes = append(by[i].yes, w.from)
		} else {
			by[i].no = append(by[i].no, w.from)
		}
	}
	for _, from := range sorted(got) {
		if got[from] {
			by[0].yes = append(by[0].yes, from)
		} else {
			by[0].no = append(by[0].no, from)
		}
	}
	say := func(s State, format string, args ...any) Verdict {
		v.State, v.Sentence = s, fmt.Sprintf(format, args...)
		return v
	}
	asked := len(got)
	collector := "its collector is silent"
	if !known {
		collector = "no collector runs on it"
	}
	reached, kubelet, health := by[0], by[1], by[2]
	switch {
	case asked == 0 && ignored > 0:
		return say(Unknown, "those who ask it reach nobody else either")
	case asked == 0 && forbidden > 0:
		return say(Forbidden, "its peers have never got an answer from any node: the network does not let them ask")
	case asked == 0 && known && !speaks:
		return say(Unknown, "its collector is silent, and no other node asks it")
	case asked == 0:
		return say(Unknown, "no other node asks it")
	case len(reached.yes) == 0 && speaks:
		return say(Isolated, "%s; its collector reaches the server, so the network between nodes is what fails", nobody(asked))
	case len(reached.yes) == 0:
		return say(NodeDown, "%s, and %s", nobody(asked), collector)
	case len(reached.no) > 0:
		return say(LinkDown, "%s %s it, %s not: the link between them is down", list(reached.yes), verb(reached.yes, "reaches", "reach"), list(reached.no))
	case speaks && len(health.yes) == 0 && len(health.no) > 0:
		return say(PodNetDown, "its peers reach the node, but not the collector on it, which speaks to the server: the pods' network fails")
	case len(kubelet.yes) == 0 && len(kubelet.no) > 0:
		return say(KubeletDown, "the node answers, its kubelet does not")
	case len(health.yes) == 0 && len(health.no) > 0:
		return say(CollectorDown, "the node answers, the collector on it does not")
	case len(health.yes) > 0 && !speaks:
		return say(CutOff, "its peers find its collector well, but the server does not hear it: the way from that node to the server is down")
	}
	return say(Reached, "%d of %d peers reach it", len(reached.yes), asked)
}

func nobody(asked int) string {
	if asked == 1 {
		return "the one peer that asks gets no answer"
	}
	return fmt.Sprintf("none of %d peers gets an answer", asked)
}

func verb(who []string, one, many string) string {
	if len(who) == 1 {
		return one
	}
	return many
}

func list(names []string) string {
	if len(names) == 1 {
		return names[0]
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

func sorted(of map[string]bool) []string {
	out := make([]string, 0, len(of))
	for name := range of {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

// Site is what follows for a cluster as a whole.
type Site struct {
	State    State // Reached, CutOff, Unknown, or that of its worst node
	Sentence string
}

// site draws the conclusion for the cluster: when every collector that was there
// fell silent, the way to the site is down, or all of it; nobody can tell which.
func site(heard hearing, verdicts map[string]Verdict) Site {
	silent, speaking := 0, 0
	for _, there := range heard {
		if there {
			speaking++
		} else {
			silent++
		}
	}
	judged, trouble, worst := 0, 0, Reached
	for _, v := range verdicts {
		if v.State != Unknown && v.State != Forbidden {
			judged++
		}
		if v.State.Trouble() {
			trouble++
			if slices.Index(States, v.State) < slices.Index(States, worst) {
				worst = v.State
			}
		}
	}
	switch {
	case speaking+silent == 0:
		return Site{Unknown, "no collector on a node has been heard"}
	case speaking == 0:
		return Site{CutOff, fmt.Sprintf("none of %d nodes is heard: the way from the site to this server is down, or the whole site", silent)}
	case trouble > 0:
		return Site{worst, fmt.Sprintf("%d of %d nodes have trouble that others see", trouble, len(verdicts))}
	case judged == 0:
		return Site{Unknown, "no node can ask another one"}
	}
	return Site{Reached, fmt.Sprintf("%d of %d nodes reach each other", judged, len(verdicts))}
}
