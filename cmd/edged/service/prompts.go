package service

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/serve/prompts"
)

func (a *app) promptsCommand() *cobra.Command {
	var f cli.ConfigFlags
	var asJSON bool
	c := &cobra.Command{
		Use:     "prompts [FILE|FOLDER]...",
		GroupID: "client",
		Short:   "List and check the prompts that requests may name",
		Long: `Reads prompts, files NAME.toml that docs/prompts.md describes: those of prompts.dir, or the files and folders that are named. A line
says what each prompt is for and which variables it has, those in brackets with a default; the line below a broken one says why.
The exit code is 1 where one is broken.`,
		Example: `  edged prompts
  edged prompts translation.toml
  edged prompts --json /etc/edged/prompts`,
		RunE: a.Do(func(ctx context.Context, args []string) error { return a.listPrompts(ctx, &f, args, asJSON) }),
	}
	f.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

// shownPrompt is one prompt as it is listed.
type shownPrompt struct {
	Name        string   `json:"name"`
	Path        string   `json:"path"`
	Description string   `json:"description,omitempty"`
	Variables   []string `json:"variables,omitempty"`
	Optional    []string `json:"optional,omitempty"`
	SHA256      string   `json:"sha256,omitempty"`
	Error       string   `json:"error,omitempty"`
}

func (a *app) listPrompts(ctx context.Context, f *cli.ConfigFlags, args []string, asJSON bool) error {
	if len(args) == 0 {
		c, err := f.Load()
		if err != nil {
			return err
		}
		if c.Prompts.Dir == "" {
			return errors.New("prompts.dir is not set: set it, or name files or a folder")
		}
		args = []string{c.Prompts.Dir}
	}
	list := []shownPrompt{}
	broken := false
	for _, arg := range args {
		files, over, err := promptFiles(arg)
		if err != nil {
			return err
		}
		if len(over) > 0 {
			a.Notef("passed over in %s, since a prompt is a file NAME%s: %s", arg, prompts.Extension, prompts.Names(over))
		}
		for _, file := range files {
			p := readPrompt(ctx, file)
			broken = broken || p.Error != ""
			list = append(list, p)
		}
	}
	text := promptLines(list)
	if asJSON {
		data, err := json.Marshal(map[string]any{"prompts": list})
		if err != nil {
			return err
		}
		text = string(data) + "\n"
	}
	if _, err := io.WriteString(a.Out, text); err != nil {
		return err
	}
	if broken {
		return cli.ErrReported
	}
	return nil
}

// promptFiles are the files that a path names, and what is passed over beside them.
func promptFiles(path string) (files, over []string, err error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, nil, err
	}
	if !info.IsDir() {
		return []string{path}, nil, nil
	}
	return prompts.Files(path)
}

func readPrompt(ctx context.Context, file string) shownPrompt {
	p := shownPrompt{Name: strings.TrimSuffix(filepath.Base(file), prompts.Extension), Path: file}
	preset, _, err := prompts.Read(ctx, file)
	if err != nil {
		p.Error = err.Error()
		return p
	}
	p.Description, p.SHA256 = preset.Description, preset.SHA256
	for _, v := range preset.Variables {
		p.Variables = append(p.Variables, v.Name)
		if v.Default != nil {
			p.Optional = append(p.Optional, v.Name)
		}
	}
	return p
}

// promptLines are the lines for people.
func promptLines(list []shownPrompt) string {
	if len(list) == 0 {
		return "there are no prompts\n"
	}
	var out strings.Builder
	for _, p := range list {
		var names []string
		for _, v := range p.Variables {
			if slices.Contains(p.Optional, v) {
				v = "[" + v + "]"
			}
			names = append(names, v)
		}
		out.WriteString(p.Name)
		if len(names) > 0 {
			out.WriteString(" (" + strings.Join(names, ", ") + ")")
		}
		if p.Description != "" {
			out.WriteString(": " + p.Description)
		}
		out.WriteByte('\n')
		if p.Error != "" {
			out.WriteString("  " + p.Path + ": " + p.Error + "\n")
		}
	}
	return out.String()
}
