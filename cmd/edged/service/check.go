package service

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/plugins"
	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/adapters"
	"edged/core/serve/daemon"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/models"
)

// finding is one line of a check.
type finding struct {
	OK     bool   `json:"ok"`
	What   string `json:"what"`
	Detail string `json:"detail"`
	Fix    string `json:"fix,omitempty"`
	Unseen bool   `json:"unseen,omitempty"` // it could not be looked at: neither ok nor a problem
	Note   bool   `json:"note,omitempty"`   // it works, with something missing
}

// checker gathers findings.
type checker struct {
	a     *app
	c     *config.Config
	unit  map[string]string   // of the installed service; nil: there is none
	quiet bool                // findings are not printed as they come
	plan  *backend.MemoryPlan // as soon as it is known
	short bool                // nothing is loaded: the plan is all that is wanted
	found []finding
}

func (k *checker) ok(what, format string, args ...any) {
	k.add(finding{OK: true, What: what, Detail: fmt.Sprintf(format, args...)})
}

// note tells of something that is missing and that the service can do without.
func (k *checker) note(what, fix, format string, args ...any) {
	k.add(finding{OK: true, Note: true, What: what, Detail: fmt.Sprintf(format, args...), Fix: fix})
}

// unseen reports something that the user of check may not read.
func (k *checker) unseen(what, format string, args ...any) {
	k.add(finding{OK: true, Unseen: true, What: what, Detail: fmt.Sprintf(format, args...)})
}

func (k *checker) problem(what string, err error, fix string) {
	if k.mayNotSee(err) {
		k.unseen(what, "%s: you may not look there; `sudo edged check` sees what the service sees", cli.OneSentence(err))
		return
	}
	k.add(finding{What: what, Detail: cli.OneSentence(err), Fix: fix})
}

func (k *checker) add(f finding) {
	k.found = append(k.found, f)
	if k.quiet {
		return
	}
	word := "ok"
	switch {
	case f.Unseen:
		word = "unseen"
	case f.Note:
		word = "note"
	case !f.OK:
		word = "problem"
	}
	_, err := fmt.Fprintf(k.a.Out, "%-8s %-10s %s\n", word, f.What, f.Detail)
	if err == nil && f.Fix != "" {
		_, err = fmt.Fprintf(k.a.Out, "%-8s %-10s fix: %s\n", "", "", f.Fix)
	}
	if err != nil {
		k.quiet = true // nobody reads any more; the exit code still tells
	}
}

func (k *checker) failed() bool {
	for _, f := range k.found {
		if !f.OK {
			return true
		}
	}
	return false
}

func (a *app) checkCommand() *cobra.Command {
	var f cli.ConfigFlags
	var asJSON, limits bool
	c := &cobra.Command{
		Use:     "check [--config FILE] [MODEL]",
		GroupID: "service",
		Short:   "Verify everything that can be verified without serving",
		Long: `Reads the configuration and every preset, looks for the models that the configuration names, starts the plugins, loads the model and every
adapter, and tries the broker. Each line says ok, note or problem, and how to mend it. Nothing is published but short probes on edged/NODE/probe, and a running service is not disturbed. The exit code
is 1 where there is a problem.

What the service may read and write is not what you may: as root, the check of the installed service's settings runs as the service
would, with its user, its credentials and its unit's restrictions. As another user it says "unseen" of what only the service may look at.

With MODEL, a file, a folder or a name in models.dir, it says of that model alone whether it can be served, what its weights are stored in,
the memory that it takes, and how fast it would be here: what a token reads, against how fast this machine reads. Nothing is loaded.

With --systemd-limits it prints instead a drop-in for edged.service with memory limits that follow from the model's memory plan; run it
again after the model or the context has changed, while the service is stopped: where backend.kv_memory is 0, the plan takes what is free.`,
		Example: `  sudo edged check
  edged check --config config.toml
  edged check Downloads/qwen3-0.6b-q4_0.gguf
  edged check --systemd-limits | sudo tee /etc/systemd/system/edged.service.d/memory.conf`,
		Args: cobra.MaximumNArgs(1),
		RunE: a.Do(func(ctx context.Context, args []string) error {
			k := &checker{a: a, quiet: asJSON || limits}
			switch {
			case limits && len(args) > 0:
				return cli.Usagef("--systemd-limits is for the configured model: leave %s out", args[0])
			case limits:
				return k.limits(ctx, &f)
			case len(args) > 0:
				k.one(ctx, &f, args[0])
			default:
				k.unit = readUnit(ctx)
				if f.File() == cli.SystemConfig {
					if done, err := a.asService(ctx, k.unit, f.Arguments(asJSON)); done || err != nil {
						return err
					}
				}
				k.run(ctx, &f)
			}
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if asJSON {
				if err := cli.Encoder(a.Out).Encode(struct {
					OK       bool      `json:"ok"`
					Findings []finding `json:"findings"`
				}{!k.failed(), k.found}); err != nil {
					return err
				}
			}
			if k.failed() {
				return cli.ErrReported
			}
			return nil
		}),
	}
	f.Register(c)
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	c.Flags().BoolVar(&limits, "systemd-limits", false, "print a drop-in for edged.service with memory limits, and nothing else")
	return c
}

