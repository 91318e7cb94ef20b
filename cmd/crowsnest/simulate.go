package main

import (
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/simulate"
	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/wire"
)

func newSimulate(c *common) *cobra.Command {
	var (
		s          = newSettings()
		server     string
		tokenFile  string
		caFile     string
		cluster    = &clusterID{}
		nodes      = newWhole(10, 1, 10_000)
		pods       = newWhole(20, 1, 250)
		containers = newNumber(1.3, 1, 8)
		every      = &interval{30 * time.Second}
		seed       = newWhole(0, 0, 1<<53)
		churn      = newNumber(simulate.DefaultChurn, 0, 0.2)
		speed      = newNumber(1, 0.001, 10_000)
		backfill   = newPeriod(0, 0, 90*day)
	)
	cmd := &cobra.Command{
		Use: "simulate", Short: "Run a simulated fleet through the real collector", Args: args(cobra.NoArgs),
		Long: "Run a simulated fleet through the real collector: to a server that runs already (--server), or to one that this command starts (--data, --listen).\n" +
			"The fleet behaves like a real one: daily shape, idle pods, leaks, restarts, rollouts, failing pods, logs and events. The same seed gives the same fleet.\n\n" + precedence,
		Example: `  crowsnest simulate --nodes 50 --pods-per-node 30 --backfill 30d --data /tmp/fleet
  crowsnest token create --kind ingest --cluster fleet-1 > fleet.token
  crowsnest simulate --server http://127.0.0.1:7420 --token-file fleet.token --nodes 100 --seed 7 --churn 0.01`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := c.logger(cmd.ErrOrStderr())
			opts := simulate.Options{
				Nodes: nodes.int(), PodsPerNode: pods.int(), ContainersPerPod: containers.value,
				Seed: uint64(seed.value), Churn: churn.value, Speed: speed.value, Interval: every.value,
			}
			sub, err := simulated(opts, cluster.or("simulated"), backfill.value)
			if err != nil {
				return err
			}
			if server == "" {
				s.allowLoopbackWebhooks()
				t, err := newTogether(s, sub, every.value, logger)
				if err != nil {
					return err
				}
				t.welcome(cmd.OutOrStdout())
				return t.Run(cmd.Context())
			}
			if backfill.value > 0 {
				return errors.New("--backfill writes into the data folder of a server that this command starts itself; leave out --server, or --backfill")
			}
			if tokenFile == "" {
				return errors.New("--server needs --token-file: make a token by \"crowsnest token create --kind ingest --cluster NAME > FILE\"")
			}
			token, err := config.SecretFromFile(tokenFile)
			if err != nil {
				return err
			}
			client, err := push.NewClient(push.ClientOptions{Server: server, Token: token, CAFile: caFile, Sender: wire.Sender(wire.RoleAll, "")})
			if err != nil {
				return err
			}
			// What a simulated fleet could not send is not worth keeping.
			dir, err := os.MkdirTemp("", "crowsnest-simulate-*")
			if err != nil {
				return err
			}
			fmt.Fprintf(cmd.OutOrStdout(), "Sends %s to %s. Ctrl-C ends it.\n", sub.what, client.Server())
			err = sub.collect(cmd.Context(), client, dir, every.value, logger, prometheus.NewRegistry())
			return errors.Join(err, os.RemoveAll(dir))
		},
	}
	s.flags(cmd)
	f := cmd.Flags()
	f.StringVar(&server, "server", "", "address of a server that runs already; default: one is started")
	f.StringVar(&tokenFile, "token-file", "", "file that holds an ingest token of that server; its cluster is where the data goes")
	f.StringVar(&caFile, "ca-file", "", "file of CA certificates that the server's certificate is checked by; default: the system's")
	f.Var(cluster, "cluster", "id of the simulated cluster on a server that is started; default: simulated")
	f.Var(nodes, "nodes", "nodes of the fleet, 1 to 10000")
	f.Var(pods, "pods-per-node", "pods on each node, 1 to 250")
	f.Var(containers, "containers-per-pod", "containers of a pod on average, 1 to 8")
	f.Var(every, "interval", "how often the fleet is measured: 10s, 15s, 30s or 1m")
	f.Var(seed, "seed", "what the fleet is made from; the same gives the same")
	f.Var(churn, "churn", "share of the pods that are replaced each minute, 0 to 0.2")
	f.Var(speed, "speed", "how many times faster than real time days, faults and rollouts pass")
	f.Var(backfill, "backfill", "past that the cluster gets when it is new in the data folder, up to 90d")
	return cmd
}
