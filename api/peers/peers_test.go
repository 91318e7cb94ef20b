package peers

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/danielgtaylor/huma/v2/humatest"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/control"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

var t0 = time.Unix(1_800_000_000, 0).UTC()

// site makes a Service of nodes and of what their collectors say.
type fleet struct {
	nodes   []*object.Node
	senders map[string]control.Sender
	now     time.Time
}

func newFleet(names ...string) *fleet {
	f := &fleet{senders: map[string]control.Sender{}, now: t0}
	for i, name := range names {
		f.nodes = append(f.nodes, &object.Node{Meta: object.Meta{Name: name}, InternalIP: fmt.Sprintf("10.0.%d.%d", i/250, i%250+1), KubeletPort: 10250})
		f.speak(name)
	}
	return f
}

func (f *fleet) speak(node string, answers ...wire.PeerAnswer) {
	f.senders["node/"+node] = control.Sender{
		Hello:     wire.Hello{Role: wire.RoleNode, Node: node, HealthAddress: "10.244.0.9:7422"},
		Connected: true, LastSeenAt: f.now, Health: wire.Health{Time: f.now, IntervalSeconds: 30, Peers: answers},
	}
}

func (f *fleet) service(t *testing.T) *Service {
	t.Helper()
	s, err := New(Options{
		Nodes: func(string) []*object.Node { return f.nodes }, Senders: func(string) map[string]control.Sender { return f.senders },
		Sender: func(_, name string) (control.Sender, bool) { e, ok := f.senders[name]; return e, ok },
		Now:    func() time.Time { return f.now },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEachNodeIsAskedByThree(t *testing.T) {
	var names []string
	for i := range 60 {
		names = append(names, fmt.Sprintf("node-%02d", i))
	}
	askers := func(f *fleet) map[string][]string {
		s, out := f.service(t), map[string][]string{}
		for _, n := range f.nodes {
			for _, p := range s.Of("c", n.Name) {
				if p.Node == n.Name {
					t.Errorf("%s asks itself", n.Name)
				}
				out[p.Node] = append(out[p.Node], n.Name)
			}
		}
		return out
	}
	f := newFleet(names...)
	f.nodes = append(f.nodes, &object.Node{Meta: object.Meta{Name: "virtual"}, Virtual: true})
	before := askers(f)
	near := 0
	for _, name := range names {
		if len(before[name]) != 3 {
			t.Errorf("%s is asked by %v", name, before[name])
		}
		for _, by := range before[name] {
			if by[:6] == name[:6] { // of the same ten
				near++
			}
		}
	}
	if near > 90 {
		t.Errorf("%d of 180 questions are among neighbours by name", near)
	}
	if len(before["virtual"]) > 0 {
		t.Error("a virtual node is asked")
	}
	// One node less changes who asks three others, no more.
	f.nodes = slices.DeleteFunc(f.nodes, func(n *object.Node) bool { return n.Name == "node-30" })
	changed := 0
	for name, by := range askers(f) {
		if !slices.Equal(by, before[name]) {
			changed++
		}
	}
	if changed != 3 {
		t.Errorf("%d nodes are asked by others after one went", changed)
	}
	for n, want := range map[int]int{1: 0, 2: 1, 3: 2, 4: 3} {
		if got := newFleet(names[:n]...).service(t).Of("c", names[0]); len(got) != want {
			t.Errorf("of %d nodes, each asks %d", n, len(got))
		}
	}
	p := newFleet("a", "b").service(t).Of("c", "a")
	if want := (wire.Peer{Node: "b", Address: "10.0.0.2", KubeletPort: 10250, Collector: "10.244.0.9:7422"}); len(p) != 1 || p[0] != want {
		t.Errorf("asks %+v, want %+v", p, want)
	}
	if got := f.service(t).Of("c", "stranger"); got != nil {
		t.Errorf("a node that is not known asks %v", got)
	}
}

// said reads votes as "b: node kubelet-refused collector-no_answer; c: node", by
// who asks. A probe without a result was answered.
func said(about, text string) map[string][]wire.PeerAnswer {
	out := map[string][]wire.PeerAnswer{}
	for _, part := range strings.Split(text, ";") {
		from, probes, _ := strings.Cut(part, ":")
		from = strings.TrimSpace(from)
		for _, p := range strings.Fields(probes) {
			to := about
			if at, rest, ok := strings.Cut(p, "/"); ok {
				to, p = at, rest
			}
			probe, result, _ := strings.Cut(p, "-")
			if result == "" {
				result = wire.PeerReached
			}
			out[from] = append(out[from], wire.PeerAnswer{Node: to, Probe: probe, Result: result, At: t0})
		}
	}
	return out
}

func TestJudge(t *testing.T) {
	const silent = "node-no_answer kubelet-no_answer collector-no_answer"
	for name, tc := range map[string]struct {
		says string
		mute bool // n's collector is not heard
		none bool // n never had a collector
		want State
		text string // part of the sentence
	}{
		"all is well":                            {says: "b: node kubelet collector; c: node kubelet collector; d: node kubelet collector", want: Reached, text: "3 of 3 peers reach it"},
		"the node is down":                       {says: "b: " + silent + " z/node; c: " + silent + " z/node; d: " + silent + " z/node", mute: true, want: NodeDown, text: "none of 3 peers gets an answer, and its collector is silent"},
		"a node without collector":               {says: "b: node-no_answer kubelet-no_answer z/node; c: node-no_answer kubelet-no_answer z/node", none: true, want: NodeDown, text: "no collector runs on it"},
		"it speaks, nobody reaches it":           {says: "b: " + silent + " z/node; c: " + silent + " z/node", want: Isolated, text: "none of 2 peers gets an answer; its collector reaches the server"},
		"two nodes, the link is down":            {says: "b: " + silent, want: Isolated, text: "the one peer that asks gets no answer"},
		"a link":                                 {says: "b: " + silent + " z/node; c: node kubelet collector; d: node kubelet collector", want: LinkDown, text: "c and d reach it, b not"},
		"one link is left":                       {says: "b: " + silent + " z/node; c: " + silent + " z/node; d: node kubelet collector", want: LinkDown, text: "d reaches it, b and c not"},
		"the kubelet":                            {says: "b: node kubelet-refused collector; c: node kubelet-refused collector", want: KubeletDown, text: "its kubelet does not"},
		"the collector":                          {says: "b: node kubelet collector-refused; c: node kubelet collector-no_answer", mute: true, want: CollectorDown, text: "the collector on it does not"},
		"the collector of one path":              {says: "b: node kubelet collector; c: node kubelet collector-no_answer", want: Reached, text: "2 of 2 peers reach it"},
		"the pods' network":                      {says: "b: node kubelet collector-no_answer; c: node kubelet collector-no_answer", want: PodNetDown, text: "the pods' network fails"},
		"the way to the server":                  {says: "b: node kubelet collector; c: node kubelet collector", mute: true, want: CutOff, text: "the way from that node to the server is down"},
		"a policy forbids all":                   {says: "b: node-forbidden kubelet-forbidden collector-forbidden; c: node-forbidden kubelet-forbidden collector-forbidden", want: Forbidden, text: "does not let them ask"},
		"a policy forbids pods":                  {says: "b: node kubelet collector-forbidden; c: node kubelet collector-forbidden", want: Reached, text: "2 of 2"},
		"a policy, and the node is down":         {says: "b: node-no_answer kubelet-no_answer collector-forbidden z/node", mute: true, want: NodeDown, text: "the one peer"},
		"nobody asks":                            {want: Unknown, text: "no other node asks it"},
		"nobody asks, and it is silent":          {mute: true, want: Unknown, text: "its collector is silent, and no other node asks it"},
		"who asks reaches nobody":                {says: "b: " + silent + " z/node-no_answer", mute: true, want: Unknown, text: "reach nobody else"},
		"one who reaches nobody is not believed": {says: "b: " + silent + " z/node-no_answer; c: node kubelet collector", want: Reached, text: "1 of 1"},
		"a refusal is an answer":                 {says: "b: node-refused kubelet-refused; c: node-refused kubelet-refused", want: KubeletDown, text: "its kubelet"},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFleet("n", "b", "c", "d", "z")
			for from, answers := range said("n", tc.says) {
				if from != "" {
					f.speak(from, answers...)
				}
			}
			if tc.mute {
				e := f.senders["node/n"]
				e.LastSeenAt = t0.Add(-2 * time.Minute) // the connection has not been missed yet
				f.senders["node/n"] = e
			}
			if tc.none {
				delete(f.senders, "node/n")
			}
			v := f.service(t).Verdicts("c")["n"]
			if v.State != tc.want || !strings.Contains(v.Sentence, tc.text) {
				t.Errorf("%s: %q; want %s: …%q…", v.State, v.Sentence, tc.want, tc.text)
			}
			if (v.State.Reason() != "") != v.State.Trouble() {
				t.Errorf("%s has the reason %q", v.State, v.State.Reason())
			}
		})
	}
}

// What was said long ago, or by who is not heard any more, is of another time.
func TestOldWordsAreNotBelieved(t *testing.T) {
	f := newFleet("n", "b")
	f.speak("b", wire.PeerAnswer{Node: "n", Probe: wire.ProbeNode, Result: wire.PeerSilent, At: t0.Add(-5 * time.Minute)})
	if v := f.service(t).Verdicts("c")["n"]; v.State != Unknown {
		t.Errorf("by an old answer: %+v", v)
	}
	f.speak("b", wire.PeerAnswer{Node: "n", Probe: wire.ProbeNode, Result: wire.PeerSilent, At: t0})
	f.now = t0.Add(10 * time.Minute)
	f.speak("n")
	if v := f.service(t).Verdicts("c")["n"]; v.State != Unknown {
		t.Errorf("by who is silent: %+v", v)
	}
}

// Who is heard reads its node.
func TestWhoseCollectorsAreHeard(t *testing.T) {
	f := newFleet("a", "b", "c")
	gone, late := f.senders["node/b"], f.senders["node/c"]
	gone.Connected = false
	late.LastSeenAt = t0.Add(-silence - time.Second)
	f.senders["node/b"], f.senders["node/c"] = gone, late
	if got := f.service(t).Heard("main", []string{"a", "b", "c", "nobody"}); !slices.Equal(got, []string{"a"}) {
		t.Errorf("%v are heard", got)
	}
	late.Health.IntervalSeconds = 60 // three of them have not passed
	f.senders["node/c"] = late
	if got := f.service(t).Heard("main", []string{"c"}); !slices.Equal(got, []string{"c"}) {
		t.Errorf("%v are heard", got)
	}
}

// Of those, some follow logs: they say so as they come, or have containers.
func TestWhoseCollectorsFollowLogs(t *testing.T) {
	f := newFleet("a", "b", "c", "d")
	says, earlier, gone := f.senders["node/a"], f.senders["node/b"], f.senders["node/d"]
	says.Hello.Logs, gone.Hello.Logs, gone.Connected = true, true, false
	earlier.Health.Logs.Containers = 3
	f.senders["node/a"], f.senders["node/b"], f.senders["node/d"] = says, earlier, gone
	if got := f.service(t).FollowLogs("main", []string{"a", "b", "c", "d"}); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("%v follow logs", got)
	}
}

