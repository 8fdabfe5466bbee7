// Package offline has the commands that run a model in plugins of their own, without a service: answers,
// translations, tokens, scores, vectors, and how fast it goes; imatrix, which measures what quantize weighs
// its errors by; quantize, which writes a model anew; and convert, which writes an adapter anew.
//
// It must not connect to anything, nor know how a plugin computes.
package offline

import (
	"context"
	"log/slog"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/plugins"
)

// app embeds the state that all commands share.
type app struct{ *cli.App }

// Commands are this package's.
func Commands(shared *cli.App) []*cobra.Command {
	a := &app{shared}
	return []*cobra.Command{
		a.generateCommand(), a.translateCommand(), a.tokenizeCommand(), a.detokenizeCommand(), a.renderCommand(), a.scoreCommand(),
		a.embedCommand(), a.rerankCommand(), a.fillCommand(), a.benchCommand(), a.imatrixCommand(), a.quantizeCommand(), a.convertCommand(),
	}
}

// VerifyCommand proves adapters with a model; it belongs below the command adapters.
func VerifyCommand(shared *cli.App) *cobra.Command { return (&app{shared}).adaptersVerifyCommand() }

// modelFlags say which model is loaded and how.
type modelFlags struct{ plugins.ModelFlags }

// session is a model in plugins of its own.
type session struct{ *plugins.Session }

// open starts both plugins and loads the model and its adapters; sequences run at once.
func (m *modelFlags) open(ctx context.Context, log *slog.Logger, sequences int) (*session, error) {
	s, err := m.Open(ctx, log, sequences)
	if err != nil {
		return nil, err
	}
	return &session{s}, nil
}

// startTokenizer starts the tokenizer plugin, without a model where path is empty.
func (m *modelFlags) startTokenizer(ctx context.Context, log *slog.Logger, path string) (*session, error) {
	s, err := m.StartTokenizer(ctx, log, path)
	if err != nil {
		return nil, err
	}
	return &session{s}, nil
}
