package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/collector/kube"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
)

// loopbackRanges are where webhooks of "crowsnest run" on loopback may go too:
// it is the user's own machine, and the first webhook that anybody tries is one
// on it.
var loopbackRanges = []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("::1/128")}

// interval is a collector's interval; zero means the server's word.
type interval struct{ value time.Duration }

func (i *interval) String() string { return (&period{value: i.value}).String() }
func (i *interval) Type() string   { return "duration" }
func (i *interval) Set(s string) error {
	p := newPeriod(0, 10*time.Second, time.Minute)
	if err := p.Set(s); err != nil || (p.value != 10*time.Second && p.value != 15*time.Second && p.value != 30*time.Second && p.value != time.Minute) {
		return fmt.Errorf("10s, 15s, 30s or 1m")
	}
	i.value = p.value
	return nil
}

func newRun(c *common) *cobra.Command {
	var (
		s          = newSettings()
		fake       bool
		kubeconfig string
		context    string
		cluster    = &clusterID{}
		every      = &interval{30 * time.Second}
		history    = newPeriod(day, 0, 90*day)
	)
	cmd := &cobra.Command{
		Use: "run", Short: "Run the server and a collector for your cluster", Args: args(cobra.NoArgs),
		Long: "Run the server and a collector in one process: the quickest way to see a cluster.\n\n" +
			"The cluster is that of --kubeconfig, else of KUBECONFIG, else of ~/.kube/config, else the one that the process runs in.\n" +
			"Without any, or with --simulate, a simulated cluster is shown, and said to be one.\n\n" +
			"On loopback, webhooks may be sent to this machine itself (--allow-webhook-cidr 127.0.0.0/8,::1/128), which servers refuse otherwise.\n\n" + precedence,
		Example: `  crowsnest run
  crowsnest run --simulate --data /tmp/crowsnest-try
  crowsnest run --kubeconfig ~/.kube/prod --context prod-1 --data ./prod-1
  crowsnest run --listen 0.0.0.0:7420 --api-token-file api.token`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := c.logger(cmd.ErrOrStderr())
			sub, err := choose(fake, kube.Config{Kubeconfig: kubeconfig, Context: context}, cluster, history.value)
			if err != nil {
				return err
			}
			s.allowLoopbackWebhooks()
			t, err := newTogether(s, sub, every.value, logger)
			if err != nil {
				return err
			}
			defer c.paceGarbage(cmd.Context(), logger, t.app.flooded)()
			t.welcome(cmd.OutOrStdout())
			return t.Run(cmd.Context())
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.BoolVar(&fake, "simulate", false, "watch a simulated cluster, whatever kubeconfig there is")
	f.StringVar(&kubeconfig, "kubeconfig", "", "kubeconfig of the cluster; default: KUBECONFIG, ~/.kube/config, or the cluster that this runs in")
	f.StringVar(&context, "context", "", "context of the kubeconfig; default: its current one")
	f.Var(cluster, "cluster", "id of the cluster, which its data carries; default: made from the kubeconfig's context")
	f.Var(every, "interval", "how often the cluster is measured: 10s, 15s, 30s or 1m")
	f.Var(history, "history", "of a simulated cluster: the past that it gets when it is new in the data folder; 0 for none")
	return cmd
}

// allowLoopbackWebhooks holds where nobody said what is allowed, and nobody else
// reaches the server.
func (s *settings) allowLoopbackWebhooks() {
	if addr, err := netip.ParseAddrPort(s.listen); err == nil && addr.Addr().IsLoopback() && !s.webhookCIDRs.changed {
		s.webhookCIDRs.list = loopbackRanges
	}
}

// welcome says where the console is, what is collected, and what to do first.
func (t *together) welcome(w io.Writer) {
	fmt.Fprintf(w, "Crowsnest %s\n", version)
	fmt.Fprintf(w, "  Console   %s\n", t.app.URL())
	fmt.Fprintf(w, "  Collects  %s, as cluster %q\n", t.subject.what, t.subject.cluster)
	for _, note := range t.subject.notes {
		fmt.Fprintf(w, "            %s\n", note)
	}
	state := "kept from before"
	if t.app.dir.fresh {
		state = "new"
	}
	fmt.Fprintf(w, "  Data      %s (%s; kept when this ends)\n", t.app.settings.data, state)
	if t.subject.simulate != nil && t.subject.history > 0 && t.first {
		fmt.Fprintf(w, "            %s of simulated history are being filled in\n", (&period{value: t.subject.history}).String())
	}
	at := ""
	if t.app.URL() != "http://"+defaultListen {
		at = " --server " + t.app.URL()
	}
	fmt.Fprintf(w, "  Next      open the console, or make a first alert policy:\n")
	fmt.Fprintf(w, "              crowsnest policy example | crowsnest policy apply -f -%s\n", at)
	if !t.app.auth.Open() {
		fmt.Fprintf(w, "  Access    by API token\n")
	} else {
		fmt.Fprintf(w, "  Access    this machine only; whoever reaches it here is its admin\n")
	}
	fmt.Fprintf(w, "  Ctrl-C ends it.\n")
}

// choose finds what to watch. Only when there is no configuration at all, and
// none was asked for, is it a simulated cluster.
func choose(fake bool, config kube.Config, cluster *clusterID, history time.Duration) (subject, error) {
	if !fake {
		sub, err := realCluster(config, cluster)
		if err == nil {
			return sub, nil
		}
		if !errors.Is(err, kube.ErrNoCluster) || config.Kubeconfig != "" || config.Context != "" {
			return subject{}, err
		}
	}
	sub, err := simulated(simulate.Options{Churn: simulate.DefaultChurn}, cluster.or("simulated"), history)
	if err == nil && !fake {
		sub.notes = append(sub.notes, "NOT a real one: no kubeconfig was found and this is no pod; give one by --kubeconfig FILE")
	}
	return sub, err
}
