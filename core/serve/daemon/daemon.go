// Package daemon builds the service from a configuration, runs it, and shuts it down: plugins first, then
// adapters, the dispatcher, the broker where edged brings its own, and the MQTT door last, so that nothing is
// promised before the model answers.
//
// It must not know how anything is done; it only knows who needs whom.
package daemon

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"edged/core/config"
	"edged/core/protocol/backend"
	"edged/core/serve/adapters"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/broker"
	"edged/core/serve/door/home"
	httpdoor "edged/core/serve/door/http"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/wyoming"
	"edged/core/serve/inbox"
	"edged/core/serve/models"
	"edged/core/serve/monitor"
	"edged/core/serve/prompts"
)

// Options configure a daemon.
type Options struct {
	Config *config.Config
	Log    *slog.Logger
	// Level is the level of Log where a reload may change it; nil: it stays.
	Level *slog.LevelVar
	// Reload asks for the configuration to be read again; nil: never.
	Reload <-chan struct{}
	// Load reads the configuration again; nil: it cannot be.
	Load func() (*config.Config, error)
	// Online is called once, when the node takes requests; nil: nobody is told.
	Online func(Address)
	// Exit ends the process when the end takes longer than it may; nil: os.Exit.
	Exit func(code int)
	// Version of this build.
	Version string
}

// Address says where a node is.
type Address struct {
	Broker string // URL
	Topics mqtt.Topics
	HTTP   string // host:port of the HTTP door; "": there is none
}

// The heap of the daemon holds requests and answers, a few MiB. It is kept tight, since a Pi's memory belongs
// to the model: with Go's default of 100 the heap may be twice what lives.
const (
	gcPercent   = 50
	memoryLimit = 48 << 20 // soft; GOMEMLIMIT overrides it
)

// Times of the shutdown: what of shutdown_grace is kept for publishing last events and for the plugins' end.
const (
	farewell = 5 * time.Second
)

// inboxBytes bounds the requests and answers that are remembered.
const inboxBytes = 8 << 20

// Run serves until ctx ends, which is nil, or until something ends that cannot be mended. A model that cannot
// be served is an error before anything is published.
func Run(ctx context.Context, o Options) error {
	d := &daemon{o: o, c: o.Config, log: o.Log, began: time.Now(), exit: o.Exit}
	if d.exit == nil {
		d.exit = os.Exit
	}
	if err := d.c.Servable(); err != nil {
		return err
	}
	debug.SetGCPercent(gcPercent)
	if os.Getenv("GOMEMLIMIT") == "" {
		debug.SetMemoryLimit(memoryLimit)
	}
	defer d.limit(ctx)()
	return d.run(ctx)
}

type daemon struct {
	o         Options
	c         *config.Config
	log       *slog.Logger
	began     time.Time
	main      string         // name of the default model
	catalogue *models.Folder // of models
	pool      *models.Pool[*plugins]
	budget    int64                  // bytes of memory for all models; 0: it is not shared out
	crowd     atomic.Pointer[string] // what pinned models keep out of it
	lives     lives
	mainModel atomic.Pointer[httpdoor.Model] // what the default model said when it was loaded last; nil: it was not yet
	folder    *adapters.Folder
	prompts   *prompts.Folder
	work      *dispatch.Dispatcher
	serving   atomic.Pointer[dispatch.Dispatcher] // work, for plugins, which may start before it is there; nil: nothing is served yet
	door      *mqtt.Door
	status    *status
	notify    *notifier
	exit      func(code int)
	secret    string // of the embedded broker, for this node's client id; "": there is none
}

// shelf is the adapters' catalogue as the dispatcher sees it.
func (d *daemon) shelf() shelf { return shelf{d.folder, d.main} }

// group runs parts of the service; the first one that fails ends all.
type group struct {
	wg    sync.WaitGroup
	mu    sync.Mutex
	err   error
	fails context.CancelFunc
}

func (g *group) goes(f func() error) {
	g.wg.Go(func() {
		if err := f(); err != nil {
			g.mu.Lock()
			if g.err == nil {
				g.err = err
			}
			g.mu.Unlock()
			g.fails()
		}
	})
}

