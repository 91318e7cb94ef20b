package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector"
	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/logs"
	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/world"
	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

// settings are all that can be set, by flag, environment or file.
type settings struct {
	role      string
	server    string
	token     config.Secret
	tokenFile string
	caFile    string

	node       string
	kubeconfig string
	context    string
	interval   time.Duration
	data       string
	queueAge   time.Duration
	queueBytes int64
	listen     string
	logLevel   string

	logPath                      string
	logKeep                      logs.Keep
	logConnections, logReadBytes int // through the API server
	noLogs                       bool
	logRules                     logs.Rules
	hostProc                     string
	hostSys                      string
	hostRoot                     string

	kubeletInsecure bool
	kubeletCAFile   string
	kubeletPort     int
	nodeInterfaces  string
	leaderElect     bool
	healthAddress   string
	noPeers         bool
	scrape          world.Scrape
	clusterKind     string
	virtualNodes    bool

	components        map[string]string
	componentCAFile   string
	componentCertFile string
	componentKeyFile  string
}

const envPrefix = "CROWSNEST_COLLECTOR"

func newCommand() *cobra.Command {
	var (
		s    settings
		file string
	)
	cmd := &cobra.Command{
		Use:   "crowsnest-collector",
		Short: "Measures a Kubernetes cluster and sends what it finds to a Crowsnest server",
		Long: `Measures a Kubernetes cluster and sends what it finds to a Crowsnest server.

Roles:
  node      one node, from inside it: its kubelet, its /proc and /sys, its containers' logs (a DaemonSet)
  cluster   the cluster's objects: pods, nodes, workloads, events (a Deployment)
  all       both, from anywhere, through the API server

Every setting can be given as flag, as environment variable (` + envPrefix + `_TOKEN_FILE for --token-file) or in the file
that --config names (token-file: …). A flag wins over the environment, which wins over the file.`,
		Example: `  # a laptop's current kubeconfig, to a server on the same machine
  crowsnest-collector --role all --server http://127.0.0.1:7420 --token-file ingest.token

  # in a DaemonSet
  crowsnest-collector --role node --server https://crowsnest.example --token-file /etc/crowsnest/token --host-root /host`,
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if file == "" {
				file = os.Getenv(config.EnvName(envPrefix, "config"))
			}
			if _, err := config.Load(cmd.Flags(), config.Options{EnvPrefix: envPrefix, File: file}); err != nil {
				return err
			}
			return run(cmd.Context(), s)
		},
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "YAML file of settings")
	f.StringVar(&s.role, "role", wire.RoleAll, "node, cluster or all")
	f.StringVar(&s.server, "server", "http://127.0.0.1:7420", "URL of the server")
	f.Var(&s.token, "token", "ingest token; prefer --token-file")
	f.StringVar(&s.tokenFile, "token-file", "", "file with the ingest token; read again when it changes")
	f.StringVar(&s.caFile, "ca-file", "", "PEM file of the CA that signed the server's certificate (default the system's)")
	f.StringVar(&s.node, "node-name", os.Getenv("NODE_NAME"), "name of the node, in role node; also --node (default $NODE_NAME)")
	f.StringVar(&s.kubeconfig, "kubeconfig", "", "kubeconfig (default $KUBECONFIG, ~/.kube/config, the pod's service account)")
	f.StringVar(&s.context, "context", "", "context of the kubeconfig (default its current one)")
	f.DurationVar(&s.interval, "interval", 0, "10s, 15s, 30s or 60s; overrides what the server says (default 30s until it says)")
	f.StringVar(&s.data, "data", "./collector-data", "folder for what waits to be sent and for positions")
	f.DurationVar(&s.queueAge, "queue-age", 0, "how long samples wait for the server, at least 10m; overrides what the server says (default 24h), which may accept less")
	f.Int64Var(&s.queueBytes, "queue-bytes", 0, "how much waits for the server, in bytes on disk, at least 16 MiB; the oldest go first; overrides what the server says (default 1 GiB)")
	listen := "127.0.0.1:7422"
	if os.Getenv("KUBERNETES_SERVICE_HOST") != "" {
		listen = ":7422" // the kubelet's probes come from outside of the pod
	}
	f.StringVar(&s.listen, "listen", listen, "address of /healthz, /readyz, /metrics and, where targets are scraped, /targets; loopback unless in a pod; empty for none")
	f.StringVar(&s.healthAddress, "health-address", "", "where other nodes' collectors ask whether this one is well, as 10.1.2.3:7422, in role node (default $POD_IP with the port of --listen; without either they ask its node alone)")
	f.BoolVar(&s.noPeers, "no-peers", false, "do not ask other nodes whether they are there, in role node; the server names three for each")
	f.StringVar(&s.logLevel, "log-level", "info", "debug, info, warn or error")
	f.StringVar(&s.logPath, "log-path", "/var/log/pods", "folder of container logs, in role node")
	f.BoolVar(&s.noLogs, "no-logs", false, "do not follow containers' logs")
	rules := &s.logRules
	f.BoolVar(&rules.Join.Off, "no-log-join", false, "make every line of a log a record, instead of joining stack traces and indented lines")
	f.BoolVar(&rules.Mask.Off, "no-log-mask", false, "leave well-known secrets in lines: bearer tokens, keys, private keys, passwords")
	f.StringArrayVar(&rules.Mask.Patterns, "log-mask", nil, "regular expression that is masked in lines: its groups or, without any, all that matches; may be repeated")
	f.StringSliceVar(&rules.Select.Namespaces, "log-namespaces", nil, "namespaces whose logs are followed, as shop,team-* or !kube-system (default all)")
	f.StringSliceVar(&rules.Select.Workloads, "log-workloads", nil, "workloads whose logs are followed, as deployment/cart,statefulset/* or !*/noisy (default all)")
	f.StringSliceVar(&rules.Select.Services, "log-services", nil, "Services whose pods' logs are followed, as cart,shop/* or !*-canary; in role node the server tells of which ones a pod is (default all)")
	f.StringVar(&rules.Select.Labels, "log-selector", "", "selector of labels of pods whose logs are followed")
	f.StringVar(&rules.Select.Annotations, "log-annotations", "", "selector of the pods' annotations that begin with logs.crowsnest.dev/")
	f.Int64Var(&rules.Limit.Lines, "log-lines-per-second", 0, "what one container may log; the rest is dropped, counted and told in its log (default any)")
	f.Int64Var(&rules.Limit.Bytes, "log-bytes-per-second", 0, "the same in bytes (default any)")
	f.IntVar(&s.logConnections, "log-connections", 0, "containers whose logs are followed at once through the API server, in role all and with --virtual-nodes; more take turns (default 200)")
	f.IntVar(&s.logReadBytes, "log-read-bytes-per-second", 0, "what is read of logs through the API server, in role all and with --virtual-nodes (default 33554432)")
	f.Int64Var(&s.logKeep.Bytes, "log-keep-bytes", 256<<20, "what is kept on disk, compressed, of log files that rotation takes while the server is away, of the newest 64 files that are not sent of each container; 0 keeps nothing but what the files and their open descriptors hold")
	f.DurationVar(&s.logKeep.Age, "log-keep-age", 0, "how long it is kept (default 24h)")
	f.StringVar(&s.logKeep.First, "log-backlog", logs.OldestFirst, "oldest: kept log files are sent first, and what comes when they are full is dropped; newest: the oldest make room, and kept files are sent after those in the pods' folders")
	f.IntVar(&rules.Limit.LineBytes, "log-record-bytes", 0, "longest record; the rest of a longer one is cut off (default 262144, and longer ones become several)")
	f.StringVar(&s.hostProc, "host-proc", "", "the node's /proc, in role node (default proc under --host-root)")
	f.StringVar(&s.hostSys, "host-sys", "", "the node's /sys, in role node (default sys under --host-root)")
	f.StringVar(&s.hostRoot, "host-root", "/", "the node's root file system, in role node")
	f.BoolVar(&s.kubeletInsecure, "kubelet-insecure-skip-verify", false,
		"do not check the kubelet's certificate, in role node. Many clusters' kubelets sign their own; without the check, whoever takes the kubelet's address gets the service account's token")
	f.StringVar(&s.kubeletCAFile, "kubelet-ca-file", "", "PEM file of the CA that signed kubelets' certificates (default the cluster's)")
	f.IntVar(&s.kubeletPort, "kubelet-port", 0, "port of kubelets, in role node (default what nodes say)")
	f.StringVar(&s.nodeInterfaces, "node-interfaces", "", "regular expression of nodes' own network interfaces, in role all (default eth0 and en*)")
	f.StringVar(&s.clusterKind, "cluster-kind", "", "managed, independent, elastic or edge (default as the nodes show)")
	f.BoolVar(&s.virtualNodes, "virtual-nodes", false, "in role cluster: also read the usage and the logs of pods on virtual nodes, where no node collector runs; needs list on pods in API group metrics.k8s.io and get on pods/log")
	f.StringToStringVar(&s.components, "component", nil,
		"address of a control plane component that the API server does not stand for, as scheduler=https://10.0.0.5:10259; etcd, scheduler or controller_manager, several by comma")
	f.StringVar(&s.componentCAFile, "component-ca-file", "", "PEM file of the CA that signed those components' certificates; without it they are not checked, and not given the token")
	f.StringVar(&s.componentCertFile, "component-cert-file", "", "PEM file of a client certificate for those components, as etcd wants one")
	f.StringVar(&s.componentKeyFile, "component-key-file", "", "PEM file of its key")
	f.StringSliceVar(&s.scrape.Targets, "scrape", nil,
		"users' own targets that are scraped, in roles cluster and all: annotations (prometheus.io/scrape on pods and Services), monitors (ServiceMonitor, PodMonitor and Probe objects, which need list in API group monitoring.coreos.com)")
	f.StringVar(&s.scrape.File, "scrape-config", "", "YAML file of static jobs, scrape_configs with static_configs as Prometheus has them; read again when it changes")
	f.StringSliceVar(&s.scrape.Raw, "raw", nil,
		"families that pass through unchanged, for rules and dashboards of the community: cadvisor, kubelet, kubelet_resource, kubelet_probes (roles node and all), node-exporter (role node), apiserver, kube-state-metrics (roles cluster and all); crowsnest_scrape_series says what each costs; overrides what the server says (default none)")
	f.IntVar(&s.scrape.Series, "scrape-series", 0, "most series of all scraped targets together; what is beyond is dropped and counted; overrides what the server says (default 200000)")
	f.IntVar(&s.scrape.Samples, "scrape-samples", 10_000, "most samples of one target; a target with more fails")
	f.BoolVar(&s.leaderElect, "leader-elect", true, "in roles cluster and all inside a pod: only one of several collects, by a Lease; users' targets, and the containers' logs in role all and with --virtual-nodes, are shared by all of them")
	f.SetNormalizeFunc(func(_ *pflag.FlagSet, name string) pflag.NormalizedName {
		if name == "node" {
			name = "node-name"
		}
		return pflag.NormalizedName(name)
	})
	return cmd
}

