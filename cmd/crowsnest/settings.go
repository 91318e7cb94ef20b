package main

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/api/access"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
	"github.com/crowsnest-dev/crowsnest/storage/classes"
	"github.com/crowsnest-dev/crowsnest/storage/ingest"
)

const (
	defaultListen = "127.0.0.1:7420"
	day           = 24 * time.Hour
)

// settings are what the server can be told. Their names are the flags'.
type settings struct {
	data         string
	backupDir    string
	backupBucket string // file
	backupsKept  int
	listen       string
	adminListen  string
	externalURL  string
	certFile     string
	keyFile      string
	apiTokenFile string
	ingestTokens tokenFiles
	metricsFor   *period
	metricsMax   *size
	metricsSync  bool
	// Of a remote engine.
	metricsEngine, metricsWriteURL, metricsQueryURL, metricsHTTPFile string
	logsEngine, logsWriteURL, logsQueryURL, logsHTTPFile             string
	logsFor                                                          *period
	logsMax                                                          *size
	logsClusters                                                     *clusterPeriods
	logsQueries, logsQueryRows                                       *number
	logsQueryTime                                                    *period
	window                                                           *period
	webhookCIDRs                                                     *cidrs
	ruleFiles                                                        []string
	presets                                                          bool
	classes                                                          *metricClasses
	classOf                                                          *clusterClasses
	metricsBlock                                                     *choice
	// alertmanagers are told what alerting rules find, too.
	alertmanagers *addresses

	// Of one cluster's metrics writes; 0 is none but for the first.
	seriesPerCluster, seriesPerNamespace, seriesPerWorkload, samplesPerSecond, samplesPerNamespace, samplesPerWorkload int
}

func newSettings() *settings {
	return &settings{
		metricsFor: newPeriod(90*day, day, 3650*day), metricsMax: &size{}, classes: &metricClasses{min: day, max: 3650 * day}, classOf: &clusterClasses{},
		metricsBlock: newChoice("1h", "1h", "2h"),
		logsFor:      newPeriod(90*day, day, 3650*day), logsMax: &size{}, logsClusters: &clusterPeriods{min: day, max: 3650 * day},
		logsQueries: newWhole(0, 0, 10_000), logsQueryRows: newWhole(1_000_000, 1, 100_000_000), logsQueryTime: newPeriod(time.Minute, time.Second, longestQuery),
		window:       newPeriod(48*time.Hour, 0, 30*day),
		webhookCIDRs: &cidrs{}, alertmanagers: &addresses{}, seriesPerCluster: 3_000_000, backupsKept: 7, metricsEngine: engineEmbedded, logsEngine: engineEmbedded,
	}
}

