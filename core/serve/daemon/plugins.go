package daemon

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/dispatch"
	"edged/core/serve/models"
	"edged/core/serve/pluginhost"
)

// healthInterval is how often a plugin is asked whether it lives and gets on, at most.
const healthInterval = 5 * time.Second

// degradedAfter is how many lives in a row of a plugin may fail before requests are answered with errors instead of
// waiting for the next one.
const degradedAfter = 5

// plugins keeps the two plugins of a model alive while it is loaded, and gives their lives to the dispatcher.
type plugins struct {
	d         *daemon
	log       *slog.Logger
	name      string // of the model
	path      string
	limit     int64        // bytes that it may plan with; 0: as many as there are
	main      bool         // it is the default model
	forecast  atomic.Int64 // of the memory plan, before the model is loaded; 0: none yet
	tokenizer *pluginhost.Supervisor[tokenizerLife]
	backend   *pluginhost.Supervisor[backendLife]
	// before counts the lives of plugins in earlier loadings of the model. Who remembers a life by its
	// number, as the adapters' catalogue and the dispatcher do, must not take one of this loading for one of
	// those.
	before uint64
}

type tokenizerLife struct {
	tokenizer tokenizer.Tokenizer
	info      tokenizer.Info
}

type backendLife struct {
	backend backend.Backend
	info    backend.ModelInfo
	about   backend.Description
}

// newPlugins makes the plugins of a model, which start with Run.
func newPlugins(d *daemon, w models.Wanted, limit int64) *plugins {
	p := &plugins{
		d:      d,
		log:    d.log,
		name:   w.State.Name,
		path:   w.State.Path,
		limit:  limit,
		main:   w.State.Name == d.main,
		before: d.lives.before(w.State.Name),
	}
	if !p.main {
		p.log = d.log.With("model", p.name)
	}
	common := pluginhost.Options{Dir: d.c.Plugins.Dir, Pins: d.c.Plugins.Pins(), Log: p.log, StopTimeout: time.Second}

	o := common
	o.Kind, o.Name = protocol.PluginTokenizer, "bpe"
	p.tokenizer = supervise(p, "tokenizer", o, p.prepareTokenizer, p.tokenizerStalls)

	o = common
	o.Kind, o.Name, o.Command = protocol.PluginBackend, d.c.Backend.Name, d.c.Backend.Command
	p.backend = supervise(p, "backend", o, p.prepareBackend, (&stall{p: p, most: d.c.Plugins.StallTimeout}).check)
	return p
}

func supervise[T any](
	p *plugins,
	name string,
	o pluginhost.Options,
	prepare func(context.Context, *pluginhost.Process, uint64) (T, error),
	check func(context.Context, *pluginhost.Process) error,
) *pluginhost.Supervisor[T] {
	return pluginhost.Supervise(pluginhost.SupervisorOptions[T]{
		Process:        o,
		Name:           name,
		Prepare:        prepare,
		Check:          check,
		OnChange:       func(pluginhost.State) { p.d.status.changed() },
		Permanent:      permanent,
		Degraded:       degradedAfter,
		HealthTimeout:  p.d.c.Plugins.HealthTimeout,
		HealthInterval: min(healthInterval, p.d.c.Plugins.HealthTimeout/3, p.d.c.Plugins.StallTimeout/3),
	})
}

// permanent tells the errors that starting again does not mend.
func permanent(err error) bool {
	for _, e := range []error{
		protocol.ErrModel, protocol.ErrInvalid, protocol.ErrUnsupported, protocol.ErrNoMemory,
		pluginhost.ErrNotFound, pluginhost.ErrVersion, pluginhost.ErrChecksum, fs.ErrNotExist, fs.ErrPermission,
	} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}

// Run is models.Pair's: it keeps both plugins alive until ctx ends, or until one of them cannot be started.
func (p *plugins) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	g := &group{fails: cancel}
	g.goes(func() error { return p.tokenizer.Run(ctx) })
	g.goes(func() error { return p.backend.Run(ctx) })
	if p.main {
		g.goes(func() error { p.keepPinned(ctx); return nil })
	}
	err := g.wait()
	p.d.lives.count(p.name, p.before+uint64(max(p.tokenizer.State().Lives, p.backend.State().Lives))) //nolint:gosec // a count
	return err
}

// Bytes is models.Pair's.
func (p *plugins) Bytes() int64 {
	_, l := p.backend.Snapshot()
	if n := l.info.Plan.Total; n > 0 {
		return n
	}
	return p.forecast.Load()
}

// Ready is models.Pair's: it waits for both plugins.
func (p *plugins) Ready(ctx context.Context) error {
	if _, _, err := p.tokenizer.Current(ctx, 0); err != nil {
		return err
	}
	_, _, err := p.backend.Current(ctx, 0)
	return err
}

// Tokenizer is dispatch.Tokenizers'.
func (p *plugins) Tokenizer(ctx context.Context, after uint64) (dispatch.TokenizerLife, error) {
	l, n, err := p.tokenizer.Current(ctx, p.own(after))
	return dispatch.TokenizerLife{Tokenizer: l.tokenizer, Info: l.info, Life: p.before + n}, err
}

// Backend is dispatch.Backends'.
func (p *plugins) Backend(ctx context.Context, after uint64) (dispatch.BackendLife, error) {
	l, n, err := p.backend.Current(ctx, p.own(after))
	return dispatch.BackendLife{Backend: l.backend, Info: l.info, Life: p.before + n}, err
}

