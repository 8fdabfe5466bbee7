package e2e

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"edged/test/oracle"
)

func joinIDs(ids []int32) string {
	var b strings.Builder
	for i, id := range ids {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.Itoa(int(id)))
	}
	return b.String()
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

// reference is one prompt of an oracle file.
type reference struct {
	IDs       []int32   `json:"ids"`
	Greedy    []int32   `json:"greedy"`
	Margins   []float64 `json:"margins"`
	RefGreedy []int32   `json:"ref_greedy"`
	RefMargin []float64 `json:"ref_margins"`

	// The largest logits after the prompt, as pairs of id and logit.
	RefTop [][2]float64 `json:"ref_last_top20"`
}

// answer is one line of a batch.
type answer struct {
	IDs      []int32
	Logprobs []struct {
		Top []struct {
			ID      int32
			Logprob float64
		}
	}
}

// worst returns the largest difference between the distances of the first step's logits from the first of them, here and
// in the reference: soft-max takes a constant away from all logits, which distances do not see.
func worst(t *testing.T, got answer, want [][2]float64) float64 {
	t.Helper()
	here := map[int32]float64{}
	for _, top := range got.Logprobs[0].Top {
		here[top.ID] = top.Logprob
	}
	first := int32(want[0][0])
	most := 0.0
	for _, pair := range want[:10] { // the last of twenty may be another one here
		lp, ok := here[int32(pair[0])]
		if !ok {
			t.Errorf("token %v of the reference's first ten is not among the first twenty", pair[0])
			continue
		}
		most = max(most, math.Abs((lp-here[first])-(pair[1]-want[0][1])))
	}
	return most
}

// agree compares step by step, stops at the first step whose margin is too small to decide, and returns how many it
// compared.
func agree(t *testing.T, what string, got, want []int32, margins []float64, least float64) int {
	t.Helper()
	for i := range want {
		if margins[i] < least {
			return i
		}
		if i >= len(got) || got[i] != want[i] {
			t.Errorf("%s: step %d (margin %.3f): got %v, want %v", what, i, margins[i], got, want)
			return i
		}
	}
	return len(want)
}

// decided returns for how many steps the margins of a reference are wide enough to compare: agree looks at no more.
func decided(margins []float64, least float64) int {
	for i, m := range margins {
		if m < least {
			return i
		}
	}
	return len(margins)
}

