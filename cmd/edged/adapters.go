package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"edged/core/protocol/backend"
)

func (a *app) adaptersCommand() *cobra.Command {
	c := a.adaptersListCommand()
	c.Use, c.GroupID, c.Short = "adapters", "client", "List, add, remove and verify LoRA adapters"
	c.Long = `Adapters are LoRA or QLoRA weights: a PEFT folder (adapter_config.json and adapter_model.safetensors) or a GGUF file. The service takes
them from adapters.dir, under the name of the folder or file, while it runs: dropping a file there by any means does the same as 'add'.

Without a further word it does what 'list' does: it asks a running service which adapters its node has.`
	c.Example = `  edged adapters
  edged adapters --node attic --broker tcp://192.168.1.2:1883 --json`
	c.AddCommand(a.adaptersListCommand(), a.adaptersAddCommand(), a.adaptersRemoveCommand(), a.adaptersVerifyCommand())
	return c
}

func (a *app) adaptersListCommand() *cobra.Command {
	var f clientFlags
	var asJSON bool
	c := &cobra.Command{
		Use:   "list",
		Short: "List the adapters of a running service",
		Long: `Asks a running service, over MQTT, which adapters its node has. A line begins with the state: active ones answer
requests, settling and verifying ones are on their way, and the line below a rejected one says why. Behind the name stand how often it
was replaced (generation), what it is made of, and its checksum. It asks the broker; the folder need not be on this machine.`,
		Example: `  edged adapters list
  edged adapters list --node attic --broker tcp://192.168.1.2:1883 --json`,
		Args: cobra.NoArgs,
		RunE: a.do(func(ctx context.Context, _ []string) error { return a.listAdapters(ctx, &f, asJSON) }),
	}
	f.configFlags.register(c)
	c.Flags().StringVar(&f.broker, "broker", "", "URL of the broker (default: the configuration's)")
	c.Flags().StringVar(&f.node, "node", "", "name of the node that is asked (default: the configuration's)")
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

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
		RunE: a.do(func(ctx context.Context, args []string) error {
			s, err := f.open(ctx, f.log(a.streams), 1)
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
				return errReported
			}
			return nil
		}),
	}
	f.register(c)
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
		_, err = s.run(ctx, backend.Request{
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
		if dead := s.dead(err); dead != err { //nolint:errorlint // dead returns the same error where nothing died
			return v, dead
		}
		v.Error = oneSentence(err)
		return v, nil
	}
	v.OK, v.SHA256, v.Kind, v.Rank, v.Virtual, v.Targets, v.Bytes = true, info.SHA256, info.Kind, info.Rank, info.Virtual, info.Targets, info.Bytes
	return v, nil
}

func (a *app) printVerdict(v verdict, asJSON bool) error {
	if asJSON {
		return encoder(a.out).Encode(v)
	}
	if !v.OK {
		_, err := fmt.Fprintf(a.out, "%-8s %s: %s\n", "problem", v.Path, v.Error)
		return err
	}
	_, err := fmt.Fprintf(a.out, "%-8s %s: %s, %s, sha256 %s\n", "ok", v.Path, madeOf(v.Kind, v.Rank, v.Virtual, v.Targets), bytesText(v.Bytes), v.SHA256)
	return err
}

// madeOf says what an adapter consists of.
func madeOf(kind string, rank, virtual int, targets []string) string {
	switch kind {
	case "soft_prompt":
		return fmt.Sprintf("a soft prompt of %d virtual tokens", virtual)
	case "dora":
		return fmt.Sprintf("DoRA of rank %d on %s", rank, strings.Join(targets, ", "))
	case "lora", "":
		return fmt.Sprintf("rank %d on %s", rank, strings.Join(targets, ", "))
	default:
		return fmt.Sprintf("%s on %s", kind, strings.Join(targets, ", "))
	}
}