func (s *settings) flags(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&s.data, "data", "./data", "folder of all that the server keeps; made when it is not there")
	f.StringVar(&s.backupDir, "backup-dir", "", "folder for backups, outside the data folder; no backups when empty")
	f.StringVar(&s.backupBucket, "backup-bucket", "", "file of a bucket for backups in place of a folder, as Thanos' --objstore.config-file has it: S3 or FILESYSTEM; each server needs a prefix of its own")
	f.IntVar(&s.backupsKept, "backups-kept", s.backupsKept, "backups that stay; older ones are removed after each new one; 0 for all")
	f.StringVar(&s.listen, "listen", defaultListen, "address to listen on; other than loopback only with --api-token-file")
	f.StringVar(&s.adminListen, "admin-listen", "", "address for profiling (/debug/pprof), for example 127.0.0.1:7421; off when empty")
	f.StringVar(&s.externalURL, "external-url", "", "address of the console for links in notifications; default: the listener's")
	f.StringVar(&s.certFile, "tls-cert-file", "", "file of the TLS certificate, PEM, its chain behind it; every listener then speaks TLS")
	f.StringVar(&s.keyFile, "tls-key-file", "", "file of the certificate's key, PEM")
	f.StringVar(&s.apiTokenFile, "api-token-file", "", "file of API tokens, one a line; the server then wants a token with every request")
	f.Var(&s.ingestTokens, "ingest-token-file", "CLUSTER=FILE: ingest tokens of a cluster, one a line (repeatable)")
	f.Var(s.metricsFor, "metrics-retention", "how long samples are kept")
	f.Var(s.metricsMax, "metrics-max-bytes", "disk space of samples, for example 50GiB; the oldest go first; 0 for no bound")
	f.StringVar(&s.metricsEngine, "metrics-engine", s.metricsEngine, "what keeps samples: embedded, or remote for Thanos, VictoriaMetrics or another engine that takes remote write and answers Prometheus' query API")
	f.StringVar(&s.metricsWriteURL, "metrics-write-url", "", "of a remote engine: where it takes remote write, for example http://thanos-receive:19291/api/v1/receive")
	f.StringVar(&s.metricsQueryURL, "metrics-query-url", "", "of a remote engine: the address below which /api/v1/query is, for example http://thanos-query:9090")
	f.StringVar(&s.metricsHTTPFile, "metrics-http-config", "", "of a remote engine: file of headers, credentials and TLS, as Prometheus' http_config has them")
	f.Var(s.metricsBlock, "metrics-block", "time of the smallest block of samples, 1h or 2h: with 2h a start after a kill reads twice as much back and takes more memory, and samples at 60 s take about a seventh less disk; at 30 s and less both take the same")
	f.Var(s.classes, "metrics-class", fmt.Sprintf("CLASS=DURATION or CLASS=DURATION:SIZE: how long samples of a class are kept, and in how much space (repeatable): %q for what is not in the catalogue, and up to %d of your own for --metrics-class-of; without one as --metrics-retention says", classes.Raw, classes.MaxNamed))
	f.Var(s.classOf, "metrics-class-of", "CLUSTER=CLASS: keep all samples of a cluster as a class of --metrics-class says (repeatable); what it sent before stays where it is")
	f.BoolVar(&s.metricsSync, "metrics-sync", false, "write samples through to the disk before they are acknowledged, so that they survive a power cut; without it they survive a kill of the server")
	f.Var(s.logsFor, "logs-retention", "how long log lines and events are kept")
	f.StringVar(&s.logsEngine, "logs-engine", s.logsEngine, "what keeps log lines and events: embedded, or remote for a VictoriaLogs, single node or cluster")
	f.StringVar(&s.logsWriteURL, "logs-write-url", "", "of a remote log engine: the address below which /internal/insert is, for example http://victorialogs:9428, or vlinsert's")
	f.StringVar(&s.logsQueryURL, "logs-query-url", "", "of a remote log engine: the address below which /internal/select is, for example http://victorialogs:9428, or vlselect's; default --logs-write-url")
	f.StringVar(&s.logsHTTPFile, "logs-http-config", "", "of a remote log engine: file of headers, credentials and TLS, as Prometheus' http_config has them")
	f.Var(s.logsClusters, "logs-retention-of", "CLUSTER=DURATION: how long a cluster's log lines are kept when not as long as all others' (repeatable)")
	f.Var(s.logsMax, "logs-max-bytes", "disk space of log lines; the oldest days go first; 0 for no bound")
	f.Var(s.logsQueries, "logs-queries", "LogsQL queries that run at once, others wait 10s for their turn; 0 for two per CPU and at least 4")
	f.Var(s.logsQueryTime, "logs-query-time", "how long one LogsQL query may run, downloads and live tails apart")
	f.Var(s.logsQueryRows, "logs-query-rows", "rows or values that one answer to LogsQL may have, downloads and live tails apart")
	f.Var(s.window, "out-of-order-window", "how late samples may come, after an outage for example")
	f.IntVar(&s.seriesPerCluster, "series-per-cluster", s.seriesPerCluster, "active series that a cluster may have; new ones beyond it are refused")
	f.IntVar(&s.seriesPerNamespace, "series-per-namespace", 0, "active series that each namespace of a cluster may have; 0 for no bound of its own")
	f.IntVar(&s.seriesPerWorkload, "series-per-workload", 0, "active series that each workload may have; 0 for no bound of its own")
	f.IntVar(&s.samplesPerSecond, "samples-per-second", 0, "samples a second that each cluster may send; 0 for no bound")
	f.IntVar(&s.samplesPerNamespace, "samples-per-namespace", 0, "samples a second that each namespace of a cluster may send; what is over is refused, the rest stored; 0 for no bound of its own")
	f.IntVar(&s.samplesPerWorkload, "samples-per-workload", 0, "samples a second that each workload may send; what is over is refused, the rest stored; 0 for no bound of its own")
	f.Var(s.webhookCIDRs, "allow-webhook-cidr", "address ranges inside your network that webhooks may be sent to (repeatable); public addresses always are")
	f.BoolVar(&s.presets, "presets", true, "bring the policies that come with the product; those that were deleted or taken over are left alone")
	f.StringSliceVar(&s.ruleFiles, "rule-file", nil, "file of Prometheus' recording and alerting rules, or a pattern such as /etc/rules/*.yml (repeatable); looked at every 30 s")
	f.Var(s.alertmanagers, "alertmanager", "address of an Alertmanager that is told what alerting rules find, too, for example http://alertmanager:9093 (repeatable)")
}