// limits prints the drop-in, or what keeps the plan from being made.
func (k *checker) limits(ctx context.Context, f *cli.ConfigFlags) error {
	c, err := f.Load()
	if err == nil {
		err = c.Servable()
	}
	if err != nil {
		return err
	}
	if c.Model.Path, err = daemon.MainModel(c); err != nil {
		return err
	}
	k.c, k.short = c, true
	k.model(ctx)
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case k.plan == nil:
		for _, p := range k.found {
			if !p.OK {
				return fmt.Errorf("%s: %s", p.What, p.Detail)
			}
		}
		return errors.New("the backend made no memory plan")
	}
	_, err = fmt.Fprint(k.a.Out, systemdLimits(c.Model.Path, *k.plan))
	return err
}

func (k *checker) run(ctx context.Context, f *cli.ConfigFlags) {
	c, err := f.Load()
	if err == nil {
		err = c.Servable()
	}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			k.problem("config", errors.New(line), "")
		}
		return
	}
	seeCredentials(c)
	k.c = c
	where := c.File
	if where == "" {
		where = "defaults only: no file was given, and there is no " + cli.SystemConfig
	}
	k.ok("config", "%s", where)
	k.service(k.unit)
	k.state()
	for _, path := range c.PrefixCache.Pinned {
		if _, err := daemon.ReadPinned(path); err != nil {
			k.problem("pinned", err, "")
		}
	}
	k.models()
	k.prompts(ctx)
	k.broker(ctx)
	if c.Model.Path, err = daemon.MainModel(c); err != nil {
		k.problem("model", err, "put it into models.dir, or name another in models.default")
		return
	}
	k.model(ctx)
}

// state tries to write where edged writes. A folder that is missing is not made: whether it could be is tried
// in the nearest folder above it that is there, so that a check leaves nothing behind, whatever it finds
// afterwards.
func (k *checker) state() {
	const fix = "make the folder, and let the service's user own it; or set state.dir"
	dir, word := k.c.State.Dir, "can be written"
	made, err := tryWriting(dir)
	if err != nil {
		k.problem("state", err, fix)
		return
	}
	if made {
		word = "can be made"
	}
	k.ok("state", "%s %s", dir, word)
}

// tryWriting tells whether a folder can be written, or, where it is missing, whether it can be made, which it
// reports. Nothing is left behind.
func tryWriting(dir string) (missing bool, err error) {
	at, err := existing(dir)
	if err != nil {
		return false, err
	}
	if at != dir {
		try, err := os.MkdirTemp(at, ".check-")
		if err != nil {
			return true, err
		}
		return true, os.Remove(try)
	}
	file, err := os.CreateTemp(dir, ".check-")
	if err != nil {
		return false, err
	}
	return false, errors.Join(file.Close(), os.Remove(file.Name()))
}

// existing is the folder dir, or the nearest one above it that is there.
func existing(dir string) (string, error) {
	for {
		info, err := os.Stat(dir)
		switch {
		case err == nil && !info.IsDir():
			return "", fmt.Errorf("%s is no folder", dir)
		case err == nil:
			return dir, nil
		case !errors.Is(err, fs.ErrNotExist) || dir == filepath.Dir(dir):
			return "", err
		}
		dir = filepath.Dir(dir)
	}
}

