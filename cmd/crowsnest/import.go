package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/crowsnest-dev/crowsnest/collector/push"
	"github.com/crowsnest-dev/crowsnest/collector/queue"
	"github.com/crowsnest-dev/crowsnest/internal/config"
	"github.com/crowsnest-dev/crowsnest/internal/fault"
)

func newImport(c *common) *cobra.Command {
	cmd := &cobra.Command{
		Use: "import", Short: "Bring samples, policies and configurations from elsewhere to a server", Args: args(cobra.NoArgs),
		Example: "  crowsnest import queue --help\n  crowsnest import alertmanager alertmanager.yml --apply",
	}
	cmd.AddCommand(newImportQueue(c))
	cmd.AddCommand(newImports()...)
	return cmd
}

func newImportQueue(c *common) *cobra.Command {
	var server, tokenFile, caFile, sender string
	cmd := &cobra.Command{
		Use: "queue FOLDER", Short: "Bring what waits in a collector's queue to a server", Args: args(cobra.ExactArgs(1)),
		Long: "Bring what waits in a collector's queue to a server: the folder queue/metrics of its data folder, as it was carried over from a site without a way to the server, or from a node that died.\n" +
			"The collector must not run. What is older than the server's out-of-order window becomes blocks, some minutes after the last of it came; no alert fires about it.\n" +
			"A file goes when the server has acknowledged it, so a call that was interrupted can be repeated.\n\n" + precedence,
		Example: `  crowsnest import queue /media/site/queue/metrics --sender node/n-12 --server https://crowsnest.example --token-file site.token`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if tokenFile == "" || sender == "" {
				return fault.Field{Path: "token-file, sender", Reason: "are required: an ingest token of the cluster, and the collector's name as node/NAME, cluster or all"}
			}
			if info, err := os.Stat(given[0]); err != nil || !info.IsDir() {
				return fmt.Errorf("import queue: %s is no folder that can be read", given[0])
			}
			token, err := config.SecretFromFile(tokenFile)
			if err != nil {
				return err
			}
			client, err := push.NewClient(push.ClientOptions{Server: server, Token: token, CAFile: caFile, Sender: sender})
			if err != nil {
				return err
			}
			defer client.Close()
			logger := c.logger(cmd.ErrOrStderr())
			// As it was carried here it may be of any age and size.
			q, err := queue.Open(queue.Options{Dir: given[0], MaxAge: 10 * 365 * day, MaxBytes: 1 << 50, Logger: logger})
			if err != nil {
				return err
			}
			batches, bytes, oldest, _ := q.Stats()
			if batches == 0 {
				return fmt.Errorf("import queue: nothing waits in %s", given[0])
			}
			fmt.Fprintf(cmd.OutOrStdout(), "%d batches, %.1f MiB, from %s on\n", batches, mib(bytes), oldest.Format(time.RFC3339))
			// All of it by the import way: it takes what is young, too.
			p, err := push.New(push.Options{Client: client, Queue: q, Accept: func() time.Duration { return time.Nanosecond }, Logger: logger})
			if err != nil {
				return err
			}
			return importQueue(cmd, p, q)
		},
	}
	f := cmd.Flags()
	f.StringVar(&server, "server", "http://127.0.0.1:7420", "address of the server")
	f.StringVar(&tokenFile, "token-file", "", "file that holds an ingest token of that server; its cluster is where the samples go")
	f.StringVar(&caFile, "ca-file", "", "file of CA certificates that the server's certificate is checked by; default: the system's")
	f.StringVar(&sender, "sender", "", "the collector that the queue is of: node/NAME, cluster or all")
	return cmd
}

// importQueue sends until nothing waits.
func importQueue(cmd *cobra.Command, p *push.Pusher, q *queue.Queue) error {
	ctx, cancel := context.WithCancel(cmd.Context())
	defer cancel()
	var g errgroup.Group
	g.Go(func() error { return p.Run(ctx) })
	g.Go(func() error {
		defer cancel()
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		for {
			if left, _, _, _ := q.Stats(); left == 0 {
				return nil
			}
			select {
			case <-ctx.Done():
				return errors.New("interrupted; what is left is in the folder still")
			case <-tick.C:
			}
		}
	})
	err := g.Wait()
	for _, d := range q.Drops() {
		err = errors.Join(err, fmt.Errorf("%d samples from %s to %s were given up (%s)", d.Samples, d.From.Format(time.RFC3339), d.To.Format(time.RFC3339), d.Reason))
	}
	if err == nil {
		fmt.Fprintln(cmd.OutOrStdout(), "all of it is with the server; it can be read when its blocks are made, in some minutes")
	}
	return err
}
