//go:build pages

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/cobra/doc"

	"edged/cmd/edged/cli"
)

// buildCommands are those that only the build of the packages has, with the tag "pages", so that what is
// installed carries no generator of man pages.
func buildCommands(a *cli.App) []*cobra.Command {
	var date string
	c := &cobra.Command{
		Use:    "pages DIR",
		Short:  "Write man pages and completions for a package",
		Hidden: true,
		Args:   cobra.ExactArgs(1),
	}
	c.RunE = a.Do(func(_ context.Context, args []string) error {
		day, err := time.Parse(time.DateOnly, date)
		if err != nil {
			return cli.Usagef("--date %q is no date such as 2026-01-31", date)
		}
		return writePages(c.Root(), args[0], day)
	})
	// Given from outside, so that the packages of one commit are equal, byte for byte.
	c.Flags().StringVar(&date, "date", "", "date of the pages")
	return []*cobra.Command{c}
}

// writePages writes DIR/man/*.1, DIR/man/edged.toml.5, and the completions of bash, zsh and fish under the
// names that these look for.
func writePages(root *cobra.Command, dir string, date time.Time) error {
	for _, d := range []string{"man", "bash", "zsh", "fish"} {
		if err := os.MkdirAll(filepath.Join(dir, d), 0o755); err != nil { //nolint:gosec // of a package
			return fmt.Errorf("pages: %w", err)
		}
	}
	root.DisableAutoGenTag = true
	if err := doc.GenManTree(
		root,
		&doc.GenManHeader{Section: "1", Source: "edged", Manual: "edged", Date: &date},
		filepath.Join(dir, "man"),
	); err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	settings, err := os.ReadFile("config.toml") // the build of the packages runs in the repository's root
	if err != nil {
		return fmt.Errorf("pages: %w", err)
	}
	if err := os.WriteFile(
		filepath.Join(dir, "man", "edged.toml.5"),
		[]byte(manual(string(settings), date)),
		0o644,
	); err != nil { //nolint:gosec // of a package
		return fmt.Errorf("pages: %w", err)
	}
	for file, write := range map[string]func(string) error{
		"bash/edged":      func(f string) error { return root.GenBashCompletionFileV2(f, true) },
		"zsh/_edged":      root.GenZshCompletionFile,
		"fish/edged.fish": func(f string) error { return root.GenFishCompletionFile(f, true) },
	} {
		if err := write(filepath.Join(dir, file)); err != nil {
			return fmt.Errorf("pages: %s: %w", file, err)
		}
	}
	return nil
}
