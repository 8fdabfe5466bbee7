// Package pluginhost starts, supervises, restarts and stops plugin processes, and forwards what they log.
//
// It must not know what plugins compute, nor anything of requests. A Process and a Supervisor may be used concurrently.
package pluginhost

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	hclog "github.com/hashicorp/go-hclog"
	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"edged/core/pluginlog"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

var (
	// ErrVersion means that the plugin speaks another major version of the protocol.
	ErrVersion = errors.New("protocol version mismatch")
	// ErrChecksum means that the plugin's file is not the pinned one.
	ErrChecksum = errors.New("checksum mismatch")
)

// Options say which plugin to start, and how. The zero value of a field is the default that it names.
type Options struct {
	// Kind is protocol.PluginBackend or protocol.PluginTokenizer. Required.
	Kind string
	// Name is the plugin's name without its kind: "generic", "neon", "bpe". For a backend, Auto and "" are
	// the best one that is installed. Not used for finding the file where Path is set.
	Name string
	// Path is the plugin's file; "": it is found by Kind and Name, see Find.
	Path string
	// Dir is plugins.dir; "": the places that Dirs names.
	Dir string
	// Command is a prefix to which the path is appended, for example {"qemu-aarch64-static", "-cpu", "cortex-a72"}.
	Command []string
	// Env holds variables that are added to the daemon's own ("KEY=value"). The daemon's settings (EDGED_…)
	// and what systemd gave it alone (sockets, credentials) are not passed on.
	Env []string
	// RunDir is the folder in which the socket's folder is made, 0700; "": the system's folder for temporary files.
	RunDir string
	// Log takes the plugin's lines and the host's own. Required.
	Log *slog.Logger
	// StartTimeout bounds the time from start to handshake; 0: 30 s. An emulated plugin needs 0.4 s, one on a
	// Pi Zero with a cold SD card several seconds.
	StartTimeout time.Duration
	// StopTimeout is the time that Kill leaves for a graceful end; 0: 2 s.
	StopTimeout time.Duration
	// Pins are the SHA-256 sums of plugins' files, hexadecimal, by file name ("backend-neon"). nil: any file
	// is started; else only one that is in it, with that content. They protect against a replaced file, not
	// against one who can replace it between the check and the start.
	Pins map[string]string
}

func (o Options) withDefaults() (Options, error) {
	switch {
	case o.Kind != protocol.PluginBackend && o.Kind != protocol.PluginTokenizer:
		return o, fmt.Errorf("pluginhost: kind %q is neither %q nor %q", o.Kind, protocol.PluginBackend, protocol.PluginTokenizer)
	case o.Log == nil:
		return o, errors.New("pluginhost: no logger")
	}
	if o.StartTimeout <= 0 {
		o.StartTimeout = 30 * time.Second
	}
	if o.StopTimeout <= 0 {
		o.StopTimeout = 2 * time.Second
	}
	if o.Path != "" {
		path, err := filepath.Abs(o.Path)
		if err != nil {
			return o, fmt.Errorf("pluginhost: %s: %w", o.Path, err)
		}
		if err := executable(path); err != nil {
			return o, fmt.Errorf("pluginhost: %s: %w: %w", path, ErrNotFound, err)
		}
		o.Path = path
		if o.Name == "" {
			o.Name = strings.TrimPrefix(filepath.Base(path), o.Kind+"-")
		}
		return o, nil
	}
	auto := o.Kind == protocol.PluginBackend && (o.Name == Auto || o.Name == "")
	if auto {
		o.Name = ResolveBackend(o.Name)
	}
	path, err := Find(o.Dir, fileName(o.Kind, o.Name))
	if err != nil && auto && o.Name != "generic" {
		// A machine with Advanced SIMD but only the generic backend installed still answers.
		if generic, gerr := Find(o.Dir, fileName(o.Kind, "generic")); gerr == nil {
			o.Name, path, err = "generic", generic, nil
		}
	}
	o.Path = path
	return o, err
}

// Process is one life of a plugin.
type Process struct {
	name    string
	path    string
	pid     int
	backend backend.Backend
	tok     tokenizer.Tokenizer
	health  grpc_health_v1.HealthClient
	done    <-chan struct{}
	exit    func() error
	kill    func()
	killed  atomic.Bool
	once    sync.Once
}

