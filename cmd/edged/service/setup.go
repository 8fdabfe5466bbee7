package service

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/reply"
	"edged/core/config"
	"edged/core/model/gguf"
	"edged/core/serve/door/mqtt/askclient"
	"edged/core/serve/door/mqtt/link"
)

// setup holds the answers given to `edged setup` and the folders that it works in. The folders are fields, so
// that a test can bring its own root.
type setup struct {
	a *app

	broker, username, password string // "": asked for, or kept
	model, node, person        string
	question                   string
	noStart, keep              bool

	configFile string
	modelsDir  string
	group      string // of the service
	manager    serviceManager
	ask        func(ctx context.Context, c *config.Config, question string) (string, error)
	in         *bufio.Reader
	asks       bool // a person sits at the terminal
}

// serviceManager is the part of systemd that setup needs.
type serviceManager interface {
	// Enable starts the service at every boot, and starts or restarts it now; it waits until the service is ready.
	Enable(ctx context.Context) error
	// Reason is the last thing that the service said was wrong; "": nothing.
	Reason(ctx context.Context) string
	// Join puts a user into the service's group. It reports whether that was news.
	Join(ctx context.Context, person, group string) (bool, error)
}

func (a *app) setupCommand() *cobra.Command {
	s := &setup{a: a, configFile: cli.SystemConfig, modelsDir: "/srv/edged/models", group: "edged", manager: systemd{}}
	s.ask = a.firstQuestion
	c := &cobra.Command{
		Use:     "setup [--broker URL] [--model PATH] [--node NAME]",
		GroupID: "service",
		Short:   "Set this machine up: broker, model, service, first answer",
		Long: `Asks for the broker and the model, or takes them by flags; writes them to ` + cli.SystemConfig + `; copies the model to
/srv/edged/models, where the service may read it; puts you into the group edged, whose members may drop adapters; enables and starts
the service; waits until it is ready; asks it one question and prints the answer.

Every step can be run again: what is right already is left as it is, and an empty answer keeps what is set.`,
		Example: `  sudo edged setup
  sudo edged setup --broker tcp://192.168.1.2:1883 --model ~/qwen2.5-0.5b-instruct-q4_0.gguf
  sudo edged setup --broker embedded --model /media/usb/model.gguf --keep-model`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error {
			if os.Geteuid() != 0 {
				return errors.New("setup writes below /etc and /srv and starts a service: run it as root: sudo edged setup")
			}
			s.in, s.asks = bufio.NewReader(a.In), cli.Terminal(a.In)
			if s.person == "" {
				s.person = os.Getenv("SUDO_USER")
			}
			return s.run(ctx)
		}),
	}
	fl := c.Flags()
	fl.StringVar(&s.broker, "broker", "", `URL of the broker, such as tcp://192.168.1.2:1883, or "embedded" for edged's own`)
	fl.StringVar(&s.username, "username", "", "user name at the broker")
	fl.StringVar(&s.password, "password-file", "", "file with the password, which the service's group must be able to read")
	fl.StringVar(&s.model, "model", "", "GGUF file or Hugging Face folder; it is copied to "+s.modelsDir)
	fl.BoolVar(&s.keep, "keep-model", false, "serve the model from where it is, without a copy")
	fl.StringVar(&s.node, "node", "", "name of this node in topics (default: the host's name)")
	fl.StringVar(&s.person, "user", "", "who may drop adapters (default: who called sudo)")
	fl.StringVar(&s.question, "question", "Say hello in one short sentence.", "what is asked at the end; empty: nothing")
	fl.BoolVar(&s.noStart, "no-start", false, "write the settings, and leave the service alone")
	return c
}

