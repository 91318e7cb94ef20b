package main

import (
	"fmt"

	"github.com/spf13/cobra"
)

func newServer(c *common) *cobra.Command {
	s := newSettings()
	cmd := &cobra.Command{
		Use: "server", Short: "Run the server alone", Args: args(cobra.NoArgs),
		Long: "Run the server alone, for collectors that run elsewhere. Each cluster sends with an ingest token of its own.\n\n" +
			"Without any API token the server listens on loopback only, and whoever reaches it is its admin.\n\n" + precedence,
		Example: `  crowsnest server --data /var/lib/crowsnest
  crowsnest server --listen 0.0.0.0:7420 --api-token-file /etc/crowsnest/api.token \
    --ingest-token-file prod-1=/etc/crowsnest/prod-1.token --tls-cert-file tls.crt --tls-key-file tls.key
  CROWSNEST_DATA=/var/lib/crowsnest crowsnest server --config /etc/crowsnest/config.yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			logger := c.logger(cmd.ErrOrStderr())
			a, err := newApp(s, appOptions{Logger: logger})
			if err != nil {
				return err
			}
			defer c.paceGarbage(cmd.Context(), logger, a.flooded)()
			fmt.Fprintf(cmd.OutOrStdout(), "Crowsnest %s\n  Console  %s\n  Data     %s\n", version, a.URL(), s.data)
			return a.Run(cmd.Context())
		},
	}
	s.flags(cmd)
	return cmd
}