// Start starts a plugin and returns when the handshake is made. ctx bounds the start only; the process lives
// until Kill, until it ends by itself, or until this process ends, however it does.
//
// Errors: ErrNotFound, ErrVersion, ErrChecksum, ctx's error, or a sentence with the plugin's last words.
func Start(ctx context.Context, o Options) (*Process, error) {
	o, err := o.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if o.Pins != nil {
		if err := checkPin(o.Path, o.Pins); err != nil {
			return nil, err
		}
	}
	dir, err := socketDir(o.RunDir)
	if err != nil {
		return nil, err
	}
	r := &process{o: o, log: o.Log.With("plugin", fileName(o.Kind, o.Name)), dir: dir, mark: rand.Text()}
	client := goplugin.NewClient(&goplugin.ClientConfig{
		HandshakeConfig:  protocol.Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{protocol.Version: pluginSet()},
		AllowedProtocols: []goplugin.Protocol{goplugin.ProtocolGRPC},
		RunnerFunc: func(_ hclog.Logger, cmd *exec.Cmd, _ string) (runner.Runner, error) {
			return r, r.prepare(context.WithoutCancel(ctx), cmd.Env)
		},
		SkipHostEnv:      true,
		StartTimeout:     o.StartTimeout,
		GRPCDialOptions:  protocol.DialOptions(),
		UnixSocketConfig: &goplugin.UnixSocketConfig{TempDir: dir},
		SyncStdout:       &lineSplitter{line: r.lines.stray("stdout")},
		SyncStderr:       &lineSplitter{line: r.lines.stray("stderr")},
		// What go-plugin calls an error, its caller judges here.
		Logger: pluginlog.HCLog(r.log, slog.LevelDebug),
	})
	stop := context.AfterFunc(ctx, r.abort)
	rpc, err := client.Client()
	if !stop() {
		// ctx ended during the start: whatever came of it, the process is being killed.
		err = ctx.Err()
	}
	var raw any
	if err == nil {
		raw, err = rpc.Dispense(o.Kind)
	}
	if err != nil {
		r.abandon(client)
		return nil, r.startError(ctx, err)
	}
	p := &Process{
		name: fileName(o.Kind, o.Name), path: o.Path, pid: r.pid(), done: r.finished, exit: r.exitError,
		kill: func() { r.stop(client) },
	}
	switch impl := raw.(type) {
	case backend.Backend:
		p.backend = impl
	case tokenizer.Tokenizer:
		p.tok = impl
	}
	if g, ok := rpc.(*goplugin.GRPCClient); ok {
		p.health = grpc_health_v1.NewHealthClient(g.Conn)
	}
	r.log.InfoContext(ctx, "plugin started", "path", o.Path, "pid", p.pid)
	return p, nil
}

func pluginSet() goplugin.PluginSet {
	return goplugin.PluginSet{protocol.PluginBackend: backend.Plugin{}, protocol.PluginTokenizer: tokenizer.Plugin{}}
}

// Name is the plugin's name, for example "backend-generic".
func (p *Process) Name() string { return p.name }

// Path is the file that was started.
func (p *Process) Path() string { return p.path }

// Pid is the process's id; with a command prefix that forks, the prefix's.
func (p *Process) Pid() int { return p.pid }

// Backend is the plugin's contract where it was started as a backend, else nil.
func (p *Process) Backend() backend.Backend { return p.backend }

// Tokenizer is the plugin's contract where it was started as a tokenizer, else nil.
func (p *Process) Tokenizer() tokenizer.Tokenizer { return p.tok }

// Done is closed when the process has ended and its last lines are logged.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err says why the process ended: nil while it runs and after Kill, else protocol.ErrPluginDied with its exit
// status and last words.
func (p *Process) Err() error {
	select {
	case <-p.done:
	default:
		return nil
	}
	if p.killed.Load() {
		return nil
	}
	return p.exit()
}

// Health asks the plugin whether it is alive, by the standard gRPC health service. protocol.ErrPluginDied
// where its process ended; context.DeadlineExceeded where ctx ended before it answered.
func (p *Process) Health(ctx context.Context) error {
	answer, err := p.health.Check(ctx, &grpc_health_v1.HealthCheckRequest{Service: goplugin.GRPCServiceName}, grpc.WaitForReady(false))
	if err != nil {
		return protocol.FromStatus(ctx, err)
	}
	if s := answer.GetStatus(); s != grpc_health_v1.HealthCheckResponse_SERVING {
		return fmt.Errorf("pluginhost: %s: its health is %s", p.name, s)
	}
	return nil
}

// Kill ends the process and whatever it started in its process group: it asks, waits Options.StopTimeout, and
// kills. It returns when the process is gone, and may be called more than once. A process that ended by
// itself needs it too: it frees the connection.
func (p *Process) Kill() {
	select {
	case <-p.done: // it ended by itself, which Err keeps
	default:
		p.killed.Store(true)
	}
	p.once.Do(p.kill)
	<-p.done
}

func checkPin(path string, pins map[string]string) error {
	want, pinned := pins[filepath.Base(path)]
	if !pinned {
		return fmt.Errorf("pluginhost: %s: %w: plugins.sha256 pins plugins, and this one is not among them", path, ErrChecksum)
	}
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("pluginhost: %w", err)
	}
	defer f.Close() //nolint:errcheck // only read
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return fmt.Errorf("pluginhost: %s: %w", path, err)
	}
	if got := hex.EncodeToString(h.Sum(nil)); !strings.EqualFold(got, want) {
		return fmt.Errorf("pluginhost: %s: %w: its SHA-256 is %s, and plugins.sha256 says %s", path, ErrChecksum, got, want)
	}
	return nil
}
