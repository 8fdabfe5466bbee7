package pluginhost_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"edged/core/pluginlog"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/pluginhost"
)

// modeVar says what a copy of this test binary is to be; it is how the tests come by real subprocesses.
const modeVar = "TESTPLUGIN_MODE"

func TestMain(m *testing.M) {
	switch mode := os.Getenv(modeVar); mode {
	case "":
		os.Exit(m.Run())
	case "host":
		runHost()
	default:
		runPlugin(mode)
	}
}

// runPlugin is a plugin's main, with a mishap for each mode.
func runPlugin(mode string) {
	log := pluginlog.New()
	impl := testBackend(log)
	switch mode {
	case "exit before handshake":
		fmt.Fprintln(os.Stderr, "cannot find libfoo.so")
		os.Exit(3)
	case "no handshake":
		fmt.Println("hello there")
		select {}
	case "version 2":
		goplugin.Serve(&goplugin.ServeConfig{
			HandshakeConfig:  protocol.Handshake(),
			VersionedPlugins: map[int]goplugin.PluginSet{2: {protocol.PluginBackend: backend.Plugin{Impl: impl}}},
			GRPCServer:       func(o []grpc.ServerOption) *grpc.Server { return grpc.NewServer(o...) },
		})
		return
	case "elsewhere", "elsewhere by a link", "elsewhere by dots", "no socket":
		dir := os.Getenv("PLUGIN_UNIX_SOCKET_DIR")
		other, err := os.MkdirTemp("", "else")
		if err != nil {
			panic(err)
		}
		path := filepath.Join(other, "s")
		_, err = net.Listen("unix", path)
		if err != nil {
			panic(err)
		}
		switch mode {
		case "elsewhere by a link":
			link := filepath.Join(dir, "s")
			if err := os.Symlink(path, link); err != nil {
				panic(err)
			}
			path = link
		case "elsewhere by dots":
			rel, err := filepath.Rel(dir, path)
			if err != nil {
				panic(err)
			}
			path = dir + "/" + rel
		case "no socket":
			path = filepath.Join(dir, "file")
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				panic(err)
			}
		}
		fmt.Println("1|1|unix|" + path + "|grpc|")
		time.Sleep(time.Minute)
		return
	case "tcp":
		fmt.Println("1|1|tcp|127.0.0.1:1234|grpc|")
		select {}
	case "ok":
		if file := os.Getenv("TESTPLUGIN_LEAVES"); file != "" {
			leave(file)
		}
	case "chatty start":
		fmt.Println("Welcome to my plugin!")
		fmt.Fprintln(os.Stderr, "warming up")
	}
	if err := protocol.ServePlugin(protocol.ServeConfig{Name: protocol.PluginBackend, Plugin: backend.Plugin{Impl: impl}, Log: log}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	if mode == "slow end" {
		time.Sleep(time.Hour)
	}
}

// leave starts processes in sessions of their own: one with this process as its parent, and one that has none and knows nothing of
// it. It writes their ids to a file.
func leave(file string) {
	script := `setsid sleep 3600 >/dev/null 2>&1 & echo $!; env -i setsid sh -c 'sleep 3600 >/dev/null 2>&1 & echo $!'`
	out, err := exec.Command("sh", "-c", script).Output()
	if err != nil {
		panic(err)
	}
	if err := os.WriteFile(file, out, 0o600); err != nil {
		panic(err)
	}
}

// testBackend does what its requests' ids say.
func testBackend(log *slog.Logger) backend.Backend {
	return &backend.Fake{
		DescribeFunc: func(context.Context) (backend.Description, error) {
			return backend.Description{Name: "test", Version: strconv.Itoa(os.Getpid()), Kernels: os.Environ(), Features: os.Args}, nil
		},
		LoadFunc: func(ctx context.Context, req backend.LoadRequest, _ func(backend.LoadProgress)) (backend.ModelInfo, error) {
			if req.Path == "/broken" {
				return backend.ModelInfo{}, fmt.Errorf("weights: /broken: %w: it is empty", protocol.ErrModel)
			}
			return backend.ModelInfo{Name: req.Path}, ctx.Err()
		},
		GenerateFunc: func(ctx context.Context, req backend.Request, emit func(backend.Event) error) error {
			if err := emit(backend.Event{Text: "first"}); err != nil {
				return err
			}
			switch req.ID {
			case "panic":
				go panic("kernel: row 7 is out of range")
			case "exit":
				os.Exit(7)
			case "log":
				log.WarnContext(ctx, "adapter is slow", "adapter", "pirate", "rank", 16, "scale", 0.5, slog.Group("at", "layer", 3))
				log.DebugContext(ctx, "not wanted")
				fmt.Fprintln(os.Stderr, "a stray line")
				fmt.Println("a printed line")
				os.Stderr.Write([]byte(strings.Repeat("x", 100_000) + "\n"))
				return emit(backend.Event{Done: true})
			case "hostile":
				for _, line := range []string{
					`{"@message":5,"@level":{"a":[1]},"@timestamp":true}`, `{"@message":"deep","a":{"b":{"c":{"d":{"e":{"f":1}}}}}}`, `{`, `[]`,
					`{"@level":"error"}`, `null`, strings.Repeat("{", 10_000), "\xff\xfe\x00", `{"@message":"dup","@message":"dup2","x":1e999}`,
				} {
					// The file itself: os.Stderr goes over the connection by now.
					if _, err := syscall.Write(2, []byte(line+"\n")); err != nil {
						return err
					}
				}
				return emit(backend.Event{Done: true})
			case "flood":
				for i := range 20_000 {
					log.ErrorContext(ctx, "flood", "i", i)
				}
				return emit(backend.Event{Done: true})
			}
			<-ctx.Done()
			return ctx.Err()
		},
	}
}

// runHost is a daemon that starts a plugin and is killed. It prints the plugin's id.
func runHost() {
	ctx := context.Background()
	o := options(slog.New(slog.DiscardHandler), "ok")
	if prefix := os.Getenv("TESTHOST_COMMAND"); prefix != "" {
		o.Command = strings.Split(prefix, "\x1f")
	}
	o.RunDir = os.Getenv("TESTHOST_RUNDIR")
	end := os.Getenv("TESTHOST_END")
	if end != "" {
		if err := pluginhost.Adopt(); err != nil {
			panic(err)
		}
		o.Env = append(o.Env, "TESTPLUGIN_LEAVES="+os.Getenv("TESTHOST_LEFT"))
	}
	p, err := pluginhost.Start(ctx, o)
	if err != nil {
		fmt.Println("error:", err)
		os.Exit(1)
	}
	switch end {
	case "kill":
		p.Kill()
		fmt.Println("ended")
	case "kill all":
		pluginhost.KillAll()
		fmt.Println("ended")
	}
	d, err := p.Backend().Describe(ctx)
	fmt.Println(d.Version, errors.Join(err))
	// Many threads come and go: the plugin must not take the end of one for the end of the daemon.
	for range 50 {
		go func() { runtime.LockOSThread(); time.Sleep(10 * time.Millisecond) }()
	}
	time.Sleep(200 * time.Millisecond)
	if err := p.Health(ctx); err != nil {
		fmt.Println("error:", err)
	}
	fmt.Println("ready")
	select {}
}

// options start this test binary as a plugin.
func options(log *slog.Logger, mode string) pluginhost.Options {
	exe, err := os.Executable()
	if err != nil {
		panic(err)
	}
	return pluginhost.Options{
		Kind: protocol.PluginBackend, Name: "test", Path: exe, Log: log, Env: []string{modeVar + "=" + mode}, StartTimeout: 30 * time.Second,
	}
}
