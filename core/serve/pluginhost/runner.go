package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"github.com/hashicorp/go-plugin/runner"
	"golang.org/x/sys/unix"

	"edged/core/pluginlog"
	"edged/core/protocol"
)

// process is go-plugin's view of the subprocess (runner.Runner). It is our own so that a plugin's lines cannot harm the
// daemon (go-plugin's reader panics on a log line whose "@message" is not a text), so that the whole process group is
// killed, and so that the plugin dies with the daemon:
//
//   - the kernel kills it when the thread that started it dies, so that thread lives as long as the plugin;
//   - its standard input is a pipe whose other end only this process holds (protocol.EnvLifeline).
type process struct {
	o     Options
	log   *slog.Logger
	dir   string // holds the socket's folder; removed at the end
	mark  string // of this life, in the environment of what the plugin starts
	cmd   *exec.Cmd
	lines forwarder

	lifeline *os.File // write end of the plugin's standard input
	child    []*os.File
	stdout   *os.File // read ends
	stderr   *os.File

	handshake       *io.PipeReader // the handshake line, for go-plugin
	handshakeWriter *io.PipeWriter
	empty           *io.PipeReader // go-plugin's view of stderr: ends with the process
	emptyWriter     *io.PipeWriter

	started  atomic.Int64 // pid, when it runs
	aborted  atomic.Bool  // it is not wanted any more
	finished chan struct{}
	status   error // of the exit; read after finished
	refusal  atomic.Pointer[error]
}

var _ runner.Runner = (*process)(nil)

// drain is how long the last lines of a process may take that left a child behind which holds its pipes open.
const drain = 500 * time.Millisecond

// prepare makes the command. env is go-plugin's part of the environment.
func (r *process) prepare(ctx context.Context, env []string) error {
	argv := append(slices.Clone(r.o.Command), r.o.Path)
	name, err := exec.LookPath(argv[0])
	if err != nil {
		return fmt.Errorf("pluginhost: backend.command: %w", err)
	}
	r.finished = make(chan struct{})
	r.handshake, r.handshakeWriter = io.Pipe()
	r.empty, r.emptyWriter = io.Pipe()
	r.lines.init(ctx, r.log)

	stdin, lifeline, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("pluginhost: pipe: %w", err)
	}
	stdout, stdoutChild, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("pluginhost: pipe: %w", err), stdin.Close(), lifeline.Close())
	}
	stderr, stderrChild, err := os.Pipe()
	if err != nil {
		return errors.Join(fmt.Errorf("pluginhost: pipe: %w", err), stdin.Close(), lifeline.Close(), stdout.Close(), stdoutChild.Close())
	}
	r.lifeline, r.stdout, r.stderr = lifeline, stdout, stderr
	r.child = []*os.File{stdin, stdoutChild, stderrChild}

	r.cmd = &exec.Cmd{
		Path: name, Args: argv, Stdin: stdin, Stdout: stdoutChild, Stderr: stderrChild,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL},
	}
	r.cmd.Env = append(hostEnv(os.Environ()), env...)
	r.cmd.Env = append(
		r.cmd.Env,
		protocol.EnvLifeline+"=stdin",
		pluginlog.EnvLevel+"="+r.lines.level(),
		envPlugin+"="+r.mark,
	)
	r.cmd.Env = append(r.cmd.Env, r.o.Env...)
	return nil
}

// hostEnv returns the environment that a plugin inherits: not the daemon's settings, which may hold secrets,
// nor what systemd gave to the daemon alone.
func hostEnv(environ []string) []string {
	return slices.DeleteFunc(slices.Clone(environ), func(kv string) bool {
		for _, prefix := range []string{"EDGED_", "PLUGIN_", "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_", "CREDENTIALS_DIRECTORY="} {
			if strings.HasPrefix(kv, prefix) {
				return true
			}
		}
		return false
	})
}

// Start starts the command and the goroutines that follow it.
func (r *process) Start(context.Context) error {
	started := make(chan error)
	go r.live(started)
	return <-started
}

