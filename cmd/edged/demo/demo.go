// Package demo has the command that starts a broker and a service with the model of the demonstration, and
// asks it a question.
//
// It must not be needed by anything else.
package demo

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/reply"
	"edged/core/config"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
	"edged/core/serve/door/mqtt/link"
)

// The demo's house: what the model is told before the question. The model is very small; it looks values up
// in a list of this form and knows little else.
const (
	demoHouse    = "Kitchen: 21.5 °C, 45 %; bedroom: 18.2 °C, 52 %; bathroom: 23.4 °C, 61 %; hallway light on; kitchen window open; front door closed."
	demoQuestion = "How warm is it in the kitchen?"
)

// Times of the demo.
const (
	demoStart = 2 * time.Minute // until the node is online: an emulated or very old machine takes long
	demoStop  = 30 * time.Second
)

type demoFlags struct {
	dir     string
	adapter string
	house   string
	keep    bool
	verbose bool
	set     []string
}

// app embeds the state that all commands share.
type app struct{ *cli.App }

// Command is the demonstration.
func Command(shared *cli.App) *cobra.Command {
	a := &app{shared}
	var f demoFlags
	c := &cobra.Command{
		Use:     "demo [PROMPT]",
		GroupID: "service",
		Short:   "Start the demo service, ask it a question, and stop it",
		Long: `Starts 'edged run' with the demo's configuration (an embedded broker, a very small model and its adapters) on a free port and with a
throw-away state folder, publishes a prompt over MQTT, shows the answer as it comes and how fast it came, and stops everything.

With --keep the service keeps running until Ctrl-C, and a line to try in a second terminal is shown.`,
		Example: `  edged demo
  edged demo --adapter pirate "Turn on the hallway light."
  edged demo --keep`,
		RunE: a.Do(func(ctx context.Context, args []string) error { return a.demo(ctx, &f, strings.Join(args, " ")) }),
	}
	fl := c.Flags()
	fl.StringVar(&f.dir, "dir", "", "the demo's folder (default: demo here, or beside the folder of this program)")
	fl.StringVar(&f.adapter, "adapter", "", "adapter to answer with: pirate, deutsch, json")
	fl.StringVar(&f.house, "system", demoHouse, "what the model is told before the question")
	fl.BoolVar(&f.keep, "keep", false, "keep the service running until Ctrl-C")
	fl.BoolVarP(&f.verbose, "verbose", "v", false, "show the service's log")
	fl.StringArrayVar(&f.set, "set", nil, "KEY=VALUE for the service, as of 'edged run'")
	return c
}

// service is an edged run in a process of its own.
type service struct {
	cmd    *exec.Cmd
	config *config.Config
	broker string // host:port
	online chan struct{}
	ended  chan error // of the process; its last words
}

func (a *app) demo(ctx context.Context, f *demoFlags, prompt string) error {
	if prompt == "" {
		prompt = demoQuestion
	}
	dir, err := demoDir(f.dir)
	if err != nil {
		return err
	}
	state, err := os.MkdirTemp("", "edged-demo-")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(state) }()
	listen := "127.0.0.1:0"
	if f.keep {
		listen = keptAddress(ctx, filepath.Join(dir, "config.toml"))
	}
	a.Notef("starting edged with %s …", filepath.Join(dir, "config.toml"))
	s, err := a.startService(
		ctx,
		filepath.Join(dir, "config.toml"),
		append([]string{"mqtt.listen=" + listen, "state.dir=" + state}, f.set...),
		f.verbose,
	)
	if err != nil {
		return err
	}
	err = a.demoAsk(ctx, f, s, prompt)
	if stopped := s.stop(); err == nil {
		err = stopped
	}
	return err
}

// demoDir finds the demo's folder.
func demoDir(dir string) (string, error) {
	tried := []string{dir}
	if dir == "" {
		tried = []string{"demo"}
		if self, err := os.Executable(); err == nil {
			tried = append(tried, filepath.Join(filepath.Dir(self), "..", "demo"))
		}
	}
	for _, d := range tried {
		if _, err := os.Stat(filepath.Join(d, "config.toml")); err == nil {
			return d, nil
		}
	}
	return "", fmt.Errorf("the demo is not here: there is no config.toml in %s; name its folder with --dir", strings.Join(tried, " or "))
}

// keptAddress is the address of the demo's configuration where it is free, so that the line to try stays the same.
func keptAddress(ctx context.Context, file string) string {
	c, err := config.Load(file, nil, nil)
	if err == nil && cli.Free(ctx, c.MQTT.Listen) == nil {
		return c.MQTT.Listen
	}
	return "127.0.0.1:0"
}

