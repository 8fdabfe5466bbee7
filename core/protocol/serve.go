package protocol

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"edged/core/pluginlog"
)

// ServeConfig says what a plugin's main serves.
type ServeConfig struct {
	// Name is PluginBackend or PluginTokenizer.
	Name string
	// Plugin is backend.Plugin{Impl: …} or tokenizer.Plugin{Impl: …}.
	Plugin goplugin.Plugin
	// Log is the plugin's logger; nil: pluginlog.New().
	Log *slog.Logger
}

// ErrByHand is returned by ServePlugin in a process that no daemon started. Its sentence is for the terminal.
var ErrByHand = errors.New("this is a plugin of edged, which starts it itself: run edged, with this file in its plugins.dir")

// ServePlugin is a plugin main's one call: it serves until the daemon asks it to stop, and never outlives the
// daemon (see watchParent). Nothing else may be written to standard output before it.
//
//	func main() {
//		log := pluginlog.New()
//		err := protocol.ServePlugin(protocol.ServeConfig{Name: protocol.PluginBackend, Plugin: backend.Plugin{Impl: impl}, Log: log})
//		if err != nil {
//			fmt.Fprintln(os.Stderr, err)
//			os.Exit(1)
//		}
//	}
func ServePlugin(c ServeConfig) error {
	if c.Name != PluginBackend && c.Name != PluginTokenizer {
		return fmt.Errorf("protocol: serve plugin: name %q is neither %q nor %q", c.Name, PluginBackend, PluginTokenizer)
	}
	if c.Plugin == nil {
		return fmt.Errorf("protocol: serve plugin: nothing to serve as %q", c.Name)
	}
	if os.Getenv(CookieKey) != CookieValue {
		return fmt.Errorf("%s: %w", filepath.Base(os.Args[0]), ErrByHand)
	}
	log := c.Log
	if log == nil {
		log = pluginlog.New()
	}
	watchParent(log)
	goplugin.Serve(&goplugin.ServeConfig{
		HandshakeConfig:  Handshake(),
		VersionedPlugins: map[int]goplugin.PluginSet{Version: {c.Name: c.Plugin}},
		GRPCServer:       func(o []grpc.ServerOption) *grpc.Server { return grpc.NewServer(append(o, ServerOptions()...)...) },
		Logger:           pluginlog.HCLog(log, slog.LevelDebug),
	})
	return nil
}

// ServerOptions are the gRPC options of a plugin's server: the limits on messages.
func ServerOptions() []grpc.ServerOption {
	return []grpc.ServerOption{grpc.MaxRecvMsgSize(MaxMessage), grpc.MaxSendMsgSize(MaxMessage)}
}

// DialOptions are the gRPC options of the daemon's connection: the limits on messages.
func DialOptions() []grpc.DialOption {
	return []grpc.DialOption{grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(MaxMessage), grpc.MaxCallSendMsgSize(MaxMessage))}
}

// parentPoll is how often a plugin looks whether its parent is still the same process. With the half second
// that a kernel may take to reap, an orphan is gone well within 2 s.
const parentPoll = 500 * time.Millisecond

// watchParent ends this process when the daemon is gone, however it went. Two of three nets hang here; the third, the
// kernel's parent-death signal, is the host's to set up.
//
//   - The lifeline: standard input is a pipe whose other end only the daemon holds, so it ends with the daemon. It works
//     through wrappers that fork (sudo, strace, a shell) and under an emulator.
//   - The parent's id: it changes when the parent dies. It works where a wrapper closed or replaced standard input, which
//     then is no pipe.
func watchParent(log *slog.Logger) {
	stdin := os.Stdin
	if st, err := stdin.Stat(); err == nil && st.Mode()&os.ModeNamedPipe != 0 && os.Getenv(EnvLifeline) == "stdin" {
		go func() {
			// Nothing is ever written: the copy ends with the pipe.
			_, err := io.Copy(io.Discard, stdin)
			leave(log, "the lifeline ended", err)
		}()
	}
	parent := os.Getppid()
	go func() {
		tick := time.NewTicker(parentPoll)
		defer tick.Stop()
		for range tick.C {
			if os.Getppid() != parent {
				leave(log, "the parent process changed", nil)
			}
		}
	}()
}

// leave ends the process. It tidies before it logs, since a write to a log that nobody reads ends the process, too.
func leave(log *slog.Logger, reason string, err error) {
	removeSocket(os.Getenv(goplugin.EnvUnixSocketDir))
	log.Info("daemon is gone, leaving", "reason", reason, "err", err)
	os.Exit(0)
}

// removeSocket removes the sockets in dir and dir: the daemon, which made it, cannot any more.
func removeSocket(dir string) {
	if dir == "" {
		return
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.Type()&os.ModeSocket != 0 {
			_ = os.Remove(filepath.Join(dir, e.Name()))
		}
	}
	_ = os.Remove(dir)
}
