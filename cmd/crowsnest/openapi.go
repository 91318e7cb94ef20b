package main

import (
	"github.com/spf13/cobra"

	"github.com/crowsnest-dev/crowsnest/api"
)

func newOpenAPI() *cobra.Command {
	return &cobra.Command{
		Use: "openapi", Short: "Print the OpenAPI document of the server's own API", Args: args(cobra.NoArgs),
		Example: "  crowsnest openapi > openapi.json",
		RunE: func(cmd *cobra.Command, _ []string) error {
			s, err := api.New(api.Options{})
			if err != nil {
				return err
			}
			_, err = cmd.OutOrStdout().Write(s.OpenAPI())
			return err
		},
	}
}