func TestTheSite(t *testing.T) {
	f := newFleet("a", "b", "c")
	all := "node kubelet collector"
	for from, others := range map[string][]string{"a": {"b", "c"}, "b": {"c", "a"}, "c": {"a", "b"}} {
		var answers []wire.PeerAnswer
		for _, to := range others {
			answers = append(answers, said(to, from+": "+all)[from]...)
		}
		f.speak(from, answers...)
	}
	ask := func() ClusterPeers {
		_, api := humatest.New(t)
		Register(api, f.service(t))
		ctx := access.With(context.Background(), access.Principal{Kind: access.LocalAdmin})
		resp := api.GetCtx(ctx, "/clusters/c/peers?limit=2")
		if resp.Code != http.StatusOK {
			t.Fatalf("%d: %s", resp.Code, resp.Body)
		}
		var out ClusterPeers
		if err := json.Unmarshal(resp.Body.Bytes(), &out); err != nil {
			t.Fatal(err)
		}
		return out
	}
	if got := ask(); got.State != "reached" || got.Sentence != "3 of 3 nodes reach each other" || got.Counts["reached"] != 3 || len(got.Nodes) != 2 || len(got.Nodes[0].Votes) != 6 {
		t.Errorf("all is well: %+v", got)
	}
	down := f.senders["node/c"]
	down.Connected = false
	f.senders["node/c"] = down
	silent := said("c", "a: node-no_answer kubelet-no_answer b/node b/kubelet b/collector; b: node-no_answer kubelet-no_answer a/node a/kubelet a/collector")
	f.speak("a", silent["a"]...)
	f.speak("b", silent["b"]...)
	if got := ask(); got.State != "node_down" || got.Nodes[0].Node != "c" || got.Sentence != "1 of 3 nodes have trouble that others see" {
		t.Errorf("one is down: %+v", got)
	}
	f.now = t0.Add(10 * time.Minute)
	if got := ask(); got.State != "cut_off" || !strings.Contains(got.Sentence, "none of 3 nodes is heard") {
		t.Errorf("cut off: %+v", got)
	}
}
