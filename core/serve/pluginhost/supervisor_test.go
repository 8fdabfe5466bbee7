package pluginhost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/health/grpc_health_v1"

	"edged/core/protocol"
)

// life is a process without a process.
type life struct {
	*Process
	end func(error) // it dies
}

func newLife(pid int, health grpc_health_v1.HealthClient) *life {
	done := make(chan struct{})
	var once sync.Once
	var reason error
	end := func(err error) { once.Do(func() { reason = err; close(done) }) }
	p := &Process{name: "backend-fake", pid: pid, done: done, health: health}
	p.exit = func() error { return reason }
	p.kill = func() { end(nil) }
	return &life{p, end}
}

// healthFunc answers health checks.
type healthFunc func(ctx context.Context) (*grpc_health_v1.HealthCheckResponse, error)

func (f healthFunc) Check(ctx context.Context, _ *grpc_health_v1.HealthCheckRequest, _ ...grpc.CallOption) (*grpc_health_v1.HealthCheckResponse, error) {
	return f(ctx)
}

func (f healthFunc) List(context.Context, *grpc_health_v1.HealthListRequest, ...grpc.CallOption) (*grpc_health_v1.HealthListResponse, error) {
	return nil, errors.ErrUnsupported
}

func (f healthFunc) Watch(context.Context, *grpc_health_v1.HealthCheckRequest, ...grpc.CallOption) (grpc.ServerStreamingClient[grpc_health_v1.HealthCheckResponse], error) {
	return nil, errors.ErrUnsupported
}

func healthy(context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
	return &grpc_health_v1.HealthCheckResponse{Status: grpc_health_v1.HealthCheckResponse_SERVING}, nil
}

func silent(ctx context.Context) (*grpc_health_v1.HealthCheckResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

type options = SupervisorOptions[*Process]

// script supervises lives that a test makes.
type script struct {
	*Supervisor[*Process]
	states []State
	starts []time.Time
	wait   func() error // ends Run
}

func supervise(t *testing.T, o options, start func(n int) (*life, error)) *script {
	t.Helper()
	o.Process = Options{Kind: protocol.PluginBackend, Log: slog.New(slog.DiscardHandler)}
	if o.Name = "backend"; o.Prepare == nil {
		o.Prepare = ready(func(context.Context, *Process) error { return nil })
	}
	s := &script{}
	var mu sync.Mutex
	o.OnChange = func(st State) { mu.Lock(); s.states = append(s.states, st); mu.Unlock() }
	s.Supervisor = Supervise(o)
	s.start = func(context.Context, Options) (*Process, error) {
		s.starts = append(s.starts, time.Now())
		l, err := start(len(s.starts))
		if err != nil {
			return nil, err
		}
		return l.Process, nil
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	s.wait = func() error { cancel(); return <-done }
	return s
}

// ready makes a Prepare whose life is its process.
func ready(prepare func(context.Context, *Process) error) func(context.Context, *Process, uint64) (*Process, error) {
	return func(ctx context.Context, p *Process, _ uint64) (*Process, error) { return p, prepare(ctx, p) }
}

// next is the process of the present life, or of the next one.
func (s *script) next(ctx context.Context) (*Process, error) {
	p, _, err := s.Current(ctx, 0)
	return p, err
}

func TestSupervisorRestarts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lives []*life
		prepared := 0
		s := supervise(t, options{Prepare: ready(func(context.Context, *Process) error { prepared++; return nil })},
			func(n int) (*life, error) {
				lives = append(lives, newLife(n, healthFunc(healthy)))
				return lives[n-1], nil
			})
		p, err := s.next(t.Context())
		if err != nil || p.Pid() != 1 {
			t.Fatalf("%v, %v", p, err)
		}
		time.Sleep(time.Minute)
		crash := fmt.Errorf("backend-fake: %w (exit status 2)", protocol.ErrPluginDied)
		died := time.Now()
		lives[0].end(crash)
		synctest.Wait()
		if st := s.State(); st.Phase != Waiting || !errors.Is(st.Err, protocol.ErrPluginDied) || st.Failures != 1 || st.Retry <= 0 {
			t.Errorf("after the crash: %+v", st)
		}
		p, err = s.next(t.Context())
		if err != nil || p.Pid() != 2 || prepared != 2 {
			t.Fatalf("%v, %v, prepared %d times", p, err, prepared)
		}
		if pause := time.Since(died); pause > 150*time.Millisecond {
			t.Errorf("back after %s", pause)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
		select {
		case <-lives[1].Done():
		default:
			t.Error("Run left a process behind")
		}
		if _, err := s.next(t.Context()); !errors.Is(err, protocol.ErrPluginDied) {
			t.Errorf("after the end: %v", err)
		}
		var phases []byte
		for _, st := range s.states {
			phases = append(phases, st.Phase[0])
		}
		if string(phases) != "spr"+"ww"+"spr"+"ws" { // starting, preparing, ready, waiting (as it dies, then with the pause), …, stopped
			t.Errorf("phases %s: %+v", phases, s.states)
		}
	})
}

func TestSupervisorBacksOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, options{MaxBackoff: 2 * time.Second}, func(int) (*life, error) { return nil, ErrNotFound })
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		defer cancel()
		_, err := s.next(ctx)
		if st := s.State(); !errors.Is(err, context.DeadlineExceeded) || !errors.Is(st.Err, ErrNotFound) {
			t.Errorf("current: %v, %+v", err, st)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
		for i, want := 1, 100*time.Millisecond; i < len(s.starts); i, want = i+1, min(2*want, 2*time.Second) {
			if got := s.starts[i].Sub(s.starts[i-1]); got < want*8/10 || got > want*12/10 {
				t.Errorf("pause %d is %s, want %s ± 20 %%", i, got, want)
			}
		}
		if n := len(s.starts); n < 10 || n > 16 {
			t.Errorf("%d starts in 20 s", n)
		}
	})
}

func TestSupervisorForgetsFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var last *life
		s := supervise(t, options{}, func(n int) (*life, error) {
			if n <= 6 {
				return nil, ErrNotFound
			}
			last = newLife(n, healthFunc(healthy))
			return last, nil
		})
		if _, err := s.next(t.Context()); err != nil {
			t.Fatal(err)
		}
		if f := s.State().Failures; f != 6 {
			t.Errorf("%d failures", f)
		}
		time.Sleep(time.Minute)
		last.end(protocol.ErrPluginDied)
		synctest.Wait()
		if st := s.State(); st.Failures != 1 || st.Retry > 150*time.Millisecond {
			t.Errorf("%+v", st)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestSupervisorKillsWhatDoesNotAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begin := time.Now()
		var first *life
		s := supervise(t, options{HealthInterval: time.Second, HealthTimeout: 3 * time.Second}, func(n int) (*life, error) {
			if n == 1 {
				first = newLife(n, healthFunc(silent))
				return first, nil
			}
			return newLife(n, healthFunc(healthy)), nil
		})
		if _, err := s.next(t.Context()); err != nil {
			t.Fatal(err)
		}
		<-first.Done()
		if d := time.Since(begin); d != 4*time.Second {
			t.Errorf("killed after %s", d)
		}
		synctest.Wait()
		if st := s.State(); !errors.Is(st.Err, ErrUnhealthy) {
			t.Errorf("%+v", st)
		}
		time.Sleep(time.Hour)
		if p, err := s.next(t.Context()); err != nil || p.Pid() != 2 {
			t.Errorf("%v, %v", p, err)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestSupervisorPrepare(t *testing.T) {
	t.Run("fails", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := 0
			s := supervise(t, options{Prepare: ready(func(context.Context, *Process) error {
				if n++; n < 3 {
					return protocol.ErrNoMemory
				}
				return nil
			})}, func(n int) (*life, error) { return newLife(n, healthFunc(healthy)), nil })
			p, err := s.next(t.Context())
			if err != nil || p.Pid() != 3 {
				t.Errorf("%v, %v", p, err)
			}
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("permanently", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := supervise(t, options{
				Prepare:   ready(func(context.Context, *Process) error { return fmt.Errorf("weights: /m: %w", protocol.ErrModel) }),
				Permanent: func(err error) bool { return errors.Is(err, protocol.ErrModel) },
			}, func(n int) (*life, error) { return newLife(n, healthFunc(healthy)), nil })
			if _, err := s.next(t.Context()); !errors.Is(err, protocol.ErrModel) {
				t.Errorf("current: %v", err)
			}
			if err := s.wait(); !errors.Is(err, protocol.ErrModel) {
				t.Errorf("run: %v", err)
			}
		})
	})
	t.Run("dies meanwhile", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			lastWords := fmt.Errorf("backend-fake: %w; it said: out of memory", protocol.ErrPluginDied)
			s := supervise(t, options{MinBackoff: time.Hour, MaxBackoff: time.Hour, Prepare: ready(func(ctx context.Context, _ *Process) error {
				<-ctx.Done()
				return fmt.Errorf("connection closed: %w", protocol.ErrPluginDied)
			})}, func(n int) (*life, error) {
				l := newLife(n, healthFunc(healthy))
				time.AfterFunc(time.Second, func() { l.end(lastWords) })
				return l, nil
			})
			time.Sleep(2 * time.Second)
			if st := s.State(); st.Err == nil || st.Err.Error() != lastWords.Error() {
				t.Errorf("%+v", st)
			}
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	})
	t.Run("is cancelled at the end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			s := supervise(t, options{Prepare: ready(func(ctx context.Context, _ *Process) error {
				<-ctx.Done()
				return ctx.Err()
			})}, func(n int) (*life, error) { return newLife(n, healthFunc(healthy)), nil })
			time.Sleep(time.Second)
			if err := s.wait(); err != nil {
				t.Error(err)
			}
		})
	})
}