// generate runs one batch of id prompts and returns the answer to each, of some steps and at least one.
func generate(t *testing.T, prompts []reference, steps int, args ...string) []answer {
	t.Helper()
	var lines bytes.Buffer
	for _, p := range prompts {
		fmt.Fprintf(&lines, "{\"ids\":[%s]}\n", joinIDs(p.IDs))
	}
	batch := filepath.Join(t.TempDir(), "batch.jsonl")
	if err := os.WriteFile(batch, lines.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := edged(t, append([]string{"generate", "--batch", batch, "--max-tokens", strconv.Itoa(max(steps, 1)), "--ignore-eos", "--temperature", "0", "--logprobs", "20"}, args...)...)
	if code != 0 {
		t.Fatalf("generate %v: exit %d: %s", args, code, errs)
	}
	var all []answer
	for line := range strings.Lines(out) {
		var r answer
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		all = append(all, r)
	}
	if len(all) != len(prompts) {
		t.Fatalf("%d answers to %d prompts", len(all), len(prompts))
	}
	return all
}

// shortened keeps of a reference what an emulated processor, which is fifty times slower, has time for: a few steps behind its first
// prompt. That the whole answer is right is shown on this machine, whose kernels have the same bits; here it is shown that
// the program for arm64 loads each file and reaches its kernels.
func shortened(backend string, prompts []reference, steps int) ([]reference, int) {
	if backend != "neon" {
		return prompts, steps
	}
	return prompts[:1], min(8, steps)
}

// backends are the ways in which every oracle is run: this machine, and the arm64 build as a Pi 5 would run it.
func backends(t *testing.T) map[string][]string {
	t.Helper()
	all := map[string][]string{"generic": {"--backend", "generic"}}
	if qemu := need(t, "qemu-aarch64-static"); qemu != "" {
		neon := filepath.Join(programs(t, "arm64"), "plugins", "backend-neon")
		all["neon"] = []string{"--backend", neon, "--backend-command", qemu + " -cpu cortex-a76"}
	}
	return all
}

func TestGreedyIDsOfEveryModelFile(t *testing.T) {
	root := filepath.Join(oracle.Dir(t), "models")
	for backend, flags := range backends(t) {
		for _, model := range []string{"llama-tied", "qwen2", "gpt2", "mixtral"} {
			files, err := filepath.Glob(filepath.Join(root, model, "*.gguf"))
			if err != nil || len(files) == 0 {
				t.Fatalf("no model files of %s: %v", model, err)
			}
			for _, file := range append(files, filepath.Join(root, model, "hf")) {
				name := strings.TrimSuffix(filepath.Base(file), ".gguf")
				t.Run(backend+"/"+model+"/"+name, func(t *testing.T) {
					var o struct{ Prompts []reference }
					readJSON(t, filepath.Join(root, model, "oracle", name+".json"), &o)
					// Exact: twice the allowed error of one logit, since two are subtracted. Fast: what 8-bit activations move
					// a logit of standard deviation 4 by, at most, in any reference; experts may be chosen differently.
					quantised := !strings.HasSuffix(name, "F16") && !strings.HasSuffix(name, "F32") && name != "hf"
					peer := 0.1 // llama.cpp's own error with 16-bit activations
					limits := map[string]struct{ margin, logit float64 }{"exact": {0.02, 0.04}, "fast": {0.1, 0.16}}
					if quantised {
						peer = 2
						limits["fast"] = struct{ margin, logit float64 }{2, 2}
					}
					if model == "mixtral" {
						limits["fast"] = struct{ margin, logit float64 }{2, 2}
					}
					for precision, limit := range limits {
						most, steps, last := 0.0, 0, 0
						for _, p := range o.Prompts {
							last = max(last, decided(p.RefMargin, limit.margin), decided(p.Margins, max(peer, limit.margin)))
						}
						var prompts []reference
						prompts, last = shortened(backend, o.Prompts, last)
						got := generate(t, prompts, last, append([]string{"--model", file, "--precision", precision}, flags...)...)
						for i, p := range prompts {
							what := fmt.Sprintf("%s, prompt %d", precision, i)
							if p.RefGreedy != nil {
								steps += agree(t, what, got[i].IDs, p.RefGreedy[:min(last, len(p.RefGreedy))], p.RefMargin, limit.margin)
							}
							if p.Greedy != nil { // computed on 8-bit activations where the file is quantised
								steps += agree(t, what, got[i].IDs, p.Greedy[:min(last, len(p.Greedy))], p.Margins, max(peer, limit.margin))
							}
							if precision == "exact" || model != "mixtral" {
								most = max(most, worst(t, got[i], p.RefTop))
							}
						}
						if most > limit.logit {
							t.Errorf("%s: a logit is off by %.4f, more than %.4f", precision, most, limit.logit)
						}
						t.Logf("oracle: %s | %s | %s | %.1e | %d", backend, model+"/"+name, precision, most, steps)
					}
				})
			}
		}
	}
}

// TestAdaptersOnEveryBase runs every reference adapter, alone, scaled, and two at once, over the base in 16 bits, in
// quantised files and in NF4, exactly as it was trained.
func TestAdaptersOnEveryBase(t *testing.T) {
	root := oracle.Dir(t)
	type use struct {
		Name  string
		Scale float64
	}
	run := func(t *testing.T, what, model, lora, suffix string, uses []use, prompts []reference, flags []string) {
		t.Helper()
		args := append([]string{"--model", model, "--precision", "exact"}, flags...)
		for _, u := range uses {
			args = append(args, "--adapter", fmt.Sprintf("%s=%g", filepath.Join(lora, u.Name)+suffix, u.Scale))
		}
		steps, last := 0, 0
		for _, p := range prompts {
			last = max(last, decided(p.RefMargin, 0.02))
		}
		backend, _, _ := strings.Cut(what, "/")
		prompts, last = shortened(backend, prompts, last)
		for i, got := range generate(t, prompts, last, args...) {
			greedy := prompts[i].RefGreedy[:min(last, len(prompts[i].RefGreedy))]
			steps += agree(t, fmt.Sprintf("%s, prompt %d", what, i), got.IDs, greedy, prompts[i].RefMargin, 0.02)
		}
		t.Logf("oracle: %s | %d steps", what, steps)
	}
	for backend, flags := range backends(t) {
		for _, base := range []string{"llama-tied", "qwen2"} {
			lora := filepath.Join(root, "lora", base)
			var o struct {
				Cases []struct {
					Key      string
					Adapters []use
					Prompts  []reference
				}
			}
			readJSON(t, filepath.Join(lora, "oracle.json"), &o)
			for _, c := range o.Cases {
				// Both forms of adapter on both containers of the base.
				for form, file := range map[string]struct{ model, suffix string }{
					"folder": {filepath.Join(root, "models", base, "hf"), ""},
					"gguf":   {filepath.Join(root, "models", base, base+"-F16.gguf"), ".gguf"},
				} {
					if backend == "neon" && form == "folder" {
						continue // containers are read by the same Go everywhere
					}
					what := backend + "/" + base + "/" + c.Key + "/" + form
					t.Run(what, func(t *testing.T) { run(t, what, file.model, lora, file.suffix, c.Adapters, c.Prompts, flags) })
				}
			}
			var q struct {
				Cases []struct {
					File      string `json:"base_file"`
					Adapter   string
					Scale     float64
					IDs       []int32
					RefGreedy []int32   `json:"ref_greedy"`
					RefMargin []float64 `json:"ref_margins"`
				}
			}
			readJSON(t, filepath.Join(lora, "oracle_quant_base.json"), &q)
			for i, c := range q.Cases {
				if backend == "neon" && i > 0 && c.File == q.Cases[i-1].File {
					continue // one adapter on each format
				}
				what := backend + "/" + c.File + "/" + c.Adapter
				t.Run(what, func(t *testing.T) {
					prompt := []reference{{IDs: c.IDs, RefGreedy: c.RefGreedy, RefMargin: c.RefMargin}}
					run(t, what, filepath.Join(root, "models", base, c.File), lora, "", []use{{c.Adapter, c.Scale}}, prompt, flags)
				})
			}
		}
		nf4 := filepath.Join(root, "nf4")
		var o struct {
			Cases []struct {
				Lora    *string
				Scale   float64
				Prompts []reference
			}
		}
		readJSON(t, filepath.Join(nf4, "llama-tied-nf4-dq/oracle/oracle.json"), &o)
		for _, c := range o.Cases {
			var uses []use
			what := backend + "/nf4/base"
			if c.Lora != nil {
				uses, what = []use{{*c.Lora, 1}}, backend+"/nf4/lora"
			}
			t.Run(what, func(t *testing.T) {
				run(t, what, filepath.Join(nf4, "llama-tied-nf4-dq"), nf4, "", uses, c.Prompts, flags)
			})
		}
	}
}

func TestCutOffModelFiles(t *testing.T) {
	file := filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf")
	whole, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	points := 200
	if testing.Short() {
		points = 5
	}
	cut := filepath.Join(t.TempDir(), "cut.gguf")
	random := rand.New(rand.NewPCG(1, 2))
	for range points {
		n := random.IntN(len(whole))
		if random.IntN(2) == 0 { // half of the cuts fall into the header, where parsers break
			n = random.IntN(60 << 10)
		}
		if err := os.WriteFile(cut, whole[:n], 0o600); err != nil {
			t.Fatal(err)
		}
		out, errs, code := edged(t, "generate", "--model", cut, "--ids", "1,2,3", "--max-tokens", "2")
		oneSentence(t, fmt.Sprintf("cut at %d", n), out, errs, code)
	}
}

func oneSentence(t *testing.T, what, out, errs string, code int) {
	t.Helper()
	if code != 1 || out != "" || strings.Count(strings.TrimSpace(errs), "\n") > 0 || strings.TrimSpace(errs) == "" || strings.Contains(errs, "panic") {
		t.Errorf("%s: exit %d, stdout %q, stderr %q: want exit 1 and one sentence", what, code, out, errs)
	}
}

func TestMissingShard(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(oracle.Repo(t), "demo/hf-nf4"))); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "model.safetensors")); err != nil {
		t.Fatal(err)
	}
	index := `{"metadata":{},"weight_map":{"model.norm.weight":"model-00002-of-00002.safetensors"}}`
	if err := os.WriteFile(filepath.Join(dir, "model.safetensors.index.json"), []byte(index), 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := edged(t, "generate", "--model", dir, "--ids", "1", "--max-tokens", "1")
	oneSentence(t, "missing shard", out, errs, code)
	if !strings.Contains(errs, "model-00002-of-00002.safetensors") {
		t.Errorf("stderr %q does not name the shard", errs)
	}
}

