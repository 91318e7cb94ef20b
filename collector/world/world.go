// Package world opens a real cluster as one collector sees it: which sources a
// role has, and how they are reached. It must not know what is done with them.
package world

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/rest"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/cgroups"
	"github.com/crowsnest-dev/crowsnest/collector/component"
	"github.com/crowsnest-dev/crowsnest/collector/events"
	"github.com/crowsnest-dev/crowsnest/collector/host"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/kubelet"
	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/peers"
	"github.com/crowsnest-dev/crowsnest/collector/reading"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/internal/object"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// Options say which cluster, and how its parts are reached.
type Options struct {
	Kube kube.Config
	Role string // wire.RoleNode, RoleCluster or RoleAll; required
	Node string // required in role node
	// Owners asks the server for workloads, in role node; push.Client has it.
	Owners kube.OwnersFunc
	// Peers asks the server which other nodes are to be asked whether they are
	// there, in role node; push.Client has it. Nil asks none.
	Peers func(ctx context.Context, node string) ([]wire.Peer, error)
	// VirtualNodes has role cluster read the usage and the logs of pods on virtual nodes,
	// as role all does.
	VirtualNodes bool
	// Readers asks the server which of some nodes have collectors of their own, which
	// VirtualNodes leaves to them; push.Client has it. Nil leaves none.
	Readers func(ctx context.Context, nodes []string) ([]string, error)
	// LogReaders asks the server of which of some nodes a collector of their own follows
	// the logs, which role all leaves to it; push.Client has it. Nil leaves none.
	LogReaders func(ctx context.Context, nodes []string) ([]string, error)
	// LogPositions asks the server how far logs were taken; push.Client has it. Required
	// where logs are followed through the API server, unless NoLogs.
	LogPositions func(ctx context.Context, sources []wire.LogSource) ([]wire.LogPosition, error)
	// Services asks the server which Services there are in namespaces, in role node;
	// push.Client has it.
	Services func(ctx context.Context, namespaces []string) ([]*object.Service, error)
	// ShareLogs divides what is followed through the API server among the replicas, in a
	// pod.
	ShareLogs bool
	// ClusterKind overrides what is detected: managed, independent, elastic, edge.
	ClusterKind string
	// Dir keeps positions of logs and events over restarts; required.
	Dir string

	LogPath  string // of container logs on the node; default /var/log/pods
	NoLogs   bool
	LogRules logs.Rules // which lines, and in what shape
	LogKeep  logs.Keep  // what rotation takes while the server is away
	// LogConnections and LogReadBytes bound what is followed at once, and read a
	// second, through the API server; defaults as in logs.APIOptions.
	LogConnections int
	LogReadBytes   int
	HostProc       string // default /proc
	HostSys        string // default /sys
	HostRoot       string // default /

	KubeletCAFile             string // default the cluster's own CA
	KubeletInsecureSkipVerify bool
	KubeletPort               int            // default what nodes say
	NodeInterfaces            *regexp.Regexp // role all; default kubelet.DefaultNICs

	// Components are addresses of control plane components that the API server
	// does not stand for, by name: etcd, scheduler, controller_manager.
	Components        map[string]string
	ComponentCAFile   string // that signed their certificates; without it, neither checked nor given the token
	ComponentCertFile string // client certificate for them, as etcd wants one
	ComponentKeyFile  string

	Scrape Scrape

	Logger     *slog.Logger
	Registerer prometheus.Registerer
	Now        func() time.Time
}

// Opened is a cluster that can be collected.
type Opened struct {
	World   collector.World
	Client  *kube.Client
	Cluster string // an id made of the kubeconfig's context
	Version string // of Kubernetes; empty when the API server did not answer
	// Missing are rights that the credential lacks; what can be collected
	// without them is.
	Missing []kube.Missing
	// Members are the replicas that share users' targets and logs; nil where neither
	// Scrape.Share nor ShareLogs is set.
	Members *kube.Members
	leads   *atomic.Bool
	// Trouble is why the API server could not be asked; collecting begins when
	// it can be reached.
	Trouble error
}