func (g *group) wait() error {
	g.wg.Wait()
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.err
}

// run builds from the inside out and shuts down from the outside in: each layer has a context of its own,
// that ends when what stands on it has ended.
func (d *daemon) run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	n := newNotifier(d.log)
	d.notify = n
	d.status = newStatus(d)
	d.prompts = prompts.Open(ctx, prompts.Options{Dir: d.c.Prompts.Dir, Rescan: d.c.Prompts.Rescan, Log: d.log, Notify: d.status.changed})
	n.state("loading the model")
	if err := d.openModels(ctx); err != nil {
		return asked(err)
	}
	if err := d.openFolder(ctx); err != nil {
		return err
	}
	pluginCtx, stopPlugins := context.WithCancel(context.WithoutCancel(ctx))
	inner := &group{fails: cancel}
	inner.goes(func() error { return d.pool.Run(pluginCtx) })
	stop := func() error {
		stopPlugins()
		return inner.wait()
	}
	release, err := d.prepare(ctx, n)
	if err == nil {
		err = d.serve(ctx, n, cancel, release)
	}
	if failed := stop(); err == nil {
		err = failed
	}
	return asked(err)
}

// asked is err, but for that of somebody who asked to stop while the model was loading.
func asked(err error) error {
	if errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

// prepare loads the default model, which stays until release, and decides about adapters and models meanwhile.
func (d *daemon) prepare(ctx context.Context, n *notifier) (release func(), err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	looked := make(chan error, 1)
	go func() { looked <- d.catalogue.First(ctx) }()
	release, err = d.loadMain(ctx)
	if err == nil {
		n.state("proving adapters")
		if err = d.proveFolder(ctx); err != nil {
			release()
		}
	}
	if err != nil {
		cancel()
	}
	if failed := <-looked; err == nil && failed != nil {
		err = failed
		release()
	}
	if err == nil {
		for _, name := range d.c.Models.Pinned {
			if _, _, why := d.catalogue.Lookup(name); why != nil {
				d.log.WarnContext(ctx, "a pinned model is not there: it is loaded when it is", "model", name, "err", why)
			}
		}
	}
	return release, err
}

// serve opens the door and works until ctx ends. release lets the default model go, where its memory is wanted.
func (d *daemon) serve(ctx context.Context, n *notifier, cancel context.CancelFunc, release func()) error {
	defer release()
	address, closeBroker, err := d.startBroker(ctx)
	if err != nil {
		return err
	}
	defer closeBroker()
	store, err := d.openInbox(ctx)
	if err != nil {
		return err
	}
	defer func() {
		if err := store.Close(); err != nil {
			d.log.WarnContext(ctx, "the inbox did not close", "err", err)
		}
	}()
	taking, closeTaking := d.openTaking(ctx)
	defer closeTaking()
	d.work = dispatch.New(d.dispatchConfig(store))
	d.serving.Store(d.work)
	device, err := d.device()
	if err != nil {
		return err
	}
	d.door = mqtt.New(mqtt.Options{
		Node: d.c.Node.Name, Config: d.c.MQTT, Embedded: address, Secret: d.secret, Device: device, Dispatcher: d.work, Taking: taking,
		Takeover: d.c.Group.Takeover, Window: d.c.Inbox.DedupeWindow, Prompts: d.prompts, Log: d.log,
	})

	// Before anything runs: an address that is taken ends the start.
	beside, err := d.listen(ctx)
	if err != nil {
		return err
	}

	// The door outlives the dispatcher: last events are published after the work has ended.
	doorCtx, closeDoor := context.WithCancel(context.WithoutCancel(ctx))
	defer closeDoor()
	outer := &group{fails: cancel}
	// Before the door opens: a repeat that came first would find a journalled request that nobody runs, and end it.
	if unfinished, unpublished := d.work.Replay(ctx, map[string]dispatch.Sink{mqtt.DoorName: d.door}); unfinished+unpublished > 0 {
		d.log.InfoContext(ctx, "taken up from the inbox", "requests", unfinished, "answers", unpublished)
	}
	outer.goes(func() error { return d.door.Run(doorCtx) })
	d.folder.Sweep(ctx)
	outer.goes(func() error { return d.folder.Run(ctx) })
	outer.goes(func() error { return d.catalogue.Run(ctx) })
	outer.goes(func() error { return d.prompts.Run(ctx) })
	statusCtx, endStatus := context.WithCancel(doorCtx)
	defer endStatus()
	statusEnded := make(chan struct{})
	outer.goes(func() error { defer close(statusEnded); return d.status.run(statusCtx) })
	for _, run := range beside.runs {
		outer.goes(func() error { return run(doorCtx) })
	}
	outer.goes(func() error { return d.reloads(doorCtx) })
	outer.goes(func() error { return n.watchdog(doorCtx, d.pulse) })
	outer.goes(func() error { return d.announce(ctx, address, beside.http) })
	n.ready("serving " + d.main)
	release()

	// Told when the drain begins and not when it has ended: what runs may use all of the grace, and systemd
	// must know before its own patience ends.
	forget := context.AfterFunc(ctx, func() {
		d.log.InfoContext(doorCtx, "shutting down", "grace", d.c.Node.ShutdownGrace)
		n.stopping(d.c.Node.ShutdownGrace)
		d.door.Leave()
		d.status.ends(mqtt.StateStopping)
	})
	defer forget()
	err = d.work.Run(ctx) // until ctx ends, and all accepted requests with it
	// The last state is set before the door closes, which sends what is set and then ends.
	d.status.ends(mqtt.StateStopped)
	endStatus()
	<-statusEnded
	closeDoor()
	if failed := outer.wait(); err == nil {
		err = failed
	}
	return err
}

// listeners are the doors beside MQTT: their addresses are open, and runs serves them.
type listeners struct {
	runs []func(ctx context.Context) error // each serves until its ctx ends, and closes its address then
	http string                            // address of the HTTP door; "": there is none
}

// listen opens the addresses that the configuration names, all or none. Nobody is answered there yet.
func (d *daemon) listen(ctx context.Context) (l listeners, err error) {
	defer func() {
		if err == nil {
			return
		}
		ended, end := context.WithCancel(ctx)
		end()
		for _, run := range l.runs {
			_ = run(ended) // err says what is wrong
		}
	}()
	if d.c.Metrics.Listen != "" {
		m, err := monitor.Listen(ctx, monitor.Options{
			Listen: d.c.Metrics.Listen, PProf: d.c.Metrics.PProf, Version: d.o.Version, Figures: d.figures, Log: d.log,
		})
		if err != nil {
			return l, err
		}
		d.log.InfoContext(ctx, "metrics are served", "address", m.Addr())
		l.runs = append(l.runs, m.Run)
	}
	if d.c.HTTP.Listen != "" {
		door, err := httpdoor.Listen(ctx, httpdoor.Options{
			Config: d.c.HTTP, Name: d.c.Node.Name, Version: d.o.Version, Dispatcher: d.work, Node: offers{d}, State: d.shown, Log: d.log,
			Upload:  d.receiver(),
			Prompts: d.prompts, Shown: func() any { return map[string]any{"prompts": promptsOf(d.prompts.States())} },
		})
		if err != nil {
			return l, err
		}
		d.log.InfoContext(ctx, "the HTTP door is open", "address", door.Addr())
		l.runs, l.http = append(l.runs, door.Run), door.Addr()
	}
	if d.c.Wyoming.Listen != "" {
		door, err := wyoming.Listen(ctx, wyoming.Options{
			Config:     d.c.Wyoming,
			Name:       d.c.Node.Name,
			Version:    d.o.Version,
			Dispatcher: d.work,
			Model:      func() string { return d.main },
			Log:        d.log,
		})
		if err != nil {
			return l, err
		}
		d.log.InfoContext(ctx, "the Wyoming door is open", "address", door.Addr())
		l.runs = append(l.runs, door.Run)
	}
	return l, nil
}

// device returns the description of the node for Home Assistant's discovery; nil where the configuration leaves it off.
func (d *daemon) device() (*mqtt.Device, error) {
	if !d.c.Home.Discovery {
		return nil, nil
	}
	payload, err := d.announcement(nil)
	if err != nil {
		return nil, err
	}
	t := mqtt.TopicsOf(d.c)
	return &mqtt.Device{
		Topic: home.Topic(d.c.Home.Prefix, t.Unique()), Payload: payload, Birth: home.Birth(d.c.Home.Prefix),
		Select: t.Default(), Choose: d.choose,
	}, nil
}

// announcement is the device with the adapters that can be chosen.
func (d *daemon) announcement(adapters []string) ([]byte, error) {
	t := mqtt.TopicsOf(d.c)
	return home.Message(home.Node{
		ID:           t.Unique(),
		Name:         d.c.Node.Name,
		Version:      d.o.Version,
		NoStats:      d.c.MQTT.StatsInterval == 0,
		Adapters:     adapters,
		Availability: t.Availability(),
		Status:       t.Status(),
		Stats:        t.Stats(),
		Ask:          t.Ask(home.Tag),
		Answer:       t.Answer(home.Tag),
		Cancel:       t.Cancel(""),
		Default:      t.Default(),
	})
}

// choose makes an adapter that is served the default one, or the bare model. What else is asked for changes nothing.
func (d *daemon) choose(name string) {
	if name == home.NoAdapter {
		name = ""
	}
	if name != "" && !slices.ContainsFunc(d.folder.States(), func(a adapters.State) bool { return a.Served() && a.Name == name }) {
		d.log.Warn("the adapter that was to be the default is not served", "adapter", name)
		return
	}
	d.work.SetDefaultAdapter(name)
	d.log.Info("another adapter is the default until the service ends", "adapter", name)
	d.status.changed()
}

// openInbox opens the journal.
func (d *daemon) openInbox(ctx context.Context) (inbox.Store, error) {
	limits := inbox.Limits{Window: d.c.Inbox.DedupeWindow, Bytes: inboxBytes}
	if d.c.Inbox.Store != "disk" {
		return inbox.NewMemory(limits), nil
	}
	store, report, err := inbox.OpenDisk(filepath.Join(d.c.State.Dir, "inbox"), limits)
	if err != nil {
		return nil, err
	}
	for _, bad := range report.Damaged {
		d.log.WarnContext(ctx, "a part of the inbox is lost", "path", bad.File, "offset", bad.Offset, "bytes", bad.Bytes, "err", bad.Why)
	}
	return store, nil
}

// maxEnds is how many processes may end over one message before it is not read any more.
const maxEnds = 8

// openTaking opens what counts the messages over whose reading the process ended; nil: there is no folder for it.
func (d *daemon) openTaking(ctx context.Context) (mqtt.Taking, func()) {
	if d.c.Inbox.Store != "disk" {
		return nil, func() {}
	}
	taking, err := inbox.OpenTaking(filepath.Join(d.c.State.Dir, "inbox"), maxEnds)
	if err != nil {
		d.log.WarnContext(ctx, "a message that ends the service again and again would not be noticed", "err", err)
		return nil, func() {}
	}
	return taking, func() { _ = taking.Close() }
}

// announce tells when the node is online.
func (d *daemon) announce(ctx context.Context, address, httpAddress string) error {
	select {
	case <-d.door.Ready():
	case <-ctx.Done():
		return nil
	}
	url := d.c.MQTT.Broker
	if d.c.MQTT.Embedded() {
		url = "tcp://" + address
	}
	if d.o.Online != nil {
		d.o.Online(Address{Broker: url, Topics: d.door.Topics(), HTTP: httpAddress})
	}
	return nil
}

// startBroker starts the embedded broker where the configuration wants it.
func (d *daemon) startBroker(ctx context.Context) (address string, closer func(), err error) {
	if !d.c.MQTT.Embedded() {
		return "", func() {}, nil
	}
	var password []byte
	if d.c.MQTT.PasswordFile != "" {
		if password, err = config.ReadSecret(d.c.MQTT.PasswordFile); err != nil {
			return "", nil, fmt.Errorf("mqtt: password: %w", err)
		}
	}
	d.secret = rand.Text()
	c := &d.c.Broker
	b, err := broker.Start(ctx, broker.Options{
		Listen: d.c.MQTT.Listen, Username: d.c.MQTT.Username, Password: password,
		OwnID: mqtt.TopicsOf(d.c).ClientID(), OwnSecret: []byte(d.secret),
		MaxPacket: int(d.c.MQTT.MaxPayload), MaxClients: c.MaxClients, MaxSessions: c.MaxSessions,
		MaxMemory: int(c.MaxMemory), MaxClientMemory: int(c.MaxClientMemory), MaxRetained: c.MaxRetained, MaxQueued: c.MaxQueued,
		MaxSubscriptions: c.MaxSubscriptions, MaxLevels: c.MaxLevels, MaxRate: c.MaxRate, WriteTimeout: c.WriteTimeout,
		Log: d.log,
	})
	if err != nil {
		return "", nil, err
	}
	if os.Getenv("GOMEMLIMIT") == "" {
		// What clients may fill is the broker's, and must not keep the collector busy.
		debug.SetMemoryLimit(memoryLimit + int64(b.MaxMemory()))
	}
	d.log.InfoContext(ctx, "embedded broker listens", "address", b.Addr())
	return b.Addr(), func() {
		if err := b.Close(); err != nil {
			d.log.WarnContext(ctx, "the embedded broker did not close", "err", err)
		}
	}, nil
}

func (d *daemon) dispatchConfig(store inbox.Store) dispatch.Config {
	s, q := &d.c.Sampling, &d.c.Queue
	grace := d.c.Node.ShutdownGrace
	return dispatch.Config{
		Models: library{d}, Adapters: d.shelf(), Inbox: store,
		Node: d.c.Node.Name, Prompts: d.c.Log.Prompts, Log: d.log,
		Defaults: dispatch.Defaults{
			Sampling: backend.Sampling{
				Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, TypicalP: s.TypicalP,
				RepeatPenalty: s.RepeatPenalty, PresencePenalty: s.PresencePenalty, FrequencyPenalty: s.FrequencyPenalty,
				PenaltyLastN: s.PenaltyLastN,
			},
			MaxTokens: s.MaxTokens,
			Adapter:   d.c.Adapters.Default,
			Thinking:  thinkingOf(s), ThinkingBudget: s.ThinkingBudget,
		},
		Limits: dispatch.Limits{
			Running: d.c.Backend.MaxSequences, Queued: q.Size, PerClient: q.PerClient,
			Deadline: q.Deadline, MaxDeadline: q.MaxDeadline,
			Coalesce: d.c.MQTT.DeltaInterval, Grace: max(grace-farewell, grace/2),
			AnswerBytes: int(d.c.MQTT.MaxPayload) * 4, // what is stored says more than what is sent
		},
	}
}

// thinkingOf is sampling.thinking as dispatch has it.
func thinkingOf(s *config.Sampling) string {
	if s.Thinking == "template" {
		return ""
	}
	return s.Thinking
}

// LoadRequest returns the backend's load request for a configuration.
func LoadRequest(c *config.Config) backend.LoadRequest {
	b := &c.Backend
	return backend.LoadRequest{
		Path: c.Model.Path, Context: b.Context, KVType: b.KV, Precision: backend.Precision(b.Precision),
		ThreadsPrefill: b.ThreadsPrefill, ThreadsDecode: b.ThreadsDecode,
		Head: c.Model.Head, Quantize: c.Model.Quantize,
		MaxSequences: b.MaxSequences, KVBytes: int64(b.KVMemory), MemoryLimit: int64(b.MemoryLimit), IgnorePlan: b.IgnorePlan,
		NoPrefixCache: !c.PrefixCache.Enabled, NoLookup: !c.Draft.Lookup, DraftModel: c.Draft.Model, NoTiles: b.Tiles == "off",
	}
}

// servedRequest is LoadRequest for what serves: its prefixes are kept in its own cache folder.
func servedRequest(c *config.Config, cacheDir string) backend.LoadRequest {
	r, p := LoadRequest(c), &c.PrefixCache
	r.CacheDir = cacheDir
	r.PrefixDiskBytes, r.PrefixDiskDaily, r.PrefixDiskTokens = int64(p.DiskSize), int64(p.DiskWritesPerDay), p.DiskTokens
	return r
}
