package engine

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"edged/core/infer/engine/answer"
	"edged/core/infer/engine/compute"
	"edged/core/infer/sample"
	"edged/core/model/gguf"
	"edged/core/model/safetensors"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/quant"
	"edged/quant/kernel"
	"edged/test/oracle"
	"edged/test/race"
)

// softly computes a choice behind virtual tokens in the plainest way, as reference does.
func softly(t *testing.T, req backend.Request, virtual, limit int, uses []compute.Use) []int32 {
	t.Helper()
	var s sample.Sampler
	p := answer.SamplingParams(req.Sampling)
	state := uint64(0)
	for i := range virtual {
		state = next(state, int32(-1-i), uses)
	}
	for _, id := range req.PromptIDs {
		state = next(state, id, uses)
	}
	logits := make([]float32, fakeRows)
	var ids []int32
	for len(ids) < limit {
		fill(logits, state)
		id, err := s.Next(&sample.Step{Logits: logits, Limit: fakeRows, Params: &p, Prompt: req.PromptIDs, Generated: ids, Index: len(ids)})
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, id)
		state = next(state, id, uses)
	}
	return ids
}

// TestSoftPrompt: virtual tokens stand before the prompt, take positions, count in usage, are found in the prefix cache, and
// are no tokens to penalties and guesses.
func TestSoftPrompt(t *testing.T) {
	e, f := serve(t, withSize(func(s *sizes) { s.lookup = true }))
	m, err := e.current()
	if err != nil {
		t.Fatal(err)
	}
	const n = 21
	bound := map[string]compute.Adapter{}
	for i, id := range []string{"soft", "other", "lora"} {
		if err := m.loop.do(t.Context(), func() {
			f.content = uint64(i + 1)
			info := backend.AdapterInfo{ID: id, SHA256: "sum of " + id, Virtual: n}
			if id == "lora" {
				info.Virtual = 0
			}
			if _, err := m.loop.adopt(info, nil, &closer{}); err != nil {
				t.Error(err)
			}
			bound[id] = m.loop.adapters[id].bound
		}); err != nil {
			t.Fatal(err)
		}
	}
	soft := []backend.AdapterUse{{ID: "soft", Scale: 1}}
	req := backend.Request{
		ID: "r", PromptIDs: prompt(30, 1), MaxTokens: 40, IgnoreEOS: true, Adapters: soft,
		Sampling: backend.Sampling{Temperature: 0.8, Seed: 5, RepeatPenalty: 1.3, PenaltyLastN: -1},
	}
	want := softly(t, req, n, 40, []compute.Use{{Adapter: bound["soft"], Scale: 1}})
	for i, cached := range []int{0, n + 29} {
		got := generate(t.Context(), e, req)
		if got.err != nil {
			t.Fatal(got.err)
		}
		if d := cmp.Diff(want, got.last.Choices[0].IDs); d != "" {
			t.Errorf("time %d: %s", i, d)
		}
		if u := (backend.Usage{PromptTokens: n + 30, CachedTokens: cached, CompletionTokens: 40, VirtualTokens: n}); got.last.Usage != u {
			t.Errorf("time %d: usage %+v, want %+v", i, got.last.Usage, u)
		}
	}
	// Another soft prompt finds nothing, and so does the same one beside a LoRA, or none.
	for _, uses := range [][]backend.AdapterUse{{{ID: "other", Scale: 1}}, {soft[0], {ID: "lora", Scale: 0.5}}, nil} {
		other := req
		other.Adapters = uses
		got := generate(t.Context(), e, other)
		if got.err != nil {
			t.Fatal(got.err)
		}
		if got.last.Usage.CachedTokens != 0 || slices.Equal(got.last.Choices[0].IDs, want) {
			t.Errorf("%v: usage %+v", uses, got.last.Usage)
		}
	}
	two := req
	two.Adapters = []backend.AdapterUse{{ID: "other", Scale: 1}, soft[0]}
	if got := generate(t.Context(), e, two); got.err != nil || got.last.Usage.VirtualTokens != 2*n ||
		!slices.Equal(got.last.Choices[0].IDs, softly(t, two, 2*n, 40, []compute.Use{{Adapter: bound["other"], Scale: 1}, {Adapter: bound["soft"], Scale: 1}})) {
		t.Errorf("two soft prompts: %+v, %v", got.last, got.err)
	}
	// Several choices, and what an earlier attempt generated.
	many := req
	many.N = 3
	if got := generate(t.Context(), e, many); got.err != nil || !slices.Equal(got.last.Choices[0].IDs, want) {
		t.Errorf("three choices: %+v, %v", got.last, got.err)
	}
	on := req
	on.GeneratedIDs = want[:17]
	if got := generate(t.Context(), e, on); got.err != nil || !slices.Equal(got.last.Choices[0].IDs, want) {
		t.Errorf("going on: %+v, %v", got.last, got.err)
	}
	// The context: 256 positions, of which the soft prompt takes its part.
	full := req
	full.MaxTokens, full.PromptIDs = 0, prompt(256-n-7, 2)
	got := generate(t.Context(), e, full)
	if got.err != nil || got.last.Choices[0].Finish != backend.FinishLength || len(got.last.Choices[0].IDs) != 7 {
		t.Errorf("a full context: %+v, %v", got.last, got.err)
	}
	again := full
	again.GeneratedIDs = got.last.Choices[0].IDs
	if got := generate(t.Context(), e, again); got.err != nil || got.last.Choices[0].Finish != backend.FinishLength || len(got.last.Choices[0].IDs) != 7 {
		t.Errorf("a full context, once more: %+v, %v", got.last, got.err)
	}
	full.PromptIDs = prompt(256-n, 2)
	if got := generate(t.Context(), e, full); !errors.Is(got.err, protocol.ErrContextLength) || !strings.Contains(got.err.Error(), "21 virtual ones") {
		t.Errorf("too long: %v", got.err)
	}
	half := req
	half.Adapters = []backend.AdapterUse{{ID: "soft", Scale: 0.5}}
	if got := generate(t.Context(), e, half); !errors.Is(got.err, protocol.ErrInvalid) || !strings.Contains(got.err.Error(), "no scale but 1") {
		t.Errorf("half a soft prompt: %v", got.err)
	}
	// Scores are those of the tokens behind it.
	scores, err := e.Score(t.Context(), backend.ScoreRequest{Lists: [][]int32{prompt(256-n, 3), {4, 5}}, Adapters: soft})
	if err != nil || len(scores[0].Logprobs) != 255-n {
		t.Fatalf("%d values, %v", len(scores[0].Logprobs), err)
	}
	state := uint64(0)
	for _, id := range append(virtualIDs(n), 4) {
		state = next(state, id, []compute.Use{{Adapter: bound["soft"], Scale: 1}})
	}
	logits := make([]float32, fakeRows)
	fill(logits, state)
	norm, err := sample.LogNorm(logits)
	if err != nil || scores[1].Logprobs[0] != sample.Logprob(logits[5], norm) {
		t.Errorf("scored %v, %v", scores[1], err)
	}
	if _, err := e.Score(t.Context(), backend.ScoreRequest{Lists: [][]int32{prompt(257-n, 3)}, Adapters: soft}); !errors.Is(err, protocol.ErrContextLength) {
		t.Errorf("a list that is too long: %v", err)
	}
}

