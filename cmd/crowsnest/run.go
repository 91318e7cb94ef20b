package main

import "github.com/spf13/cobra"

func newRun(c *common) *cobra.Command      { return &cobra.Command{Use: "run"} }
func newSimulate(c *common) *cobra.Command { return &cobra.Command{Use: "simulate"} }