func (a *app) demoAsk(ctx context.Context, f *demoFlags, s *service, prompt string) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	if f.keep {
		a.Note(s.tryLine())
		select {
		case <-ctx.Done():
			return nil
		case err := <-s.ended:
			s.ended <- err
			return fmt.Errorf("the service ended: %w", err)
		}
	}
	client, err := askclient.Dial(
		ctx,
		askclient.Options{Settings: link.From(&s.config.MQTT, s.broker), Base: s.config.MQTT.Base, Node: s.config.Node.Name},
	)
	if err != nil {
		return err
	}
	defer client.Close()
	r := askclient.Request{Adapter: f.adapter, Messages: []askclient.Message{{Role: "user", Content: prompt}}}
	if f.house != "" {
		a.Notef("the model knows: %s", f.house)
		r.Messages = append([]askclient.Message{{Role: "system", Content: f.house}}, r.Messages...)
	}
	a.Notef("prompt: %s", prompt)
	k := &reply.Ink{W: a.Out, Hold: !cli.Terminal(a.Out), Note: a.Note}
	answer, err := client.Ask(ctx, r, askclient.Follow{Delta: k.Delta, Restart: k.Restart})
	k.End(err)
	if err != nil {
		return reply.Why(err)
	}
	a.Note(reply.Speed(answer.Timings, answer.Usage))
	return k.Err
}

// tryLine returns the message that tells which commands to type in a second terminal.
func (s *service) tryLine() string {
	const pub, sub = "mosquitto_pub", "mosquitto_sub"
	host, port, _ := strings.Cut(s.broker, ":")
	at := fmt.Sprintf("-h %s -p %s -t %s", host, port, mqtt.TopicsOf(s.config).Root())
	return fmt.Sprintf(`
edged answers on the broker at %s. In a second terminal:

  %s %s/answer &
  %s %s/ask -m 'Hello'

or: edged chat --broker tcp://%s --node %s
Ctrl-C stops it.`, s.broker, sub, at, pub, at, s.broker, s.config.Node.Name)
}

// startService starts this program as a service and follows its log.
func (a *app) startService(ctx context.Context, file string, set []string, verbose bool) (*service, error) {
	set = append([]string{"log.format=json"}, set...)
	c, err := config.Load(file, set, nil)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	args := []string{"run", "--config", file}
	for _, kv := range set {
		args = append(args, "--set", kv)
	}
	// The service is stopped with SIGTERM, not with ctx: Ctrl-C here must not take its time to shut down away.
	cmd := exec.CommandContext(context.WithoutCancel(ctx), self, args...) //nolint:gosec // it is this program
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	log, err := cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	s := &service{cmd: cmd, config: c, online: make(chan struct{}), ended: make(chan error, 1)}
	go s.follow(log, a.Streams, verbose)
	return s, nil
}

// follow reads the service's log to its end: where the broker listens, when the node is online, and what to show.
func (s *service) follow(log io.Reader, show cli.Streams, verbose bool) {
	last := ""
	broker := ""
	lines := bufio.NewScanner(log)
	lines.Buffer(make([]byte, 64<<10), 1<<20)
	online := false
	for lines.Scan() {
		var l struct {
			Level   string `json:"level"`
			Msg     string `json:"msg"`
			Address string `json:"address"`
			Err     string `json:"err"`
		}
		if json.Unmarshal(lines.Bytes(), &l) != nil {
			last = strings.TrimPrefix(lines.Text(), "edged: ") // the sentence of an exit
		}
		switch {
		case l.Msg == "embedded broker listens":
			broker = l.Address
		case l.Msg == "online" && !online:
			online = true
			s.broker = broker
			close(s.online)
		}
		if verbose || l.Level == "WARN" || l.Level == "ERROR" {
			show.Note(lines.Text())
		}
	}
	err := s.cmd.Wait()
	if err != nil && last != "" {
		err = errors.New(last)
	}
	s.ended <- err
}

// wait waits until the node is online.
func (s *service) wait(ctx context.Context) error {
	timeout := time.NewTimer(demoStart)
	defer timeout.Stop()
	select {
	case <-s.online:
		return nil
	case err := <-s.ended:
		s.ended <- err
		if err == nil {
			err = errors.New("it ended by itself")
		}
		return fmt.Errorf("the service did not start: %w", err)
	case <-timeout.C:
		return fmt.Errorf("the service was not online after %v", demoStart)
	case <-ctx.Done():
		return ctx.Err()
	}
}

// stop ends the service as systemd would, and waits for it.
func (s *service) stop() error {
	_ = s.cmd.Process.Signal(syscall.SIGTERM) // it may have ended
	timeout := time.NewTimer(demoStop)
	defer timeout.Stop()
	select {
	case err := <-s.ended:
		return err
	case <-timeout.C:
		_ = s.cmd.Process.Kill() // it may have ended
		return fmt.Errorf("the service did not stop within %v: %w", demoStop, <-s.ended)
	}
}