// own is the number of a life among those of this loading; 0: it is of an earlier one.
func (p *plugins) own(life uint64) uint64 {
	if life <= p.before {
		return 0
	}
	return life - p.before
}

// lives counts the lives of plugins by model, over all loadings.
type lives struct {
	mu    sync.Mutex
	total map[string]uint64
}

func (l *lives) before(model string) uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.total[model]
}

func (l *lives) count(model string, total uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.total == nil {
		l.total = map[string]uint64{}
	}
	l.total[model] = total
}

func (p *plugins) prepareTokenizer(ctx context.Context, proc *pluginhost.Process, _ uint64) (tokenizerLife, error) {
	t := proc.Tokenizer()
	info, err := LoadTokenizer(ctx, t, p.path)
	if err != nil {
		return tokenizerLife{}, err
	}
	p.log.InfoContext(
		ctx,
		"tokenizer ready",
		"kind",
		info.Kind,
		"pre",
		info.Pre,
		"tokens",
		info.Tokens,
		"chat_template",
		info.ChatTemplate != "",
	)
	return tokenizerLife{t, info}, nil
}

// prepareBackend loads the model and the adapters into a new life of the backend, and lets it answer once.
func (p *plugins) prepareBackend(ctx context.Context, proc *pluginhost.Process, number uint64) (backendLife, error) {
	began := time.Now()
	b := proc.Backend()
	about, err := b.Describe(ctx)
	if err != nil {
		return backendLife{}, err
	}
	t, _, err := p.tokenizer.Current(ctx, 0)
	if err != nil {
		return backendLife{}, err
	}
	req := p.request(ctx)
	if plan, err := b.Plan(ctx, req); err == nil { // an error comes again with the loading, which tells it
		p.forecast.Store(plan.Total)
		p.d.status.changed()
	}
	stage := ""
	info, err := LoadBackend(ctx, b, t.tokenizer, req, func(l backend.LoadProgress) {
		p.d.notify.loading(l)
		if l.Stage != stage {
			stage = l.Stage
			p.log.DebugContext(ctx, "loading", "stage", stage)
		}
	})
	if err != nil {
		return backendLife{}, err
	}
	if p.main {
		if err := p.d.folder.Prove(ctx, b, p.before+number); err != nil {
			return backendLife{}, err
		}
	}
	if err := probe(ctx, b, &info, t.info, p.d.c.Plugins.StallTimeout); err != nil {
		return backendLife{}, fmt.Errorf("the model does not answer: %w", err)
	}
	plan := info.Plan
	p.log.InfoContext(
		ctx,
		"memory plan",
		"bytes",
		plan.Total,
		"available",
		plan.Available,
		"weights",
		plan.Weights,
		"derived",
		plan.Derived,
		"kv",
		plan.KV,
		"scratch",
		plan.Scratch,
		"adapters",
		plan.Adapters,
		"fits",
		plan.Fits,
	)
	p.log.InfoContext(ctx, "model ready", "model", info.Name, "arch", info.Arch, "format", info.Format, "backend", about.Name,
		"kernels", about.Kernels, "context", info.Context, "bytes", info.WeightBytes, "took", time.Since(began).Round(time.Millisecond))
	return backendLife{b, info, about}, nil
}

// BackendAnswered is dispatch.Witness's: a life that ends after it has answered is none of a crash loop.
func (p *plugins) BackendAnswered() { p.backend.Proven() }

// TokenizerAnswered is dispatch.Witness's.
func (p *plugins) TokenizerAnswered() { p.tokenizer.Proven() }

// probe lets a model do once what it is for, within the time in which a backend must get on.
func probe(ctx context.Context, b backend.Backend, m *backend.ModelInfo, t tokenizer.Info, most time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, most, errStalled)
	defer cancel()
	ids := []int32{max(t.BOS, 0)}
	if m.Does(backend.TaskGenerate) {
		return b.Generate(ctx, backend.Request{ID: "probe", PromptIDs: ids, MaxTokens: 1}, func(backend.Event) error { return nil })
	}
	var err error
	lists := [][]int32{ids}
	if e, ok := b.(backend.Embedder); ok && m.Does(backend.TaskEmbed) {
		_, err = e.Embed(ctx, lists)
	} else if r, ok := b.(backend.Ranker); ok && m.Does(backend.TaskRank) {
		_, err = r.Rank(ctx, backend.RankRequest{Lists: lists})
	} else if f, ok := b.(backend.Filler); ok && m.Does(backend.TaskFill) {
		_, err = f.Fill(ctx, backend.FillRequest{Lists: lists, Positions: [][]int32{{0}}})
	}
	return err
}

// request returns the backend's load request. A model that is not the default one has a cache of its own,
// since a store of prefixes belongs to one process, and keeps no prefixes there.
func (p *plugins) request(ctx context.Context) backend.LoadRequest {
	req := servedRequest(p.d.c, p.cacheDir(ctx, cacheOf(p.d.c, p.name, p.main)))
	req.Path = p.path
	if p.limit > 0 {
		req.MemoryLimit = p.limit
	}
	if !p.main {
		req.DraftModel, req.PrefixDiskBytes, req.PrefixDiskDaily = "", 0, 0
	}
	return req
}

// cacheDir makes a folder of derived files; "" where it cannot be made.
func (p *plugins) cacheDir(ctx context.Context, dir string) string {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		p.log.WarnContext(ctx, "derived files are not kept: each start computes them anew", "path", dir, "err", err)
		return ""
	}
	return dir
}