func TestUnsupportedArchitecture(t *testing.T) {
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(filepath.Join(oracle.Repo(t), "demo/hf-nf4"))); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "config.json")
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	text = bytes.Replace(text, []byte(`"model_type": "llama"`), []byte(`"model_type": "tomorrow"`), 1)
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	out, errs, code := edged(t, "generate", "--model", dir, "--ids", "1", "--max-tokens", "1")
	oneSentence(t, "unsupported architecture", out, errs, code)
	if !strings.Contains(errs, "tomorrow") || !strings.Contains(errs, "llama") {
		t.Errorf("stderr %q: want the architecture and those that are supported", errs)
	}
}

func TestUsageErrorsExitTwo(t *testing.T) {
	for _, args := range [][]string{{"generate"}, {"run", "--no-such-flag"}, {"frobnicate"}, {"tokenize", "--model"}} {
		if out, errs, code := edged(t, args...); code != 2 || out != "" || errs == "" {
			t.Errorf("edged %v: exit %d, stdout %q, stderr %q: want 2", args, code, out, errs)
		}
	}
}

func TestDemoOracle(t *testing.T) {
	demo := oracle.Demo(t)
	var o struct {
		Prompts []struct{ IDs []int32 }
		Outputs map[string][]struct {
			IDs    []int32
			Margin float64
		}
	}
	readJSON(t, filepath.Join(demo, "eval/oracle.json"), &o)
	for name, outputs := range o.Outputs {
		args := []string{"--model", filepath.Join(oracle.Repo(t), "demo/hf-nf4"), "--precision", "exact", "--max-tokens", "200", "--output", "ids"}
		base, adapter, _ := strings.Cut(name, "+")
		if base != "nf4" {
			continue
		}
		if adapter != "" {
			args = append(args, "--adapter", filepath.Join(oracle.Repo(t), "demo/adapters", adapter))
		}
		t.Run(name, func(t *testing.T) {
			for i, want := range outputs[:min(4, len(outputs))] {
				if want.Margin < 0.005 {
					continue
				}
				out, errs, code := edged(t, append([]string{"generate", "--ids", joinIDs(o.Prompts[i].IDs)}, args...)...)
				if code != 0 {
					t.Fatalf("exit %d: %s", code, errs)
				}
				// The reference lists the end-of-turn token that stops; edged does not.
				if ids := want.IDs[:len(want.IDs)-1]; strings.TrimSpace(out) != joinIDs(ids) {
					t.Errorf("prompt %d: got %s, want %s", i, out, joinIDs(ids))
				}
			}
		})
	}
}
