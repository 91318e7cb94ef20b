package main

import (
	"fmt"
	"net/http"
	"net/url"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/api/tokens"
)

func newToken(_ *common) *cobra.Command {
	cmd := &cobra.Command{
		Use: "token", Short: "Make, list and revoke tokens",
		Long: "Tokens let programs in: an API token reads and changes everything, an ingest token sends data of one cluster and does nothing else.\n" +
			"From the first API token on, the server wants a token with every request, and may listen on other addresses than loopback.",
		Example: `  crowsnest token create --kind ingest --cluster prod-1 "collectors of prod-1"
  crowsnest token list
  crowsnest token delete tok_01K…`,
	}
	cmd.AddCommand(newTokenCreate(), newTokenList(), newTokenDelete())
	return cmd
}

func newTokenCreate() *cobra.Command {
	var r remote
	kind := newChoice("ingest", "api", "ingest")
	cluster := &clusterID{}
	cmd := &cobra.Command{
		Use: "create [NAME]", Short: "Make a token and print it, this once", Args: args(cobra.MaximumNArgs(1)),
		Example: `  crowsnest token create --kind ingest --cluster prod-1 > prod-1.token
  crowsnest token create --kind api "deploy pipeline" > api.token`,
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			in := tokens.NewToken{Kind: kind.String(), Cluster: cluster.id, Name: "made by the command line"}
			if len(given) == 1 {
				in.Name = given[0]
			}
			var out tokens.CreatedToken
			if err := r.json(cmd.Context(), http.MethodPost, "/tokens", in, &out); err != nil {
				return err
			}
			// The token alone goes to the output, so that it can go into a file.
			fmt.Fprintf(cmd.ErrOrStderr(), "%s token %s made; it is shown this once:\n", out.Kind, out.ID)
			_, err := fmt.Fprintln(cmd.OutOrStdout(), out.Secret)
			return err
		},
	}
	r.flags(cmd)
	cmd.Flags().Var(kind, "kind", "api or ingest")
	cmd.Flags().Var(cluster, "cluster", "of an ingest token: the id of the cluster that it sends for")
	return cmd
}

func newTokenList() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "list", Short: "List tokens", Args: args(cobra.NoArgs), Example: "  crowsnest token list",
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			var out struct{ Items []tokens.Token }
			if err := r.json(cmd.Context(), http.MethodGet, "/tokens", nil, &out); err != nil {
				return err
			}
			t := tabwriter.NewWriter(cmd.OutOrStdout(), 0, 4, 2, ' ', 0)
			fmt.Fprintln(t, "ID\tKIND\tCLUSTER\tNAME\tCREATED\tLAST USED")
			for _, tok := range out.Items {
				used := "never"
				if tok.LastUsedAt != nil {
					used = tok.LastUsedAt.UTC().Format(time.DateTime)
				}
				fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", tok.ID, tok.Kind, tok.Cluster, tok.Name, tok.CreatedAt.UTC().Format(time.DateTime), used)
			}
			return t.Flush()
		},
	}
	r.flags(cmd)
	return cmd
}

func newTokenDelete() *cobra.Command {
	var r remote
	cmd := &cobra.Command{
		Use: "delete ID", Short: "Revoke a token", Args: args(cobra.ExactArgs(1)), Example: "  crowsnest token delete tok_01K…",
		RunE: func(cmd *cobra.Command, given []string) error {
			if err := r.open(); err != nil {
				return err
			}
			defer r.close()
			if err := r.json(cmd.Context(), http.MethodDelete, "/tokens/"+url.PathEscape(given[0]), nil, nil); err != nil {
				return err
			}
			_, err := fmt.Fprintf(cmd.OutOrStdout(), "token %s revoked\n", given[0])
			return err
		},
	}
	r.flags(cmd)
	return cmd
}

func checkCluster(id string) error {
	if err := tokens.CheckClusterID("cluster", id); err != nil {
		return err
	}
	return nil
}
