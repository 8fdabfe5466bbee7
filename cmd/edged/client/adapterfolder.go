package client

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/config"
	"edged/core/serve/adapters"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
	"edged/core/serve/door/mqtt/link"
)

// folderFlags name the service whose folder is worked on.
type folderFlags struct {
	cli.ConfigFlags
	wait   time.Duration
	asJSON bool
}

func (f *folderFlags) register(c *cobra.Command) {
	f.ConfigFlags.Register(c)
	c.Flags().DurationVar(&f.wait, "wait", 30*time.Second, "wait this long for the service to decide; 0s: do not wait")
	c.Flags().BoolVar(&f.asJSON, "json", false, "print one JSON object")
}

// namedAdapter is an adapter's state as it is printed.
type namedAdapter struct {
	Name string `json:"name"`
	mqtt.Adapter
}

// listAdapters prints what the node says of its adapters.
func (a *app) listAdapters(ctx context.Context, f *clientFlags, asJSON bool) error {
	client, err := f.dial(ctx)
	if err != nil {
		return err
	}
	defer client.Close()
	var list []namedAdapter
	err = client.Watch(ctx, func(all map[string]mqtt.Adapter) bool {
		list = []namedAdapter{}
		for _, name := range slices.Sorted(maps.Keys(all)) {
			list = append(list, namedAdapter{name, all[name]})
		}
		return true
	})
	if err != nil {
		return err
	}
	if asJSON {
		return cli.Encoder(a.Out).Encode(struct {
			Adapters []namedAdapter `json:"adapters"`
		}{list})
	}
	if len(list) == 0 {
		a.Note("the node has no adapters")
	}
	for _, n := range list {
		if err := a.printAdapter(n); err != nil {
			return err
		}
	}
	return nil
}

func (a *app) printAdapter(n namedAdapter) error {
	text := fmt.Sprintf("%-9s %s", n.State, n.Name)
	if n.Generation > 0 {
		text += fmt.Sprintf(
			": generation %d, %s, %s, sha256 %.12s",
			n.Generation,
			cli.MadeOf(n.Kind, n.Rank, n.Virtual, n.Targets),
			cli.BytesText(n.Bytes),
			n.SHA256,
		)
	}
	if n.Error != "" {
		text += "\n          " + n.Error
	}
	_, err := fmt.Fprintln(a.Out, text)
	return err
}

func (a *app) adaptersAddCommand() *cobra.Command {
	var f folderFlags
	var name string
	c := &cobra.Command{
		Use:   "add [--config FILE] [--name NAME] ADAPTER",
		Short: "Copy an adapter into the service's folder",
		Long: `Copies a PEFT folder (the files that are served, and their .minisig) or a GGUF file into adapters.dir, under its own name or NAME, in one
step: the service never sees a half. What has that name is replaced; what cannot be read as an adapter is not copied. Then it waits for the service to prove it, and says what came of
it; the exit code is 1 where it was rejected.`,
		Example: `  edged adapters add --config config.toml output/checkpoint-500 --name pirate
  edged adapters add --config config.toml deutsch.gguf`,
		Args: cobra.ExactArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error {
			c, err := f.folder()
			if err != nil {
				return err
			}
			return a.addAdapter(ctx, c, &f, args[0], name)
		}),
	}
	f.register(c)
	c.Flags().StringVar(&name, "name", "", "name of the adapter (default: that of the folder or file)")
	return c
}

func (a *app) adaptersRemoveCommand() *cobra.Command {
	var f folderFlags
	c := &cobra.Command{
		Use:   "remove [--config FILE] NAME",
		Short: "Take an adapter out of the service's folder",
		Long: `Removes NAME/ or NAME.gguf from adapters.dir and waits for the service to notice. Requests that use the adapter end as if it were there;
those that come afterwards get adapter_not_found.`,
		Args: cobra.ExactArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error {
			c, err := f.folder()
			if err != nil {
				return err
			}
			return a.removeAdapter(ctx, c, &f, args[0])
		}),
	}
	f.register(c)
	return c
}

// folder loads the configuration, which has to name a folder.
func (f *folderFlags) folder() (*config.Config, error) {
	c, err := f.Load()
	if err == nil && c.Adapters.Dir == "" {
		err = errors.New("adapters.dir is empty: this service has no folder of adapters")
	}
	return c, err
}

// decision waits for what the service says of a name. nil: nobody waits, or nobody answers, which is noted.
func (a *app) decision(
	ctx context.Context,
	c *config.Config,
	f *folderFlags,
	act func() error,
	decided func(mqtt.Adapter, bool) bool,
	name string,
) (*namedAdapter, error) {
	if f.wait <= 0 {
		return nil, act()
	}
	client, err := askclient.Dial(ctx, askclient.Options{Settings: link.From(&c.MQTT, c.MQTT.Listen), Base: c.MQTT.Base, Node: c.Node.Name})
	if err != nil {
		a.Notef("the service was not asked: %s", cli.OneSentence(err))
		return nil, act()
	}
	defer client.Close()
	waiting, cancel := context.WithTimeout(ctx, f.wait)
	defer cancel()
	acted := false
	var failed error
	var out *namedAdapter
	err = client.Watch(waiting, func(all map[string]mqtt.Adapter) bool {
		if !acted {
			acted = true
			failed = act()
			return failed != nil
		}
		state, there := all[name]
		if !decided(state, there) {
			return false
		}
		out = &namedAdapter{name, state}
		return true
	})
	switch {
	case failed != nil:
		return nil, failed
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case errors.Is(err, context.DeadlineExceeded):
		a.Notef("the service has not decided within %v: see 'edged adapters'", f.wait)
	case err != nil:
		a.Notef("the service was not asked: %s", cli.OneSentence(err))
	}
	if !acted {
		return nil, act()
	}
	return out, nil
}