// broker tries the way to the broker.
func (k *checker) broker(ctx context.Context) {
	m := &k.c.MQTT
	if m.Embedded() {
		if err := cli.Free(ctx, m.Listen); err != nil {
			k.problem(
				"broker",
				fmt.Errorf("the embedded broker cannot listen on %s: %w", m.Listen, err),
				"if another broker runs there, use it: mqtt.broker = \"tcp://"+m.Listen+"\"; else choose another mqtt.listen. A running edged holds the port too",
			)
			return
		}
		k.ok("broker", "embedded, %s is free", m.Listen)
		return
	}
	probe, cancel := context.WithTimeout(ctx, 90*time.Second)
	defer cancel()
	lacks, err := mqtt.Probe(probe, mqtt.Options{Node: k.c.Node.Name, Config: *m})
	if err != nil {
		k.problem("broker", err, "mqtt.broker, mqtt.username, mqtt.password_file and the broker's own settings decide this")
		return
	}
	k.ok("broker", "%s takes the connection and all subscriptions", m.Broker)
	for _, l := range lacks {
		k.add(finding{OK: !l.Grave, Unseen: l.Untried, Note: !l.Grave && !l.Untried, What: "broker", Detail: l.Text, Fix: l.Fix})
	}
}

// model starts the plugins as the service would, and loads what it would load.
func (k *checker) model(ctx context.Context) {
	c := k.c
	s, done := k.plugins(ctx)
	defer done()
	if s == nil {
		return
	}
	if !k.tokenizer(ctx, s, c.Model.Path) {
		return
	}
	req := daemon.LoadRequest(c)
	req.CacheDir = daemon.CacheDir()
	if !k.memory(ctx, s, req) {
		return
	}
	k.pinned(ctx, s, req)
	if k.short {
		return
	}
	if err := s.Load(ctx, req, nil, nil); err != nil {
		k.problem("model", s.Dead(err), "")
		return
	}
	m := s.Model
	k.ok(
		"model",
		"%s: %s, %s, %d layers, %.1f M parameters, context %d",
		filepath.Base(c.Model.Path),
		m.Arch,
		m.Format,
		m.Layers,
		float64(m.Parameters)/1e6,
		m.Context,
	)
	k.adapters(ctx, s)
	began := time.Now()
	last, err := s.Run(ctx, backend.Request{ID: "check", PromptIDs: []int32{max(s.Text.BOS, 0)}, MaxTokens: 1}, nil)
	if err != nil {
		k.problem("answer", s.Dead(err), "")
		return
	}
	k.ok("answer", "%d token in %v", last.Usage.CompletionTokens, time.Since(began).Round(time.Millisecond))
}

// plugins starts both plugins as the service would; nil: one does not start, and that was told. done ends them.
func (k *checker) plugins(ctx context.Context) (s *plugins.Session, done func()) {
	c := k.c
	p := plugins.Flags{Dir: c.Plugins.Dir, Backend: c.Backend.Name, Pins: c.Plugins.Pins()}
	said := overhear()
	done = func() {
		if s != nil {
			s.Close()
		}
		for _, f := range said.findings() { // the plugins have ended: nothing of what they said is under way
			k.add(f)
		}
	}
	log := slog.New(said)
	started, err := p.StartTokenizer(ctx, log, "")
	if err != nil {
		k.problem("tokenizer", err, "")
		return nil, done
	}
	k.ok("tokenizer", "%s starts", started.TokenizerPath())
	path, err := started.StartBackend(ctx, &p, log, c.Backend.Command)
	if err != nil {
		k.problem("backend", err, "")
		started.Close()
		return nil, done
	}
	s = started
	about, err := s.Backend.Describe(ctx)
	if err != nil {
		k.problem("backend", s.Dead(err), "")
		s.Close()
		s = nil
		return nil, done
	}
	k.ok("backend", "%s starts: %s, kernels %s", path, about.Name, strings.Join(about.Kernels, ", "))
	return s, done
}

// tokenizer loads the tokenizer of a model. It reports whether to go on.
func (k *checker) tokenizer(ctx context.Context, s *plugins.Session, path string) bool {
	var err error
	if s.Text, err = daemon.LoadTokenizer(ctx, s.Tokenizer, path); err != nil {
		k.problem("model", s.Dead(err), "")
		return false
	}
	template := ", with a chat template"
	if s.Text.ChatTemplate == "" {
		template = ""
		if facts, err := models.Headers(path); err == nil && facts.Kind != "encoder" {
			template = ", without a chat template: prompts are taken as plain text"
		}
	}
	k.ok("model", "its tokenizer has %d pieces%s", s.Text.Tokens, template)
	return true
}