// live starts the process, follows it to its end and cleans up. It never unlocks its thread: the kernel's parent-death
// signal comes when the thread that forked ends, and Go ends threads at will otherwise.
func (r *process) live(started chan<- error) {
	runtime.LockOSThread()
	err := ours.born(func() (int, error) {
		if err := r.cmd.Start(); err != nil {
			return 0, err
		}
		return r.cmd.Process.Pid, nil
	}, r)
	for _, f := range r.child {
		_ = f.Close()
	}
	if err != nil {
		_ = r.lifeline.Close()
		_ = r.stdout.Close()
		_ = r.stderr.Close()
		r.status = err
		close(r.finished)
		hint := ""
		if errors.Is(err, unix.ENOEXEC) {
			hint = ": it was built for another kind of machine"
		}
		started <- fmt.Errorf("pluginhost: %s: %w%s", r.o.Path, err, hint)
		return
	}
	r.started.Store(int64(r.cmd.Process.Pid))
	var readers sync.WaitGroup
	readers.Go(r.readStdout)
	readers.Go(func() { r.lines.read(r.stderr, r.lines.entry) })
	if r.aborted.Load() {
		r.killGroup()
	}
	started <- nil

	r.status = r.wait()
	_ = r.lifeline.Close()
	deadline := time.Now().Add(drain)
	_ = r.stdout.SetReadDeadline(deadline)
	_ = r.stderr.SetReadDeadline(deadline)
	readers.Wait()
	_ = r.stdout.Close()
	_ = r.stderr.Close()
	_ = r.handshakeWriter.Close()
	_ = r.emptyWriter.Close()
	_ = os.RemoveAll(r.dir)
	r.lines.close()
	close(r.finished)
}

// wait waits for the process to end, kills what is left of its group while its id cannot have been given to
// another, and reaps it.
func (r *process) wait() error {
	pid := r.cmd.Process.Pid
	for {
		err := unix.Waitid(unix.P_PID, pid, nil, unix.WEXITED|unix.WNOWAIT, nil)
		if !errors.Is(err, unix.EINTR) {
			break
		}
	}
	_ = unix.Kill(-pid, unix.SIGKILL)
	err := r.cmd.Wait()
	ours.died(pid)
	ours.orphans()
	return err
}

// readStdout gives go-plugin the handshake line, when it is one that this host can work with, and forwards the rest.
func (r *process) readStdout() {
	done := false
	r.lines.read(r.stdout, func(line []byte, cut bool) {
		if done || cut {
			r.lines.stray("stdout")(line, cut)
			return
		}
		shake, ok := parseHandshake(string(line))
		if !ok {
			r.lines.stray("stdout")(line, cut)
			return
		}
		done = true
		if err := shake.check(r.o, r.dir); err != nil {
			r.refusal.Store(&err)
			r.killGroup()
			return
		}
		_, _ = r.handshakeWriter.Write(append(line, '\n'))
	})
	_ = r.handshakeWriter.Close()
}

// shake is a handshake line: CORE|VERSION|NETWORK|ADDRESS|PROTOCOL[|…].
type shake struct {
	core, version              int
	network, address, protocol string
}

func parseHandshake(line string) (shake, bool) {
	f := strings.Split(strings.TrimSpace(line), "|")
	if len(f) < 5 {
		return shake{}, false
	}
	core, err1 := strconv.Atoi(f[0])
	version, err2 := strconv.Atoi(f[1])
	return shake{core, version, f[2], f[3], f[4]}, err1 == nil && err2 == nil
}

// check says why this host cannot work with a plugin, whose socket must be in a folder.
func (s shake) check(o Options, dir string) error {
	switch {
	case s.core != goplugin.CoreProtocolVersion:
		return fmt.Errorf(
			"pluginhost: %s: %w: its go-plugin handshake is version %d, wanted is %d",
			o.Path,
			ErrVersion,
			s.core,
			goplugin.CoreProtocolVersion,
		)
	case s.version > protocol.Version:
		return fmt.Errorf(
			"pluginhost: %s: %w: it speaks version %d of the plugin protocol and this edged wants %d: update edged, or install the plugin that came with it",
			o.Path,
			ErrVersion,
			s.version,
			protocol.Version,
		)
	case s.version < protocol.Version:
		return fmt.Errorf("pluginhost: %s: %w: it speaks version %d of the plugin protocol and this edged wants %d: update the plugin",
			o.Path, ErrVersion, s.version, protocol.Version)
	case s.protocol != string(goplugin.ProtocolGRPC):
		return fmt.Errorf("pluginhost: %s: it serves %q, wanted is %q", o.Path, s.protocol, goplugin.ProtocolGRPC)
	case s.network != "unix":
		// A port would let every user of the machine talk to the plugin.
		return fmt.Errorf("pluginhost: %s: it listens on %q, wanted is a unix socket in %s", o.Path, s.network, goplugin.EnvUnixSocketDir)
	case !within(dir, s.address):
		// Another's socket would be talked to as if it were the plugin.
		return fmt.Errorf(
			"pluginhost: %s: it names the socket %q, wanted is one in the folder that %s names",
			o.Path,
			s.address,
			goplugin.EnvUnixSocketDir,
		)
	}
	return nil
}