// run does the steps in order.
func (s *setup) run(ctx context.Context) error {
	before, err := config.Load(s.configFile, nil, nil)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("what is set now cannot be read, mend it first: %w", err)
	}
	if before == nil {
		before = config.Default()
	}
	if err := s.questions(before); err != nil {
		return err
	}
	for _, path := range []*string{&s.model, &s.password} {
		if *path == "" {
			continue
		}
		if *path, err = filepath.Abs(*path); err != nil { // the file of settings has another folder than this command
			return err
		}
	}
	if s.model != "" && !s.keep {
		if s.model, err = s.place(ctx, s.model); err != nil {
			return err
		}
	}
	c, err := s.write()
	if err != nil {
		return err
	}
	s.step("settings", s.configFile)
	if s.person != "" && s.person != "root" {
		joined, err := s.manager.Join(ctx, s.person, s.group)
		if err != nil {
			return err
		}
		if joined {
			s.step(
				"group",
				fmt.Sprintf(
					"%s is in the group %s now, from the next login on: log out and in again before you drop adapters",
					s.person,
					s.group,
				),
			)
		}
	}
	if s.noStart {
		return nil
	}
	s.step("service", "starting; a large model takes minutes to be read the first time")
	if err := s.manager.Enable(ctx); err != nil {
		if reason := s.manager.Reason(ctx); reason != "" {
			return fmt.Errorf("the service does not start: %s; mend that and run `sudo edged setup` again", reason)
		}
		return fmt.Errorf("the service does not start: %w; `journalctl -u edged -e` says more", err)
	}
	s.step("service", "ready, and started at every boot")
	if s.question == "" {
		return nil
	}
	answer, err := s.ask(ctx, c, s.question)
	if err != nil {
		return fmt.Errorf("the service runs, and did not answer: %w", err)
	}
	s.step("asked", s.question)
	s.step("answered", strings.TrimSpace(answer))
	return nil
}

func (s *setup) step(what, detail string) { s.a.Notef("%-9s %s", what, detail) }

// questions fills in what no flag gave. An empty answer keeps what is set; without a terminal nothing is asked.
func (s *setup) questions(now *config.Config) error {
	if s.broker == "" {
		answer, err := s.askFor("Broker (tcp://HOST:1883, or embedded for edged's own)", now.MQTT.Broker)
		if err != nil {
			return err
		}
		s.broker = answer
	}
	if s.model == "" {
		answer, err := s.askFor("Model (a .gguf file, or a Hugging Face folder)", now.Model.Path)
		if err != nil {
			return err
		}
		if answer == "" {
			return errors.New("a model is needed: --model PATH")
		}
		if answer != now.Model.Path {
			s.model = answer
		}
	}
	return nil
}

// askFor asks one thing.
func (s *setup) askFor(text, now string) (string, error) {
	if !s.asks {
		return now, nil
	}
	if now != "" {
		text += " [" + now + "]"
	}
	if _, err := fmt.Fprint(s.a.Err, text+": "); err != nil {
		return "", err
	}
	line, err := s.in.ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return "", err
	}
	if line = strings.TrimSpace(line); line == "" {
		return now, nil
	}
	return line, nil
}