// checkEngine looks at what says where samples or lines are kept.
func checkEngine(fs *fault.Fields, what, engine, writeURL, queryURL, httpFile string) {
	urls := map[string]string{what + "-write-url": writeURL, what + "-query-url": queryURL}
	switch engine {
	case engineRemote:
		for name, text := range urls {
			if u, err := url.Parse(text); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
				fs.Add(name, "must be a URL of http or https where "+what+"-engine is remote", text)
			}
		}
	case engineEmbedded:
		urls[what+"-http-config"] = httpFile
		for name, text := range urls {
			if text != "" {
				fs.Add(name, "is of a remote engine: set "+what+"-engine to remote, or leave it out", text)
			}
		}
	default:
		fs.Add(what+"-engine", "must be embedded or remote", engine)
	}
}

// check finds what no single value shows.
func (s *settings) check() error {
	var fs fault.Fields
	if s.data == "" {
		fs.Add("data", "must name a folder", nil)
	}
	if s.backupDir != "" && inside(s.backupDir, s.data) {
		fs.Add("backup-dir", "must lie outside the data folder, best on another disk", s.backupDir)
	}
	if s.backupDir != "" && s.backupBucket != "" {
		fs.Add("backup-bucket", "is another place than --backup-dir: give one of them", s.backupBucket)
	}
	if s.backupsKept < 0 {
		fs.Add("backups-kept", "must not be negative", s.backupsKept)
	}
	for name, addr := range map[string]string{"listen": s.listen, "admin-listen": s.adminListen} {
		if addr == "" && name == "admin-listen" {
			continue
		}
		if _, err := net.ResolveTCPAddr("tcp", addr); err != nil {
			fs.Add(name, "must be HOST:PORT, for example "+defaultListen, addr)
		}
	}
	if s.logsEngine == engineRemote && s.logsQueryURL == "" {
		s.logsQueryURL = s.logsWriteURL // of a single node
	}
	checkEngine(&fs, "metrics", s.metricsEngine, s.metricsWriteURL, s.metricsQueryURL, s.metricsHTTPFile)
	checkEngine(&fs, "logs", s.logsEngine, s.logsWriteURL, s.logsQueryURL, s.logsHTTPFile)
	if s.logsEngine == engineRemote && s.logsMax.bytes > 0 {
		fs.Add("logs-max-bytes", "is for the embedded engine; a remote one has a bound of its own", s.logsMax.String())
	}
	if (s.certFile == "") != (s.keyFile == "") {
		fs.Add("tls-cert-file", "and tls-key-file go together", s.certFile)
	}
	if s.externalURL != "" {
		if u, err := url.Parse(s.externalURL); err != nil || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
			fs.Add("external-url", "must be a URL such as https://crowsnest.example.com", s.externalURL)
		}
	}
	if s.window.value > s.metricsFor.value {
		fs.Add("out-of-order-window", fmt.Sprintf("must not be longer than metrics-retention (%s)", s.metricsFor), s.window.String())
	}
	if s.metricsEngine == engineRemote && len(s.classes.list) > 0 {
		fs.Add("metrics-class", "is for the embedded engine; a remote one has its own retention", s.classes.String())
	}
	_, named := s.classes.split()
	if len(named) > classes.MaxNamed {
		fs.Add("metrics-class", fmt.Sprintf("must be %q and at most %d others", classes.Raw, classes.MaxNamed), s.classes.String())
	}
	for _, c := range named {
		if !classes.ValidName(c.Name) {
			fs.Add("metrics-class", "must be named by small letters, digits and hyphens, and not "+classes.Catalogue, c.Name)
		}
	}
	for cluster, name := range s.classOf.by {
		if !slices.ContainsFunc(named, func(c classes.Class) bool { return c.Name == name }) {
			fs.Add("metrics-class-of", "must name a class of --metrics-class other than "+classes.Raw, cluster+"="+name)
		}
	}
	if s.seriesPerCluster < 1 {
		fs.Add("series-per-cluster", "must be at least 1", s.seriesPerCluster)
	}
	for name, v := range map[string]int{
		"series-per-namespace": s.seriesPerNamespace, "series-per-workload": s.seriesPerWorkload, "samples-per-second": s.samplesPerSecond,
		"samples-per-namespace": s.samplesPerNamespace, "samples-per-workload": s.samplesPerWorkload,
	} {
		if v < 0 {
			fs.Add(name, "must not be negative", v)
		}
	}
	return fs.Err()
}

