//go:build !pages

package main

import "github.com/spf13/cobra"

// buildCommands are those that only the build of the packages has; see pages.go.
func (a *app) buildCommands() []*cobra.Command { return nil }