// write changes the settings that were given in the file of settings, in one step, and proves the result.
func (s *setup) write() (*config.Config, error) {
	text, err := os.ReadFile(s.configFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	out := string(text)
	for _, set := range []struct{ key, value string }{
		{"node.name", s.node}, {"mqtt.broker", s.broker}, {"mqtt.username", s.username}, {"mqtt.password_file", s.password}, {"model.path", s.model},
	} {
		if set.value == "" {
			continue
		}
		if out, err = config.Set(out, set.key, config.Quote(set.value)); err != nil {
			return nil, err
		}
	}
	c, err := config.Parse(s.configFile, []byte(out), nil, nil)
	if err == nil {
		err = c.Servable()
	}
	if err != nil {
		return nil, fmt.Errorf("nothing was written: %w", err)
	}
	if out != string(text) {
		mode := fs.FileMode(0o644)
		if info, err := os.Stat(s.configFile); err == nil {
			mode = info.Mode().Perm()
		}
		if err := replaceFile(s.configFile, []byte(out), mode); err != nil {
			return nil, err
		}
	}
	// As the service will read it: a file of config.d may say otherwise.
	real, err := config.Load(s.configFile, nil, nil)
	if err != nil {
		return nil, err
	}
	if real.Model.Path != c.Model.Path || real.MQTT.Broker != c.MQTT.Broker {
		return nil, fmt.Errorf(
			"a file in %s sets model.path or mqtt.broker otherwise: `edged config` shows which",
			filepath.Join(filepath.Dir(s.configFile), "config.d"),
		)
	}
	return real, nil
}

// replaceFile writes a file in one step: a power cut leaves the old or the new one.
func replaceFile(path string, data []byte, mode fs.FileMode) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil { //nolint:gosec // of a configuration that everybody may read
		return err
	}
	tmp, err := os.CreateTemp(filepath.Dir(path), ".setup-")
	if err != nil {
		return err
	}
	defer os.Remove(tmp.Name()) //nolint:errcheck // gone after the rename
	_, err = tmp.Write(data)
	if err == nil {
		err = tmp.Chmod(mode)
	}
	if err == nil {
		err = tmp.Sync()
	}
	if failed := tmp.Close(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}

// place copies a model to where the service may read it, and returns the path there. What is there already under the same
// name with the same sizes stays.
func (s *setup) place(ctx context.Context, from string) (string, error) {
	info, err := os.Stat(from)
	if err != nil {
		return "", fmt.Errorf("model %s: %w", from, unwrapPath(err))
	}
	if within(s.modelsDir, from) {
		return from, nil
	}
	parts, err := filesOf(from, info)
	if err != nil {
		return "", err
	}
	to := filepath.Join(s.modelsDir, filepath.Base(from))
	if err := os.MkdirAll(s.modelsDir, 0o755); err != nil { //nolint:gosec // models are no secret
		return "", err
	}
	var bytes int64
	missing := parts[:0]
	for _, p := range parts {
		target := filepath.Join(s.modelsDir, p.name)
		if old, err := os.Stat(target); err == nil && old.Size() == p.size {
			continue
		}
		bytes += p.size
		missing = append(missing, p)
	}
	if len(missing) == 0 {
		s.step("model", to)
		return to, nil
	}
	if free, err := freeBytes(s.modelsDir); err == nil && free < bytes+64<<20 {
		return "", fmt.Errorf(
			"model %s: %s has %s free, the copy needs %s: free some space, or serve it from where it is with --keep-model",
			from,
			s.modelsDir,
			cli.BytesText(free),
			cli.BytesText(bytes),
		)
	}
	s.step("model", fmt.Sprintf("copying %s to %s", cli.BytesText(bytes), s.modelsDir))
	for _, p := range missing {
		if err := copyModelFile(ctx, filepath.Join(filepath.Dir(from), p.name), filepath.Join(s.modelsDir, p.name)); err != nil {
			return "", fmt.Errorf("model %s: %w", from, err)
		}
	}
	s.step("model", to)
	return to, nil
}

// part is one file of a model; its name is relative to the folder that the model stands in.
type part struct {
	name string
	size int64
}

// filesOf lists the files of a model: a GGUF file with the other parts of a split one, or a folder's files.
func filesOf(path string, info fs.FileInfo) ([]part, error) {
	base := filepath.Dir(path)
	if !info.IsDir() {
		prefix, _, count, split := gguf.SplitName(path)
		if !split {
			return []part{{filepath.Base(path), info.Size()}}, nil
		}
		var list []part
		for no := range count {
			name := gguf.PartName(prefix, no+1, count)
			st, err := os.Stat(name)
			if err != nil {
				return nil, fmt.Errorf("model %s: part %s: %w", path, filepath.Base(name), unwrapPath(err))
			}
			list = append(list, part{filepath.Base(name), st.Size()})
		}
		return list, nil
	}
	var list []part
	err := filepath.WalkDir(path, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && strings.HasPrefix(d.Name(), ".") && p != path:
			return filepath.SkipDir // a downloader's cache
		case d.IsDir():
			return nil
		}
		st, err := os.Stat(p) // the hub's cache holds links
		if err != nil {
			return fmt.Errorf("model %s: %w", path, unwrapPath(err))
		}
		name, err := filepath.Rel(base, p)
		if err == nil && st.Mode().IsRegular() {
			list = append(list, part{name, st.Size()})
		}
		return err
	})
	return list, err
}

