// Command armcount counts the arm64 instructions of one decode step, by function, for docs/benchmarks/arm.md:
//
//	go run ./tools/armcount -cpu cortex-a72 demo/gguf/hearth-4m-q4_0.gguf
//
// It builds itself for arm64 and decodes under qemu-aarch64-static, once 2 and once 4 tokens; half of the
// difference is one step: one thread, f16 keys and values, no sampler. Debian's qemu-user has no plugins, so
// that qemu's log is counted instead: every translated block once with its instructions (in_asm), and a line
// for each time that one runs (exec,nochain).
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"

	"edged/core/infer/transformer"
	"edged/core/model/weights"
	"edged/plugins/backend-neon/neon"
	"edged/quant/kernel"
)

func main() {
	cpu := flag.String("cpu", "cortex-a72", "qemu's processor")
	steps := flag.Int("steps", 0, "decode so many tokens here, and count nothing")
	flag.Parse()
	err := errors.New("usage: armcount [-cpu CPU] MODEL.gguf")
	switch {
	case flag.NArg() == 1 && *steps > 0:
		err = decode(flag.Arg(0), *steps)
	case flag.NArg() == 1:
		err = measure(context.Background(), os.Stdout, flag.Arg(0), *cpu)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "armcount:", err)
		os.Exit(1)
	}
}

// decode runs steps forward passes of one token.
func decode(path string, steps int) error {
	runtime.GOMAXPROCS(1)
	w, err := weights.Open(path)
	if err != nil {
		return err
	}
	m, err := transformer.New(
		w,
		transformer.Options{Kernels: neon.Best(), KV: kernel.KVF16, Context: 64, ThreadsPrefill: 1, ThreadsDecode: 1},
	)
	if err != nil {
		return err
	}
	seq := m.NewSeq()
	logits := make([]float32, m.Info().VocabRows)
	for i := range steps {
		if err := m.Forward([]transformer.Row{{Seq: seq, Token: int32(i + 5), Logits: logits}}); err != nil { //nolint:gosec // few
			return err
		}
	}
	return errors.Join(m.Close(), w.Close())
}

// measure prints the difference of a long and a short run.
func measure(ctx context.Context, out io.Writer, model, cpu string) error {
	dir, err := os.MkdirTemp("", "armcount")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	program := filepath.Join(dir, "armcount")
	build := exec.CommandContext(ctx, "go", "build", "-o", program, "./tools/armcount") //nolint:gosec // fixed
	build.Env = append(os.Environ(), "GOOS=linux", "GOARCH=arm64", "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, text)
	}
	const short, long = 2, 4
	a, err := count(ctx, program, model, cpu, short)
	if err != nil {
		return err
	}
	b, err := count(ctx, program, model, cpu, long)
	if err != nil {
		return err
	}
	return report(out, a, b, long-short)
}

// count runs the program under qemu and reads its log.
func count(ctx context.Context, program, model, cpu string, steps int) (map[string]int64, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	cmd := exec.CommandContext(
		ctx,
		"qemu-aarch64-static",
		"-cpu",
		cpu,
		"-d",
		"in_asm,exec,nochain",
		"-D",
		"/proc/self/fd/3",
		program,
		"-steps",
		strconv.Itoa(steps),
		model,
	) //nolint:gosec // the caller's own model
	cmd.Env = append(os.Environ(), "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	cmd.Stderr = os.Stderr
	cmd.ExtraFiles = []*os.File{w}
	err = cmd.Start()
	w.Close()
	if err != nil {
		return nil, err
	}
	counts, err := readLog(r)
	if waited := cmd.Wait(); waited != nil {
		return nil, fmt.Errorf("qemu-aarch64-static: %w", waited)
	}
	return counts, err
}