func virtualIDs(n int) (ids []int32) {
	for i := range n {
		ids = append(ids, int32(-1-i))
	}
	return ids
}

// TestProof: an adapter comes in by a token of the next batch, beside what runs, also where pages are short for a while.
func TestProof(t *testing.T) {
	e, f := serve(t, withPages(12)) // of 8 positions
	m, err := e.current()
	if err != nil {
		t.Fatal(err)
	}
	prove := func(ctx context.Context, id string, virtual int) error {
		b, err := f.LoadAdapter(nil)
		if err != nil {
			return err
		}
		return m.loop.proved(ctx, &adapter{info: backend.AdapterInfo{ID: id, SHA256: id, Virtual: virtual}, file: &closer{}, bound: b})
	}
	if err := prove(t.Context(), "idle", 0); err != nil {
		t.Error(err)
	}
	if err := prove(t.Context(), "soft", 300); err != nil {
		t.Error(err)
	}
	req := backend.Request{ID: "all pages", PromptIDs: prompt(20, 1), MaxTokens: 75, IgnoreEOS: true, Stream: true}
	want, _, _ := reference(t, req, 0, 75)
	var wg sync.WaitGroup
	begun := false
	if err := e.Generate(t.Context(), req, func(ev backend.Event) error {
		if !begun && len(ev.IDs) > 0 {
			begun = true
			for i := range 3 {
				wg.Go(func() {
					if err := prove(t.Context(), fmt.Sprint("beside ", i), i); err != nil {
						t.Error(err)
					}
				})
			}
		}
		if ev.Done && !slices.Equal(ev.Choices[0].IDs, want) {
			t.Errorf("got %v, want %v", ev.Choices[0].IDs, want)
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	waitFor(t, "all five are in", func() bool { st, err := e.Stats(t.Context()); return err == nil && st.Adapters == 5 })
	f.hook = func([]compute.Row) error { return errTest }
	if err := prove(t.Context(), "broken", 0); !errors.Is(err, protocol.ErrModel) || !errors.Is(err, errTest) {
		t.Errorf("a failing pass: %v", err)
	}
	f.hook = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := prove(ctx, "given up", 0); err != nil && !errors.Is(err, context.Canceled) {
		t.Errorf("given up: %v", err)
	}
}

// TestCloseWhileBinding: an adapter that is being bound keeps the weights that it reads.
func TestCloseWhileBinding(t *testing.T) {
	race.SkipArithmetic(t)
	e := New(Options{Name: "test", Kernels: kernel.Portable{}})
	info, err := e.Load(t.Context(), backend.LoadRequest{Path: filepath.Join(oracle.Repo(t), "demo/hf-nf4")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	path := demoKinds(t, int64(info.Width), int64(info.VocabRows))["dora"]
	begun, ended := make(chan struct{}), make(chan error, 1)
	go func() {
		close(begun)
		_, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: path, Name: "dora"})
		ended <- err
	}()
	<-begun
	if err := e.Close(); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil && !errors.Is(err, errClosed) && !errors.Is(err, protocol.ErrNotLoaded) {
		t.Error(err)
	}
}

// folder writes a PEFT folder for the demo model.
type folder struct {
	config  map[string]any
	tensors []safetensors.Tensor
}

func (f *folder) add(name string, value func() float32, shape ...int64) {
	n := int64(1)
	for _, d := range shape {
		n *= d
	}
	data := make([]byte, 0, 4*n)
	for range n {
		data = binary.LittleEndian.AppendUint32(data, math.Float32bits(value()))
	}
	f.tensors = append(f.tensors, safetensors.Tensor{Name: name, DType: safetensors.F32, Shape: shape, Data: data})
}

func (f *folder) write(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	text, err := json.Marshal(f.config)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "adapter_config.json"), text, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := safetensors.WriteFile(filepath.Join(dir, "adapter_model.safetensors"), f.tensors, nil); err != nil {
		t.Fatal(err)
	}
	return dir
}

// demoKinds are adapters of the other kinds for the demo model.
func demoKinds(t *testing.T, width, vocab int64) map[string]string {
	t.Helper()
	rng := rand.New(rand.NewPCG(4, 4))
	normal := func(mean, scale float64) func() float32 {
		return func() float32 { return float32(mean + scale*rng.NormFloat64()) }
	}
	const q = "base_model.model.model.layers.0.self_attn.q_proj."
	dora := &folder{config: map[string]any{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "use_dora": true, "target_modules": []string{"q_proj"}}}
	dora.add(q+"lora_A.weight", normal(0, 0.1), 4, width)
	dora.add(q+"lora_B.weight", normal(0, 0.1), width, 4)
	dora.add(q+"lora_magnitude_vector", normal(1, 0.3), width)
	embed := &folder{config: map[string]any{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": []string{"embed_tokens", "lm_head"}}}
	embed.add("base_model.model.lm_head.lora_A.weight", normal(0, 0.05), 4, width)
	embed.add("base_model.model.lm_head.lora_B.weight", normal(0, 0.05), vocab, 4)
	embed.add("base_model.model.model.embed_tokens.lora_embedding_A", normal(0, 0.1), 4, vocab)
	embed.add("base_model.model.model.embed_tokens.lora_embedding_B", normal(0, 0.1), width, 4)
	soft := &folder{config: map[string]any{"peft_type": "PROMPT_TUNING", "num_virtual_tokens": 40, "token_dim": width}}
	soft.add("prompt_embeddings", normal(0, 0.1), 40, width)
	huge := &folder{config: map[string]any{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": []string{"q_proj"}}}
	huge.add(q+"lora_A.weight", func() float32 { return 1e30 }, 4, width)
	huge.add(q+"lora_B.weight", func() float32 { return 1e30 }, width, 4)
	return map[string]string{"dora": dora.write(t), "embed": embed.write(t), "soft": soft.write(t), "huge": huge.write(t), "gguf": ggufLoRA(t, width, normal(0, 0.1))}
}

// ggufLoRA writes a GGUF adapter for the demo model.
func ggufLoRA(t *testing.T, width int64, value func() float32) string {
	t.Helper()
	var w gguf.Writer
	for key, v := range map[string]any{"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": float32(8)} {
		w.Put(key, v)
	}
	for name, dims := range map[string][]int64{"blk.1.attn_q.weight.lora_a": {width, 4}, "blk.1.attn_q.weight.lora_b": {4, width}} {
		var data []byte
		for range dims[0] * dims[1] {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(value()))
		}
		w.Add(name, quant.F32, dims, data)
	}
	path := filepath.Join(t.TempDir(), "adapter.gguf")
	if err := w.WriteFile(path); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestAdapterKinds loads every kind on the demo model: what it is, beside each other as alone, and nothing is left of any
// after it was loaded and unloaded many times; with EDGED_SOAK=1 a thousand times.
func TestAdapterKinds(t *testing.T) {
	race.SkipArithmetic(t)
	repo := oracle.Repo(t)
	e, info := load(t, backend.LoadRequest{Path: filepath.Join(repo, "demo/hf-nf4"), Context: 160, MaxSequences: 8})
	kinds := demoKinds(t, int64(info.Width), int64(info.VocabRows))
	for _, name := range []string{"pirate", "json", "deutsch"} {
		kinds[name] = filepath.Join(repo, "demo/adapters", name)
	}
	want := map[string]string{"dora": "dora", "soft": "soft_prompt", "embed": "lora", "gguf": "lora", "pirate": "lora", "json": "lora", "deutsch": "lora"}
	if _, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: kinds["huge"], Name: "huge"}); !errors.Is(err, protocol.ErrModel) || !strings.Contains(err.Error(), "after one token with it") {
		t.Errorf("values whose products are none: %v", err)
	}
	var uses [][]backend.AdapterUse
	for name, kind := range want {
		a, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: kinds[name], Name: name})
		if err != nil {
			t.Fatal(err)
		}
		if a.Kind != kind || a.Bytes <= 0 || kind == "soft_prompt" != (a.Virtual == 40) {
			t.Errorf("%s: %+v", name, a)
		}
		uses = append(uses, []backend.AdapterUse{{ID: a.ID, Scale: 1}})
	}
	uses = append(uses, slices.Concat(uses[0], uses[1]), nil)
	ask := func(i int) backend.Event {
		a := generate(t.Context(), e, backend.Request{ID: strconv.Itoa(i), PromptIDs: []int32{5, 9, 13, 17, int32(i + 1)}, MaxTokens: 8, IgnoreEOS: true, Adapters: uses[i], Logprobs: true})
		if a.err != nil {
			t.Error(a.err)
		}
		return a.last
	}
	alone, together := make([]backend.Event, len(uses)), make([]backend.Event, len(uses))
	var wg sync.WaitGroup
	for i := range uses {
		wg.Go(func() { together[i] = ask(i) })
	}
	wg.Wait()
	for i := range uses {
		alone[i] = ask(i)
		alone[i].Usage.CachedTokens, together[i].Usage.CachedTokens = 0, 0
		if d := cmp.Diff(alone[i], together[i], ignoreTimes); d != "" {
			t.Errorf("%v: %s", uses[i], d)
		}
	}

	for _, u := range uses[:len(want)] {
		if err := e.UnloadAdapter(t.Context(), u[0].ID); err != nil {
			t.Fatal(err)
		}
	}
	times := 20
	if testing.Short() {
		times = 10
	}
	if os.Getenv("EDGED_SOAK") == "1" {
		times = 1000
	}
	var before, files int64
	var resident []int64
	for i := range times {
		if i == 3 { // what the kernels and the tables of the runtime keep is there by now
			before, files = mapped(t), openFiles(t)
		}
		if i >= times/2 {
			resident = append(resident, residentBytes())
		}
		for name := range want {
			a, err := e.LoadAdapter(t.Context(), backend.AdapterRequest{Path: kinds[name], Name: name})
			if err != nil {
				t.Fatal(err)
			}
			if err := e.UnloadAdapter(t.Context(), a.ID); err != nil {
				t.Fatal(err)
			}
		}
		waitFor(t, "nothing is left", func() bool {
			st, err := e.Stats(t.Context())
			return err == nil && st.Adapters == 0 && st.AdapterBytes == 0 && st.KVPagesUsed == 0
		})
	}
	// Each time takes a chunk of memory for each adapter, and the parts of it that are laid out anew.
	after := mapped(t)
	if after > before+int64(min(times-3, 128))<<20 {
		t.Errorf("%d bytes are mapped after %d times, %d before", after, times, before)
	}
	if now := openFiles(t); now > files {
		t.Errorf("%d files are open after %d times, %d before", now, times, files)
	}
	// Of the last half: the garbage that one round leaves comes and goes, so it is quarters that are compared.
	quarter := len(resident) / 2
	first, second := slices.Min(resident[:quarter]), slices.Min(resident[quarter:])
	t.Logf("%d times: %d kB mapped, %d before; resident at least %d kB in the third quarter, %d in the fourth", times, after>>10, before>>10, first>>10, second>>10)
	if second > first+4<<20 {
		t.Errorf("resident memory grows: %d", resident)
	}
}

// openFiles is the number of files that this process has open.
func openFiles(t *testing.T) int64 {
	t.Helper()
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return int64(len(entries))
}

// mapped is the memory of this process; no adapter's file may be part of it.
func mapped(t *testing.T) int64 {
	t.Helper()
	runtime.GC()
	text, err := os.ReadFile("/proc/self/maps")
	if runtime.GOOS != "linux" || err != nil {
		t.Skip("no /proc/self/maps", err)
	}
	var sum int64
	for line := range strings.Lines(string(text)) {
		var lo, hi int64
		if _, err := fmt.Sscanf(line, "%x-%x", &lo, &hi); err != nil {
			continue // above half of the address space: the system's
		}
		if lo>>36 == 0xc { // the Go heap, which reserves by 64 MiB: what it holds is seen in the resident memory
			continue
		}
		if strings.Contains(line, " ---p ") { // reserved and never touched: malloc's 64 MiB for a thread
			continue
		}
		if strings.Contains(line, "adapter_model") {
			t.Errorf("still mapped: %s", line)
		}
		sum += hi - lo
	}
	// A busy machine makes the runtime start threads, each with a stack of 8 MiB where the race detector links the C library.
	threads, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return sum - int64(len(threads))*8<<20
}
