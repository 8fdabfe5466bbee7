//go:build !pages

package main

import (
	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
)

// buildCommands are those that only the build of the packages has; see pages.go.
func buildCommands(*cli.App) []*cobra.Command { return nil }