// Open prepares the sources of a role. It asks the API server for its version
// and for missing rights, but an API server that is away is no error: its
// absence is in Trouble. Nothing runs yet.
func Open(ctx context.Context, o Options) (*Opened, error) {
	if o.Dir == "" {
		return nil, errors.New("open world: Dir is required")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	client, err := kube.Open(o.Kube)
	if err != nil {
		return nil, err
	}
	out := &Opened{Client: client, Cluster: kube.ClusterID(client.Context)}
	if err := o.Scrape.check(o.Role); err != nil {
		return nil, fmt.Errorf("open world: %w", err)
	}
	objects, observers := o.Scrape.observers()
	source, err := kube.NewSource(kube.Options{Client: client, Role: o.Role, Node: o.Node, Owners: o.Owners, ClusterKind: o.ClusterKind, Observers: observers, Logger: o.Logger, Now: o.Now})
	if err != nil {
		return nil, err
	}
	out.World.State = source
	if err := os.MkdirAll(o.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("open world: %w", err)
	}
	o.Scrape.Share = o.Scrape.Share && client.InCluster()
	if o.VirtualNodes && o.Role != wire.RoleCluster {
		return nil, fmt.Errorf("open world: %w", fault.Field{Path: "virtual_nodes", Reason: "is for role cluster: role all reads them anyway, and role node one node", Value: o.Role})
	}
	podLogs := (o.Role == wire.RoleAll || o.VirtualNodes) && !o.NoLogs
	o.ShareLogs = o.ShareLogs && client.InCluster() && podLogs
	if out.leads = new(atomic.Bool); o.Scrape.Share || o.ShareLogs {
		if out.Members, err = kube.NewMembers(kube.MembersOptions{Client: client, Name: shardLease, Logger: o.Logger, Now: o.Now}); err != nil {
			return nil, err
		}
	}
	sender := wire.Sender(o.Role, o.Node)
	switch o.Role {
	case wire.RoleNode:
		err = nodeSources(o, client, sender, source, out)
	case wire.RoleAll:
		err = outsideSources(o, client, sender, source, nil, out)
	case wire.RoleCluster:
		if o.VirtualNodes {
			err = outsideSources(o, client, sender, source, newVirtualNodes(o, source), out)
		}
	}
	if err != nil {
		return nil, err
	}
	if o.Role != wire.RoleNode {
		components, err := controlPlane(o, client)
		if err != nil {
			return nil, err
		}
		out.World.Readings = append(out.World.Readings, components)
		mask, err := logs.NewMask(o.LogRules.Mask)
		if err != nil {
			return nil, fmt.Errorf("open world: %w", err)
		}
		w, err := events.New(events.Options{
			Client: client, Sender: sender, File: filepath.Join(o.Dir, "events.json"), Changes: source, Mask: mask, Logger: o.Logger, Now: o.Now,
		})
		if err != nil {
			return nil, err
		}
		out.World.Logs = append(out.World.Logs, clusterEvents{w, o.LogRules.Mask})
	}
	scraper, err := openScraping(o, client, objects, source, out)
	if err != nil {
		return nil, err
	}
	out.World.Scraper = scraper
	if out.Version, out.Trouble = client.Version(ctx); out.Trouble == nil {
		out.Missing, out.Trouble = client.Check(ctx, kube.Rights(kube.Access{
			Role: o.Role, NodeProxy: o.Role == wire.RoleAll, PodMetrics: o.VirtualNodes, PodLogs: podLogs,
			Monitors: slices.Contains(o.Scrape.Targets, ScrapeMonitors),
		}))
	}
	return out, nil
}

// controlPlane is the source of its components' health.
func controlPlane(o Options, client *kube.Client) (*component.Source, error) {
	api, err := url.Parse(client.REST().Host)
	if err == nil && api.Host == "" { // a host without a scheme, as rest.Config allows
		api, err = url.Parse("https://" + client.REST().Host)
	}
	if err != nil {
		return nil, fmt.Errorf("open control plane: %w", err)
	}
	direct, err := component.Direct(component.DirectOptions{
		CAFile: o.ComponentCAFile, CertFile: o.ComponentCertFile, KeyFile: o.ComponentKeyFile, TokenFile: client.REST().BearerTokenFile,
	})
	if err != nil {
		return nil, err
	}
	return component.New(component.Options{API: api, Client: client.HTTP(), Targets: o.Components, Direct: direct, ClientCert: o.ComponentCertFile != "", Logger: o.Logger, Now: o.Now})
}

// nodeSources are those of a collector on the node itself.
func nodeSources(o Options, client *kube.Client, sender string, source *kube.Source, out *Opened) error {
	h, err := host.New(host.Options{Node: o.Node, Proc: o.HostProc, Sys: o.HostSys, Root: o.HostRoot, Now: o.Now})
	if err != nil {
		return err
	}
	direct, err := directKubelets(o, client.REST())
	if err != nil {
		return err
	}
	var before func() *reading.Set
	c, err := cgroups.New(cgroups.Options{Node: o.Node, Root: filepath.Join(cmp.Or(o.HostSys, "/sys"), "fs/cgroup"), Proc: o.HostProc, Now: o.Now})
	switch {
	case errors.Is(err, fault.ErrNotFound):
		o.Logger.Info("cgroup files are not here, containers are read from the kubelet", "err", err)
	case err != nil:
		return err
	default:
		before = c.Last
	}
	k, err := kubelet.New(kubelet.Options{Fetcher: direct, Node: o.Node, Before: before, NICs: o.NodeInterfaces, Logger: o.Logger, Registerer: o.Registerer, Now: o.Now})
	if err != nil {
		return err
	}
	out.World.Readings = []collector.Readings{h, k}
	if before != nil {
		out.World.Readings = []collector.Readings{h, c, k}
	}
	if o.Peers != nil {
		p, err := peers.New(peers.Options{Node: o.Node, Ask: o.Peers, Logger: o.Logger, Now: o.Now})
		if err != nil {
			return err
		}
		out.World.Readings = append(out.World.Readings, p)
	}
	if o.NoLogs {
		return nil
	}
	services := newToldServices(o.Services, o.Logger, o.Now)
	files, err := logs.NewFiles(logs.FilesOptions{
		Root: o.LogPath, Dir: filepath.Join(o.Dir, "logs"), Sender: sender, Node: o.Node, State: source, Services: services, Positions: o.LogPositions, Rules: o.LogRules, Keep: o.LogKeep,
		Logger: o.Logger, Registerer: o.Registerer, Now: o.Now,
	})
	if err != nil {
		return err
	}
	out.World.Logs = append(out.World.Logs, containerLogs{follower: files, local: o.LogRules, beside: services.run})
	out.World.Readings = append(out.World.Readings, logReadings{files.Counts, o.Node, o.Now})
	return nil
}

func directKubelets(o Options, cfg *rest.Config) (*kubelet.Direct, error) {
	d := kubelet.DirectOptions{
		TokenFile: cfg.BearerTokenFile, Token: cfg.BearerToken, CAFile: o.KubeletCAFile,
		InsecureSkipVerify: o.KubeletInsecureSkipVerify, Port: o.KubeletPort, Now: o.Now,
	}
	if d.CAFile == "" {
		d.CAFile, d.CAData = cfg.TLSClientConfig.CAFile, cfg.TLSClientConfig.CAData
	}
	// Outside of a pod the kubeconfig's client certificate stands for the token.
	if err := rest.LoadTLSFiles(cfg); err != nil {
		return nil, fmt.Errorf("read client certificate: %w", err)
	}
	if len(cfg.CertData) > 0 {
		cert, err := tls.X509KeyPair(cfg.CertData, cfg.KeyData)
		if err != nil {
			return nil, fmt.Errorf("read client certificate: %w", err)
		}
		d.ClientCert = cert
	}
	return kubelet.NewDirect(d)
}

// outsideSources are those of a collector that reaches everything through the
// API server, or only what is on virtual nodes; nil for everything.
func outsideSources(o Options, client *kube.Client, sender string, source *kube.Source, only *virtualNodes, out *Opened) error {
	var reads func(*object.Node) bool
	if only != nil {
		reads = only.Reads
	}
	k, err := kubelet.New(kubelet.Options{
		Fetcher: &kubelet.Proxy{URL: client.KubeletURL, Client: client.HTTP()}, PodMetrics: client.PodMetrics, PodEndpoint: kubelet.NewEndpoints().Ask, Reads: reads, Host: only == nil, NICs: o.NodeInterfaces, Logger: o.Logger, Registerer: o.Registerer, Now: o.Now,
	})
	if err != nil {
		return err
	}
	out.World.Readings = []collector.Readings{k}
	if only != nil {
		out.World.Readings[0] = virtualReadings{k, only}
	}
	if o.NoLogs {
		return nil
	}
	var others *logNodes
	follows := reads
	var quiet func() bool
	if only == nil && o.LogReaders != nil {
		others = newLogNodes(o, source)
		follows, quiet = others.Reads, others.Quiet
	}
	var share logs.Share
	if o.ShareLogs {
		share = logShare{out.Members, out.leads}
	}
	followed, err := logs.NewAPI(logs.APIOptions{
		Pods: client, State: source, Services: &watchedServices{state: source}, Positions: o.LogPositions, Share: share, Reads: follows, Quiet: quiet, Rules: o.LogRules, Sender: sender, MaxConnections: o.LogConnections, MaxBytesPerSecond: o.LogReadBytes, Logger: o.Logger, Registerer: o.Registerer, Now: o.Now,
	})
	if err != nil {
		return err
	}
	lines := containerLogs{follower: followed, local: o.LogRules, shared: o.ShareLogs}
	if only != nil {
		lines.beside = only.keep
	}
	if others != nil {
		lines.beside = others.keep
	}
	out.World.Logs = append(out.World.Logs, lines)
	out.World.Readings = append(out.World.Readings, logReadings{followed.Counts, "", o.Now})
	return nil
}
