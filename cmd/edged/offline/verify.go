package offline

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
)

func (a *app) adaptersVerifyCommand() *cobra.Command {
	var f modelFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "verify --model PATH ADAPTER...",
		Short: "Tell whether a model can serve an adapter",
		Long: `Loads the model into a backend of its own, and each adapter beside it: files, target modules, shapes, and one token with it. The exit
code is 1 where an adapter cannot be served.`,
		Example: `  edged adapters verify --model base/ pirate/ deutsch.gguf`,
		Args:    cobra.MinimumNArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error {
			s, err := f.open(ctx, f.Log(a.Err), 1)
			if err != nil {
				return err
			}
			defer s.Close()
			bad := false
			for _, path := range args {
				v, err := s.verify(ctx, path)
				if err != nil {
					return err
				}
				bad = bad || !v.OK
				if err := a.printVerdict(v, asJSON); err != nil {
					return err
				}
			}
			if bad {
				return cli.ErrReported
			}
			return nil
		}),
	}
	f.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object for each adapter")
	if err := c.Flags().MarkHidden("adapter"); err != nil {
		panic(err) // the flag is registered above
	}
	return c
}

// verdict says whether an adapter can be served.
type verdict struct {
	OK      bool     `json:"ok"`
	Path    string   `json:"path"`
	SHA256  string   `json:"sha256,omitempty"`
	Kind    string   `json:"kind,omitempty"`
	Rank    int      `json:"rank,omitempty"`
	Virtual int      `json:"virtual_tokens,omitempty"`
	Targets []string `json:"targets,omitempty"`
	Bytes   int64    `json:"bytes,omitempty"`
	Error   string   `json:"error,omitempty"`
}

// verify proves one adapter. An error is the backend's death, or ctx's end.
func (s *session) verify(ctx context.Context, path string) (verdict, error) {
	v := verdict{Path: path}
	abs, err := filepath.Abs(path)
	if err == nil {
		_, err = os.Stat(abs)
	}
	var info backend.AdapterInfo
	if err == nil {
		info, err = s.Backend.LoadAdapter(ctx, backend.AdapterRequest{Path: abs, Name: filepath.Base(abs)})
	}
	if err == nil {
		_, err = s.Run(ctx, backend.Request{
			ID: "verify", PromptIDs: []int32{max(s.Text.BOS, 0)}, MaxTokens: 1,
			Adapters: []backend.AdapterUse{{ID: info.ID, Scale: 1}},
		}, nil)
	}
	if err == nil {
		err = s.Backend.UnloadAdapter(ctx, info.ID)
	}
	if ctx.Err() != nil {
		return v, ctx.Err()
	}
	if err != nil {
		if dead := s.Dead(err); dead != err { //nolint:errorlint // dead returns the same error where nothing died
			return v, dead
		}
		v.Error = cli.OneSentence(err)
		return v, nil
	}
	v.OK, v.SHA256, v.Kind, v.Rank, v.Virtual, v.Targets, v.Bytes = true, info.SHA256, info.Kind, info.Rank, info.Virtual, info.Targets, info.Bytes
	return v, nil
}

func (a *app) printVerdict(v verdict, asJSON bool) error {
	if asJSON {
		return cli.Encoder(a.Out).Encode(v)
	}
	if !v.OK {
		_, err := fmt.Fprintf(a.Out, "%-8s %s: %s\n", "problem", v.Path, v.Error)
		return err
	}
	_, err := fmt.Fprintf(
		a.Out,
		"%-8s %s: %s, %s, sha256 %s\n",
		"ok",
		v.Path,
		cli.MadeOf(v.Kind, v.Rank, v.Virtual, v.Targets),
		cli.BytesText(v.Bytes),
		v.SHA256,
	)
	return err
}