func TestSupervisorChecksAndForgivesTheProven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := errors.New("computes nothing")
		var begin time.Time
		var checks atomic.Int32
		s := supervise(t, options{
			HealthInterval: time.Second,
			Prepare: ready(func(context.Context, *Process) error {
				time.Sleep(10*time.Second + time.Second/2) // ends between two checks
				begin = time.Now()
				return nil
			}),
			Check: func(context.Context, *Process) error {
				if checks.Add(1); time.Since(begin) >= 5*time.Second {
					return stuck
				}
				return nil
			},
		}, func(n int) (*life, error) { return newLife(n, healthFunc(healthy)), nil })
		for life := 1; life <= 8; life++ {
			p, err := s.next(t.Context())
			if err != nil || p.Pid() != life {
				t.Fatalf("life %d: %v, %v", life, p, err)
			}
			if n := checks.Load(); life == 1 && n != 0 {
				t.Errorf("checked %d times while it was made ready", n)
			}
			if life > 4 {
				s.Proven()
			}
			<-p.Done()
			synctest.Wait()
			want := life
			if life > 4 { // such a life starts the count anew
				want = 1
			}
			if st := s.State(); !errors.Is(st.Err, stuck) || st.Failures != want {
				t.Errorf("life %d: %+v, want %d failures", life, st, want)
			}
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}

func TestSupervisorRestartOnRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, options{}, func(n int) (*life, error) { return newLife(n, healthFunc(healthy)), nil })
		if _, err := s.next(t.Context()); err != nil {
			t.Fatal(err)
		}
		stuck := errors.New("no progress for 60 s")
		s.Restart(stuck)
		s.Restart(stuck)
		synctest.Wait()
		if st := s.State(); !errors.Is(st.Err, stuck) {
			t.Errorf("%+v", st)
		}
		p, err := s.next(t.Context())
		if err != nil || p.Pid() != 2 {
			t.Errorf("%v, %v", p, err)
		}
		time.Sleep(time.Minute)
		if n := len(s.starts); n != 2 {
			t.Errorf("%d starts", n)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestSupervisorDegraded: who waits is told the reason once so many lives in a row have failed, and gets the next life that is ready.
func TestSupervisorDegraded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, options{Degraded: 5, Permanent: func(error) bool { return false }}, func(n int) (*life, error) {
			if n <= 7 {
				return nil, ErrNotFound
			}
			return newLife(n, healthFunc(healthy)), nil
		})
		if _, err := s.next(t.Context()); !errors.Is(err, ErrNotFound) || s.State().Failures != 5 {
			t.Errorf("%v, %+v", err, s.State())
		}
		time.Sleep(time.Minute)
		p, number, err := s.Current(t.Context(), 3)
		if err != nil || p.Pid() != 8 || number != 8 {
			t.Errorf("life %d: %v, %v", number, p, err)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestSupervisorDisowned: a life that is said to have died and that is still there is ended after a second, and the next one is given out.
func TestSupervisorDisowned(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := supervise(t, options{}, func(n int) (*life, error) { return newLife(n, healthFunc(healthy)), nil })
		first, number, err := s.Current(t.Context(), 0)
		if err != nil || number != 1 {
			t.Fatal(number, err)
		}
		began := time.Now()
		second, number, err := s.Current(t.Context(), number)
		if err != nil || number != 2 || second.Pid() != 2 {
			t.Errorf("life %d: %v, %v", number, second, err)
		}
		if d := time.Since(began); d < time.Second || d > 2*time.Second {
			t.Errorf("after %s", d)
		}
		select {
		case <-first.Done():
		default:
			t.Error("the first life goes on")
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, _, err := s.Current(ctx, 2); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}

// TestSupervisorOnceReady: what is permanent at the first start is none once the plugin was ready.
func TestSupervisorOnceReady(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gone := fmt.Errorf("weights: /m: %w", protocol.ErrModel)
		fails := false
		var last *life
		s := supervise(t, options{
			Prepare: ready(func(context.Context, *Process) error {
				if fails {
					fails = false
					return gone
				}
				return nil
			}),
			Permanent: func(err error) bool { return errors.Is(err, protocol.ErrModel) },
		}, func(n int) (*life, error) { last = newLife(n, healthFunc(healthy)); return last, nil })
		if _, err := s.next(t.Context()); err != nil {
			t.Fatal(err)
		}
		fails = true
		last.end(protocol.ErrPluginDied)
		synctest.Wait()
		if p, err := s.next(t.Context()); err != nil || p.Pid() != 3 {
			t.Errorf("%v, %v", p, err)
		}
		if err := s.wait(); err != nil {
			t.Error(err)
		}
	})
}