// within says that a path is that of a socket below a folder, whatever links are on its way.
func within(dir, path string) bool {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return false
	}
	if dir, err = filepath.EvalSymlinks(
		dir,
	); err != nil || !filepath.IsLocal(strings.TrimPrefix(real, dir+"/")) ||
		!strings.HasPrefix(real, dir+"/") {
		return false
	}
	st, err := os.Lstat(real)
	return err == nil && st.Mode().Type() == os.ModeSocket
}

// Wait waits for the process to end; its exit is in status.
func (r *process) Wait(context.Context) error {
	<-r.finished
	return nil
}

// Kill kills the process group.
func (r *process) Kill(context.Context) error {
	r.killGroup()
	return nil
}

// abort kills the process group now or, where it does not run yet, as soon as it does.
func (r *process) abort() {
	r.aborted.Store(true)
	r.killGroup()
}

// killGroup kills the process group if it still runs. Its id is not free before wait has reaped the process,
// which comes shortly before finished is closed; a group of that id that is not ours cannot appear in between
// unless all ids wrap.
func (r *process) killGroup() {
	pid := int(r.started.Load())
	if pid == 0 {
		return
	}
	select {
	case <-r.finished:
	default:
		_ = unix.Kill(-pid, unix.SIGKILL)
	}
}

func (r *process) pid() int { return int(r.started.Load()) }

// Stdout gives go-plugin the handshake line.
func (r *process) Stdout() io.ReadCloser { return r.handshake }

// Stderr gives go-plugin nothing: lines are forwarded here.
func (r *process) Stderr() io.ReadCloser { return r.empty }

// Name is the plugin's path.
func (r *process) Name() string { return r.o.Path }

// ID is the process's id; "" before it runs.
func (r *process) ID() string {
	if pid := r.pid(); pid != 0 {
		return strconv.Itoa(pid)
	}
	return ""
}

// Diagnose has nothing to add to startError.
func (r *process) Diagnose(context.Context) string { return "" }

// PluginToHost gives an address as the plugin has it: both sides see the same files.
func (r *process) PluginToHost(network, addr string) (string, string, error) {
	return network, addr, nil
}

// HostToPlugin gives an address as the host has it.
func (r *process) HostToPlugin(network, addr string) (string, string, error) {
	return network, addr, nil
}

// stop asks the plugin to end, and kills its group when it takes longer than StopTimeout. go-plugin's own
// request to end has no timeout, so the timer runs beside it.
func (r *process) stop(client *goplugin.Client) {
	timer := time.AfterFunc(r.o.StopTimeout, r.killGroup)
	defer timer.Stop()
	client.Kill()
	r.killGroup()
	<-r.finished
}

// abandon ends a process whose start did not work out. One that is about to end by itself may, so that its
// exit status is its own.
func (r *process) abandon(client *goplugin.Client) {
	if r.pid() != 0 {
		select {
		case <-r.finished:
		case <-time.After(drain):
		}
	}
	r.killGroup()
	client.Kill()
	if r.pid() != 0 {
		<-r.finished
	} else {
		_ = os.RemoveAll(r.dir)
	}
}

// startError is the sentence for a start that did not work out.
func (r *process) startError(ctx context.Context, err error) error {
	if refusal := r.refusal.Load(); refusal != nil {
		return *refusal
	}
	if cause := ctx.Err(); cause != nil {
		return fmt.Errorf("pluginhost: %s: start: %w", r.o.Path, cause)
	}
	if r.pid() == 0 {
		return err
	}
	words := r.lines.lastWords()
	switch {
	case strings.Contains(err.Error(), "timeout"):
		return fmt.Errorf("pluginhost: %s: no handshake within %s%s", r.o.Path, r.o.StartTimeout, words)
	case r.status != nil:
		return fmt.Errorf("pluginhost: %s: ended before its handshake (%w)%s", r.o.Path, r.status, words)
	}
	return fmt.Errorf("pluginhost: %s: start: %w%s", r.o.Path, err, words)
}

// exitError is the sentence for a process that ended by itself.
func (r *process) exitError() error {
	status := "exit status 0"
	if r.status != nil {
		status = r.status.Error()
	}
	return fmt.Errorf("pluginhost: %s: %w (%s)%s", fileName(r.o.Kind, r.o.Name), protocol.ErrPluginDied, status, r.lines.lastWords())
}
