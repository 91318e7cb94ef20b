package peers

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/api/problem"
)

// ClusterPeers is what the nodes of a cluster say of each other.
type ClusterPeers struct {
	Cluster  string         `json:"cluster"`
	State    string         `json:"state" doc:"cut_off when no collector on a node is heard any more; else that of the worst node." enum:"node_down,isolated,link_down,pod_network,kubelet_down,collector_down,cut_off,unknown,forbidden,reached"`
	Sentence string         `json:"sentence" doc:"The state as a person would say it."`
	Counts   map[string]int `json:"counts" doc:"Nodes by state."`
	Nodes    []NodePeers    `json:"nodes" nullable:"false" doc:"The worst first; at most as many as asked for."`
}

// NodePeers is what follows for one node.
type NodePeers struct {
	Node     string `json:"node"`
	State    string `json:"state" enum:"node_down,isolated,link_down,pod_network,kubelet_down,collector_down,cut_off,unknown,forbidden,reached"`
	Sentence string `json:"sentence" doc:"The state as a person would say it."`
	Votes    []Vote `json:"votes" nullable:"false" doc:"What the other nodes that ask it got."`
}

// Vote is what one node got of another one.
type Vote struct {
	Peer   string    `json:"peer" doc:"The node that asked."`
	Probe  string    `json:"probe" doc:"node: anything at its address; kubelet: its port; collector: its health, over the pods' network." enum:"node,kubelet,collector"`
	Result string    `json:"result" doc:"forbidden: no node ever got such an answer, so that it says nothing of this one." enum:"reached,refused,no_answer,unwell,forbidden"`
	Error  string    `json:"error,omitempty"`
	At     time.Time `json:"at"`
}

type getInput struct {
	Cluster string `path:"cluster" doc:"The cluster's id." maxLength:"63"`
	Limit   int    `query:"limit" default:"200" minimum:"0" maximum:"20000" doc:"How many nodes are listed; 0 for all."`
}

// Register adds GET /clusters/{cluster}/peers. A service that is nil serves for
// the document only.
func Register(api huma.API, s *Service) {
	huma.Register(api, huma.Operation{
		OperationID: "get-cluster-peers", Method: http.MethodGet, Path: "/clusters/{cluster}/peers", Tags: []string{"clusters"},
		Summary: "Show what a cluster's nodes say of each other",
		Description: "Each node's collector asks three other nodes whether anything answers at their address, whether their kubelet does and whether their collector is well. " +
			"Together with which collectors the server hears, that tells apart a node, a link, the pods' network, a kubelet and a collector that is down. Answers are in memory only; their past is k8s_node_peer_reached.",
	}, func(ctx context.Context, in *getInput) (*struct{ Body ClusterPeers }, error) {
		if err := access.Authorize(ctx, access.Read, in.Cluster, ""); err != nil {
			return nil, problem.Error(err)
		}
		return &struct{ Body ClusterPeers }{s.describe(in.Cluster, in.Limit)}, nil
	})
}

func (s *Service) describe(cluster string, limit int) ClusterPeers {
	heard, votes := s.testimony(cluster)
	verdicts := map[string]Verdict{}
	for _, n := range s.opts.Nodes(cluster) {
		if !n.Virtual {
			verdicts[n.Name] = judge(n.Name, heard, votes[n.Name])
		}
	}
	whole := site(heard, verdicts)
	out := ClusterPeers{Cluster: cluster, State: string(whole.State), Sentence: whole.Sentence, Counts: map[string]int{}, Nodes: []NodePeers{}}
	for name, v := range verdicts {
		out.Counts[string(v.State)]++
		out.Nodes = append(out.Nodes, NodePeers{Node: name, State: string(v.State), Sentence: v.Sentence})
	}
	slices.SortFunc(out.Nodes, func(a, b NodePeers) int {
		if d := slices.Index(States, State(a.State)) - slices.Index(States, State(b.State)); d != 0 {
			return d
		}
		return strings.Compare(a.Node, b.Node)
	})
	if limit > 0 && len(out.Nodes) > limit {
		out.Nodes = out.Nodes[:limit]
	}
	for i := range out.Nodes {
		n := &out.Nodes[i]
		n.Votes = []Vote{}
		for _, v := range verdicts[n.Node].votes {
			n.Votes = append(n.Votes, Vote{Peer: v.from, Probe: v.Probe, Result: v.Result, Error: v.Error, At: v.At})
		}
	}
	return out
}