// memory shows the plan and what a smaller output head would save. It reports whether to go on.
func (k *checker) memory(ctx context.Context, s *plugins.Session, req backend.LoadRequest) bool {
	path, err := filepath.Abs(req.Path)
	if err != nil {
		k.problem("memory", err, "")
		return false
	}
	req.Path = path
	plan, err := s.Backend.Plan(ctx, req)
	if err != nil {
		k.problem("memory", s.Dead(err), "")
		return false
	}
	k.plan = &plan
	detail := fmt.Sprintf(
		"%s of %s: weights %s mapped, derived %s, attention cache %s, scratch %s, adapters %s, draft model %s",
		cli.BytesText(
			plan.Total,
		),
		cli.BytesText(plan.Available),
		cli.BytesText(plan.Weights),
		cli.BytesText(plan.Derived),
		cli.BytesText(plan.KV),
		cli.BytesText(plan.Scratch),
		cli.BytesText(plan.Adapters),
		cli.BytesText(plan.Draft),
	)
	if plan.OnDisk > 0 {
		detail += fmt.Sprintf("; %s stay in the file, of which a token reads one row", cli.BytesText(plan.OnDisk))
	}
	if !plan.Fits {
		k.problem(
			"memory",
			errors.New(detail+": does not fit"),
			"lower backend.context or backend.max_sequences, set backend.kv = \"q8_0\", or choose a smaller model; backend.ignore_plan = true loads it regardless",
		)
		return req.IgnorePlan
	}
	k.ok("memory", "%s", detail)
	k.head(ctx, s, req, plan)
	return true
}

// head tells what the output head costs per token, and what model.head could save.
func (k *checker) head(ctx context.Context, s *plugins.Session, req backend.LoadRequest, plan backend.MemoryPlan) {
	if plan.HeadSaves > 0 {
		k.ok(
			"head",
			"model.head = %q reads %s a token, %s less than as it is stored",
			req.Head,
			cli.BytesText(plan.HeadBytes),
			cli.BytesText(plan.HeadSaves),
		)
		return
	}
	var could []string
	for _, head := range []string{"q8_0", "q4_0"} {
		try := req
		try.Head = head
		if p, err := s.Backend.Plan(ctx, try); err == nil && p.HeadSaves > 0 {
			could = append(could, fmt.Sprintf("%q would read %s less", head, cli.BytesText(p.HeadSaves)))
		}
	}
	if len(could) > 0 && plan.HeadBytes > 0 {
		k.ok(
			"head",
			"the output head reads %s a token as it is stored; model.head = %s",
			cli.BytesText(plan.HeadBytes),
			strings.Join(could, ", "),
		)
	}
}

// adapters proves every adapter of the folder.
func (k *checker) adapters(ctx context.Context, s *plugins.Session) {
	c := k.c
	if c.Adapters.Dir == "" {
		return
	}
	tmp, err := os.MkdirTemp("", "edged-check-")
	if err != nil {
		k.problem("adapters", err, "set TMPDIR to a folder that can be written")
		return
	}
	defer os.RemoveAll(tmp) //nolint:errcheck // a temporary folder
	o := daemon.AdapterOptions(c)
	o.Store, o.Settle, o.Gate = tmp, 0, adapters.Gate{} // nothing is compared: the service's own generations are not known here
	o.Log = slog.New(slog.DiscardHandler)
	o.Backend = func(context.Context, uint64) (adapters.Prover, uint64, error) { return s.Prover(), 1, nil }
	folder, err := adapters.New(o)
	if err != nil {
		k.problem("adapters", err, "")
		return
	}
	err = folder.Open(ctx)
	if err == nil {
		err = folder.First(ctx)
	}
	if err != nil {
		k.problem("adapters", err, "let the service's user read the folder, or set adapters.dir")
		return
	}
	there := 0
	for _, st := range folder.States() {
		if st.Stray != "" {
			k.note("adapters", "", "not taken from %s: %s", c.Adapters.Dir, st.Error)
			continue
		}
		there++
		if st.State != adapters.Active {
			k.problem("adapter", fmt.Errorf("%s: %s", st.Name, st.Error), "")
			continue
		}
		k.ok("adapter", "%s: %s, %s", st.Name, cli.MadeOf(st.Kind, st.Rank, st.Virtual, st.Targets), cli.BytesText(st.Bytes))
	}
	if there == 0 {
		k.ok("adapters", "none in %s", c.Adapters.Dir)
	}
	if name := c.Adapters.Default; name != "" {
		pin, err := folder.Resolve(name, "")
		if err != nil {
			k.problem("adapters", fmt.Errorf("adapters.default: %w", err), "put it into adapters.dir, or leave adapters.default out")
			return
		}
		pin.Release()
	}
}