func (a *app) addAdapter(ctx context.Context, c *config.Config, f *folderFlags, from, name string) error {
	info, err := os.Stat(from)
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(from)
	if err != nil {
		return err
	}
	if ext := strings.ToLower(filepath.Ext(abs)); !info.IsDir() && (ext == ".safetensors" || ext == ".json") {
		return fmt.Errorf("%s is a part of an adapter: name the folder that it is in, %s", from, filepath.Dir(abs))
	}
	files, err := adapters.Files(from)
	if err != nil {
		return err
	}
	if err := adapters.Check(from); err != nil { // before it takes the place of one that is served
		return fmt.Errorf("nothing was copied: %w", err)
	}
	if name == "" {
		name = strings.TrimSuffix(filepath.Base(abs), ".gguf")
	}
	if !config.ValidFileName(name) {
		return cli.Usagef("%q cannot be the name of an adapter: choose one of A-Z a-z 0-9 . _ - with --name", name)
	}
	target := name
	if !info.IsDir() {
		target += ".gguf"
	}
	for _, other := range []string{name, name + ".gguf"} {
		if _, err := os.Lstat(filepath.Join(c.Adapters.Dir, other)); err == nil && other != target {
			return fmt.Errorf(
				"%s is there already and has the same name: remove it first, with 'edged adapters remove %s'",
				filepath.Join(c.Adapters.Dir, other),
				name,
			)
		}
	}
	before := ""
	done, err := a.decision(ctx, c, f, func() error { return place(c.Adapters.Dir, target, files, info.IsDir()) },
		func(s mqtt.Adapter, there bool) bool {
			// The first news of a drop is that it settles; what is retained from before is no decision.
			if there && s.State != mqtt.AdapterActive && s.State != mqtt.AdapterRejected {
				before = s.State
			}
			return there && before != "" && (s.State == mqtt.AdapterActive || s.State == mqtt.AdapterRejected)
		}, name)
	if err != nil || done == nil {
		return err
	}
	if f.asJSON {
		err = cli.Encoder(a.Out).Encode(done)
	} else {
		err = a.printAdapter(*done)
	}
	if err == nil && done.State == mqtt.AdapterRejected {
		return cli.ErrReported
	}
	return err
}

// mayNotWrite says what to do about a folder that belongs to a group that one is not in.
func mayNotWrite(dir string, err error) error {
	if !errors.Is(err, fs.ErrPermission) {
		return err
	}
	return fmt.Errorf(
		"%s: you may not write there: members of its group may (sudo usermod -aG edged $USER, then log out and in again), or put sudo before the command",
		dir,
	)
}

// place copies an adapter's files, and their signatures, into the folder in one step.
func place(dir, target string, files []string, folder bool) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	drop, err := adapters.Begin(dir)
	if err != nil {
		return mayNotWrite(dir, err)
	}
	defer drop.Discard()
	for _, file := range files {
		name := filepath.Base(file)
		if !folder {
			name = target
		}
		if err := duplicate(drop, file, name); err != nil {
			return err
		}
		err := duplicate(drop, file+adapters.SignatureSuffix, name+adapters.SignatureSuffix)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if folder {
		return drop.AsFolder(target)
	}
	return drop.AsFile(target)
}

func duplicate(to *adapters.Drop, from, name string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened for reading: nothing to lose
	_, err = to.Write(name, in)
	return err
}

func (a *app) removeAdapter(ctx context.Context, c *config.Config, f *folderFlags, name string) error {
	if !config.ValidFileName(name) {
		return cli.Usagef("%q cannot be the name of an adapter", name)
	}
	dir := c.Adapters.Dir
	var found []string
	for _, file := range []string{name, name + ".gguf"} {
		if _, err := os.Lstat(filepath.Join(dir, file)); err == nil {
			found = append(found, file)
		}
	}
	if len(found) == 0 {
		return fmt.Errorf("there is neither %s nor %s.gguf in %s", name, name, dir)
	}
	remove := func() error {
		for _, file := range found {
			out, err := os.MkdirTemp(dir, ".removing-") // one step for the service, however large it is
			if err != nil {
				return mayNotWrite(dir, err)
			}
			if err := os.Rename(filepath.Join(dir, file), filepath.Join(out, file)); err != nil {
				return errors.Join(err, os.Remove(out))
			}
			if err := os.RemoveAll(out); err != nil {
				return err
			}
			if err := os.Remove(filepath.Join(dir, file+".minisig")); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	}
	done, err := a.decision(
		ctx,
		c,
		f,
		remove,
		func(s mqtt.Adapter, there bool) bool { return !there || s.State == mqtt.AdapterDraining },
		name,
	)
	if err != nil || done == nil {
		return err
	}
	state := "removed"
	if done.State != "" {
		state = done.State
	}
	if f.asJSON {
		return cli.Encoder(a.Out).Encode(map[string]string{"name": name, "state": state})
	}
	_, err = fmt.Fprintf(a.Out, "%-9s %s\n", state, name)
	return err
}
