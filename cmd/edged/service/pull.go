package service

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/daemon"
	"edged/core/serve/models"
	"edged/core/serve/models/hub"
	"edged/core/version"
)

// pullFlags say where a model comes from and where it goes.
type pullFlags struct {
	cli.ConfigFlags
	dir, name, token, endpoint string
	force, check               bool
}

func (a *app) pullCommand() *cobra.Command {
	var f pullFlags
	c := &cobra.Command{
		Use:     "pull [flags] OWNER/REPO[:TAG]",
		GroupID: "service",
		Short:   "Fetch a model from the Hugging Face hub into the models folder",
		Long: `Fetches a model into models.dir, where a running service finds it. OWNER/REPO:Q4_K_M names one of a repository's GGUF files by its format,
OWNER/REPO/FILE.gguf by its name, OWNER/REPO the only one, else Q4_K_M or Q4_0, else the folder of safetensors; @REVISION behind REPO
another revision than main.

First the headers alone are fetched, and a backend is asked what it makes of them: what this node cannot serve, or has no memory for, is
refused before its weights are fetched. A download that was broken off goes on where it ended; the model appears under its name when it
is complete and its checksums are right, and not before. Files that the hub's own client keeps in its cache are taken from there.

A gated or private model needs your token of the hub: in the file that --token-file names, in HF_TOKEN, or where the hub's own client keeps it.
HF_ENDPOINT names another hub.`,
		Example: `  edged pull bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_0
  edged pull --check Qwen/Qwen3-0.6B`,
		Args: cobra.ExactArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error { return a.pull(ctx, &f, args[0]) }),
	}
	f.Register(c)
	c.Flags().StringVar(&f.dir, "dir", "", "folder that it goes into (default: the configuration's models.dir)")
	c.Flags().StringVar(&f.name, "name", "", "name of the model here (default: that of the file or repository)")
	c.Flags().StringVar(&f.token, "token-file", "", "file with your token of the hub")
	c.Flags().StringVar(&f.endpoint, "endpoint", os.Getenv("HF_ENDPOINT"), "address of the hub (default: HF_ENDPOINT, or "+hub.Endpoint+")")
	c.Flags().BoolVar(&f.check, "check", false, "fetch the headers, say what they mean for this node, and nothing else")
	c.Flags().BoolVar(&f.force, "force", false, "fetch it even where the memory plan does not fit")
	return c
}

func (a *app) pull(ctx context.Context, f *pullFlags, text string) error {
	ref, err := hub.ParseRef(text)
	if err != nil {
		return cli.Usagef("%v", err)
	}
	c, err := f.Load()
	if err != nil {
		return err
	}
	if f.dir == "" {
		f.dir = c.Models.Dir
	}
	if f.dir == "" {
		return errors.New("models.dir is empty: name a folder with --dir")
	}
	if err := f.local(); err != nil {
		return err
	}
	token, err := f.secret()
	if err != nil {
		return err
	}
	client, err := hub.New(hub.Options{
		Endpoint: f.endpoint, Token: token, Agent: "edged/" + version.Version,
		Wait: func(d time.Duration, why string) { a.Notef("waiting %v: %s", d.Round(time.Second), why) },
	})
	if err != nil {
		return err
	}
	list, err := client.List(ctx, ref)
	if err != nil {
		return err
	}
	choice, err := hub.Choose(list, ref)
	if err != nil {
		return err
	}
	if f.name != "" {
		if len(choice.Files) > 1 && !choice.Folder {
			return cli.Usagef("--name: the parts of a split model keep their names")
		}
		choice.Name = f.name
	}
	if err := validModel(choice.Name); err != nil {
		return err
	}
	target := filepath.Join(f.dir, choice.Name)
	if !choice.Folder {
		target = filepath.Join(f.dir, choice.Local(choice.Files[0]))
	}
	if !f.check {
		if err := vacant(target); err != nil {
			return err
		}
		if err := hub.Room(f.dir, choice); err != nil {
			return err
		}
	}
	if err := a.foresee(ctx, c, f, client, list, &choice); err != nil {
		return err
	}
	if f.check {
		_, err = fmt.Fprintf(
			a.Out,
			"nothing but headers was fetched, and they are not kept: without --check, edged pull %s puts the model into %s\n",
			text,
			f.dir,
		)
		return err
	}
	if err := os.MkdirAll(f.dir, 0o755); err != nil { //nolint:gosec // the service, another user, reads it
		return err
	}
	bar, done := cli.NewProgress(a.Err, "MiB of "+choice.Name), int64(0)
	err = client.Fetch(ctx, list, choice, f.dir, cacheOfHub(), func(n int64) {
		done += n
		bar.Show(int(done>>20), int(choice.Bytes()>>20))
	})
	bar.End()
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Out, "%s is in %s: name it in requests as %q\n", list.Repo, target, models.Name(target))
	return err
}