// inside says whether a path is a folder, or in it.
func inside(path, folder string) bool {
	p, err := filepath.Abs(path)
	f, ferr := filepath.Abs(folder)
	rel, rerr := filepath.Rel(f, p)
	return err == nil && ferr == nil && rerr == nil && filepath.IsLocal(rel)
}

// limits are those of metrics writes.
func (s *settings) limits() ingest.Limits {
	return ingest.Limits{
		SeriesPerCluster: s.seriesPerCluster, SeriesPerNamespace: s.seriesPerNamespace, SeriesPerWorkload: s.seriesPerWorkload,
		SamplesPerSecond: s.samplesPerSecond, SamplesPerNamespace: s.samplesPerNamespace, SamplesPerWorkload: s.samplesPerWorkload, Behind: s.window.value, HistoryBehind: s.metricsFor.value,
	}
}

// tokens reads the tokens that the settings name.
func (s *settings) tokens() (out []access.Token, err error) {
	read := func(path string, p access.Principal) error {
		raw, err := os.ReadFile(path)
		if err != nil {
			return fmt.Errorf("read tokens: %w", err)
		}
		list, err := access.ParseTokens(string(raw))
		if err != nil {
			return fmt.Errorf("read tokens from %s: %w", path, err)
		}
		for _, t := range list {
			out = append(out, access.Token{Principal: p, Hash: access.Hash(t)})
		}
		return nil
	}
	var errs []error
	if s.apiTokenFile != "" {
		errs = append(errs, read(s.apiTokenFile, access.Principal{Kind: access.APIToken, Name: "of --api-token-file"}))
	}
	for _, f := range s.ingestTokens.list {
		errs = append(errs, read(f.path, access.Principal{Kind: access.IngestToken, Name: "of --ingest-token-file", Cluster: f.cluster}))
	}
	return out, errors.Join(errs...)
}