func run(ctx context.Context, s settings) error {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.logLevel)); err != nil {
		return fmt.Errorf("--log-level: must be debug, info, warn or error (got %q)", s.logLevel)
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: level}))
	frugal(log)

	if kinds := []string{"", "managed", "independent", "elastic", "edge"}; !slices.Contains(kinds, s.clusterKind) {
		return fmt.Errorf("--cluster-kind: must be managed, independent, elastic or edge (got %q)", s.clusterKind)
	}
	s.scrape.Interval = s.interval
	s.scrape.Share = s.role != wire.RoleNode && s.leaderElect && s.scrape.Shares()
	if err := s.findHealthAddress(os.Getenv("POD_IP")); err != nil {
		return err
	}
	if s.hostProc == "" {
		s.hostProc = filepath.Join(s.hostRoot, "proc")
	}
	if s.hostSys == "" {
		s.hostSys = filepath.Join(s.hostRoot, "sys")
	}
	var nics *regexp.Regexp
	if s.nodeInterfaces != "" {
		var err error
		if nics, err = regexp.Compile(s.nodeInterfaces); err != nil {
			return fmt.Errorf("--node-interfaces: %w", err)
		}
	}
	reg := prometheus.NewRegistry()
	reg.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))

	if err := os.MkdirAll(s.data, 0o700); err != nil {
		return fmt.Errorf("--data: %w", err)
	}
	client, err := push.NewClient(push.ClientOptions{
		Server: s.server, Token: s.token, TokenFile: s.tokenFile, CAFile: s.caFile, Sender: wire.Sender(s.role, s.node),
	})
	if err != nil {
		return err
	}
	askPeers := client.Peers
	if s.noPeers {
		askPeers = nil
	}
	opened, err := world.Open(ctx, world.Options{
		Kube: kube.Config{Kubeconfig: s.kubeconfig, Context: s.context, UserAgent: "crowsnest-collector/" + version},
		Role: s.role, Node: s.node, Owners: client.Owners, Peers: askPeers, VirtualNodes: s.virtualNodes, Readers: client.Readers, LogReaders: client.LogReaders, LogPositions: client.LogPositions, Services: client.Services, ShareLogs: s.leaderElect, ClusterKind: s.clusterKind, Dir: s.data,
		LogPath: s.logPath, NoLogs: s.noLogs, LogRules: s.logRules, LogKeep: s.logKeep, LogConnections: s.logConnections, LogReadBytes: s.logReadBytes, HostProc: s.hostProc, HostSys: s.hostSys, HostRoot: s.hostRoot,
		KubeletCAFile: s.kubeletCAFile, KubeletInsecureSkipVerify: s.kubeletInsecure, KubeletPort: s.kubeletPort, NodeInterfaces: nics,
		Components: s.components, ComponentCAFile: s.componentCAFile, ComponentCertFile: s.componentCertFile, ComponentKeyFile: s.componentKeyFile,
		Scrape: s.scrape, Logger: log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	tell(log, s, opened)
	replica, err := os.Hostname()
	if err != nil {
		return err
	}
	c, err := collector.New(collector.Options{
		Role: s.role, Node: s.node, Client: client, Interval: s.interval, World: opened.World,
		QueueDir: filepath.Join(s.data, "queue"), QueueAge: s.queueAge, QueueMax: s.queueBytes,
		Version: version, HealthAddress: s.healthAddress, Shared: opened.Members != nil, Replica: replica, Logger: log, Registerer: reg,
	})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	if opened.Members != nil {
		g.Go(func() error { return opened.Members.Run(ctx, c.Share) })
	}
	if s.listen != "" {
		l, err := net.Listen("tcp", s.listen)
		if err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
		g.Go(func() error { return serve(ctx, l, c, reg, opened.Targets()) })
	}
	g.Go(func() error {
		if s.role != wire.RoleNode && s.leaderElect && opened.Client.InCluster() {
			return kube.Lead(ctx, kube.LeadOptions{Client: opened.Client, Name: "crowsnest-collector", Logger: log, Run: func(ctx context.Context) error {
				opened.SetLeading(true)
				defer opened.SetLeading(false)
				return c.Run(ctx)
			}})
		}
		return c.Run(ctx)
	})
	err = g.Wait()
	log.Info("collector ended")
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// findHealthAddress checks where peers are to ask, or makes it of the pod's address.
func (s *settings) findHealthAddress(podIP string) error {
	if s.role != wire.RoleNode || s.healthAddress == "" && (podIP == "" || s.listen == "") {
		return nil
	}
	if s.healthAddress == "" {
		_, port, err := net.SplitHostPort(s.listen)
		if err != nil {
			return fmt.Errorf("--listen: %w", err)
		}
		s.healthAddress = net.JoinHostPort(podIP, port)
	}
	at, err := netip.ParseAddrPort(s.healthAddress)
	if err != nil || at.Port() == 0 {
		return fmt.Errorf("--health-address: must be an IP address and a port, as 10.1.2.3:7422 (got %q)", s.healthAddress)
	}
	return nil
}

// tell says at the start what is collected, and what cannot be.
func tell(log *slog.Logger, s settings, o *world.Opened) {
	log.Info("collecting", "role", s.role, "node", s.node, "cluster", o.Client.Context, "api_server", o.Client.Host(), "kubernetes", o.Version, "server", s.server)
	if s.kubeletInsecure && s.role == wire.RoleNode {
		log.Warn("kubelet's certificate is not checked: whoever takes its address gets this service account's token")
	}
	if s.role == wire.RoleAll {
		log.Info("kubelets are read through the API server, which needs get on nodes/proxy; that right also opens exec")
	}
	if o.Trouble != nil {
		log.Warn("api server does not answer, collecting begins when it does", "err", o.Trouble)
	}
	for _, m := range o.Missing {
		log.Warn("permission is missing", "needs", m.Verb+" on "+m.Resource, "without_it", m.For)
	}
}

// frugal makes the collector small: the heap never grows beyond nine tenths of
// the container's limit. That it may double before it is collected is Go's
// default: with less, a third of a log line's CPU was the garbage collector's.
func frugal(log *slog.Logger) {
	if _, err := memlimit.SetGoMemLimitWithOpts(memlimit.WithRatio(0.9), memlimit.WithProvider(memlimit.FromCgroup)); err != nil {
		log.Debug("no memory limit", "err", err)
	}
}

// serve answers health checks and shows the collector's own metrics.
func serve(ctx context.Context, l net.Listener, c *collector.Collector, reg *prometheus.Registry, targets http.Handler) error {
	mux := http.NewServeMux()
	check := func(w http.ResponseWriter, err error) {
		if err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		fmt.Fprintln(w, "ok")
	}
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { check(w, c.Alive()) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) { check(w, c.Ready()) })
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	if targets != nil {
		mux.Handle("GET /targets", targets)
	}
	srv := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		<-ctx.Done()
		stopCtx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		_ = srv.Shutdown(stopCtx)
	}()
	if err := srv.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	<-stopped
	return nil
}