// local finds out, before the hub is asked, what would keep a model from being put into the folder. A folder
// that is missing is made later; where nothing is fetched, nothing is tried.
func (f *pullFlags) local() error {
	if f.name != "" {
		if err := validModel(f.name); err != nil {
			return err
		}
	}
	if f.check {
		return nil
	}
	if f.name != "" {
		for _, path := range []string{filepath.Join(f.dir, f.name), filepath.Join(f.dir, f.name+".gguf")} {
			if err := vacant(path); err != nil {
				return err
			}
		}
	}
	if _, err := tryWriting(f.dir); err != nil {
		return fmt.Errorf(
			"the models folder cannot be written: %w: name another with --dir, or run this as a user that may write there (sudo)",
			err,
		)
	}
	return nil
}

// validModel refuses a name that no model may have.
func validModel(name string) error {
	if !config.ValidFileName(name) {
		return cli.Usagef("%q is no name of a model here, which must match %s: give it one with --name", name, config.NamePattern)
	}
	return nil
}

// vacant refuses a path at which something is.
func vacant(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("%s is there already: remove it first, or choose another name with --name", path)
	}
	return nil
}

// secret is the token; "": there is none.
func (f *pullFlags) secret() (string, error) {
	if f.token != "" {
		secret, err := config.ReadSecret(f.token)
		if err != nil {
			return "", fmt.Errorf("--token-file: %w", err)
		}
		return string(secret), nil
	}
	if token := strings.TrimSpace(os.Getenv("HF_TOKEN")); token != "" {
		return token, nil
	}
	file := os.Getenv("HF_TOKEN_PATH")
	if home := homeOfHub(); file == "" && home != "" {
		file = filepath.Join(home, "token")
	}
	if data, err := os.ReadFile(file); err == nil {
		return strings.TrimSpace(string(data)), nil
	}
	return "", nil // most models are public
}

// homeOfHub is the folder of the hub's own client; "": there is none.
func homeOfHub() string {
	if home := os.Getenv("HF_HOME"); home != "" {
		return home
	}
	cache, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	return filepath.Join(cache, "huggingface")
}

// cacheOfHub returns the cache directory of the hub's own client; "": there is none.
func cacheOfHub() string {
	if dir := os.Getenv("HF_HUB_CACHE"); dir != "" {
		return dir
	}
	if home := homeOfHub(); home != "" {
		return filepath.Join(home, "hub")
	}
	return ""
}

// foresee fetches the headers and says what they mean for this node. The error is why it cannot serve the model.
func (a *app) foresee(
	ctx context.Context,
	c *config.Config,
	f *pullFlags,
	client *hub.Client,
	list hub.Listing,
	choice *hub.Choice,
) (err error) {
	tmp, err := os.MkdirTemp("", "edged-pull-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(tmp)) }()
	path, err := client.Headers(ctx, list, choice, tmp)
	if err != nil {
		return err
	}
	refused := func(err error) error {
		return fmt.Errorf(
			"%s cannot be served here, and nothing but its headers was fetched: %s",
			list.Repo,
			strings.ReplaceAll(cli.OneSentence(err), tmp+"/", ""),
		)
	}
	facts, err := models.Headers(path)
	if err != nil {
		return refused(err)
	}
	loaded := busy()
	prospect, err := daemon.Foresee(ctx, c, slog.New(slog.DiscardHandler), path)
	if err != nil {
		return refused(err)
	}
	plan := prospect.Plan
	if _, err := fmt.Fprintf(
		a.Out,
		"%s: %s, %s, %s, %s parameters, %s to fetch; it needs %s of memory, and there are %s\n",
		choice.Name,
		facts.Family,
		facts.Kind,
		facts.Format,
		countText(facts.Parameters),
		cli.BytesText(choice.Bytes()),
		cli.BytesText(plan.Total),
		room(plan),
	); err != nil {
		return err
	}
	if prospect.Forecast != (backend.Forecast{}) {
		if _, err := fmt.Fprintf(a.Out, "%s: %s\n", choice.Name, forecastText(facts.Kind, prospect.Forecast, loaded)); err != nil {
			return err
		}
	}
	if plan.Available > 0 && plan.Total > plan.Available && !f.force {
		way := "; --force fetches it all the same"
		if f.check {
			way = ""
		}
		return refused(
			fmt.Errorf(
				"it needs %s of memory at least, and there are %s (what a running service holds is not among them%s)",
				cli.BytesText(plan.Total),
				cli.BytesText(plan.Available),
				way,
			),
		)
	}
	return nil
}

func room(p backend.MemoryPlan) string {
	if p.Available <= 0 {
		return "an unknown number of bytes"
	}
	return cli.BytesText(p.Available)
}