// copyModelFile copies one file under a temporary name, and gives it its own when all of it is on the disk.
func copyModelFile(ctx context.Context, from, to string) error {
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil { //nolint:gosec // models are no secret
		return err
	}
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // read only
	tmp := to + ".part"
	out, err := os.OpenFile(tmp, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644) //nolint:gosec // models are no secret
	if err != nil {
		return err
	}
	defer os.Remove(tmp) //nolint:errcheck // gone after the rename
	_, err = io.Copy(out, contextReader{ctx, in})
	if err == nil {
		err = out.Sync()
	}
	if failed := out.Close(); err == nil {
		err = failed
	}
	if err != nil {
		return err
	}
	return os.Rename(tmp, to)
}

// contextReader ends reading when its context ends.
type contextReader struct {
	ctx context.Context //nolint:containedctx // of one copy
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}

// freeBytes returns the space, in bytes, that the file system of dir has left for unprivileged users.
func freeBytes(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return int64(st.Bavail) * int64(st.Bsize), nil //nolint:gosec,unconvert // far from 2^63; the types differ by architecture
}

// within reports whether path is dir or below it.
func within(dir, path string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// unwrapPath takes the path out of a path error: the sentence around it names it.
func unwrapPath(err error) error {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		return pe.Err
	}
	return err
}

// firstQuestion asks a node that has just started.
func (a *app) firstQuestion(ctx context.Context, c *config.Config, question string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	client, err := askclient.Dial(ctx, askclient.Options{Settings: link.From(&c.MQTT, c.MQTT.Listen), Base: c.MQTT.Base, Node: c.Node.Name})
	if err != nil {
		return "", err
	}
	defer client.Close()
	answer, err := client.Ask(ctx, askclient.Request{Prompt: question, MaxTokens: 64}, askclient.Follow{})
	if err != nil {
		return "", reply.Why(err)
	}
	if answer.Text == nil {
		return "", errors.New("the answer has no text")
	}
	return *answer.Text, nil
}

// systemd is the service manager of the machine.
type systemd struct{}

func (systemd) Enable(ctx context.Context) error {
	if err := call(ctx, "systemctl", "enable", "edged.service"); err != nil {
		return err
	}
	return call(ctx, "systemctl", "restart", "edged.service") // Type=notify: it returns when the node is ready
}

func (systemd) Reason(ctx context.Context) string {
	var out bytes.Buffer
	cmd := exec.CommandContext(ctx, "journalctl", "--unit=edged.service", "--priority=err", "--lines=1", "--output=cat", "--since=-15min")
	cmd.Stdout = &out
	if cmd.Run() != nil {
		return ""
	}
	return strings.TrimSpace(out.String())
}

func (systemd) Join(ctx context.Context, person, group string) (bool, error) {
	u, err := user.Lookup(person)
	if err != nil {
		return false, fmt.Errorf("--user: %w", err)
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return false, fmt.Errorf("the service's group is missing, is the package installed? %w", err)
	}
	ids, err := u.GroupIds()
	if err == nil {
		if slices.Contains(ids, g.Gid) {
			return false, nil
		}
	}
	return true, call(ctx, "usermod", "-aG", group, person)
}

// call runs a program of the system; the error holds what it said.
func call(ctx context.Context, name string, args ...string) error {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	if err == nil {
		return nil
	}
	if text := strings.TrimSpace(string(out)); text != "" {
		return fmt.Errorf("%s: %s", name, text)
	}
	return fmt.Errorf("%s: %w", name, err)
}
