package transformer

import (
	"encoding/json"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/lora"
	"edged/core/model/weights"
	"edged/plugins/backend-generic/x86"
	"edged/quant/kernel"
	"edged/test/oracle"
)

// Oracle tests: every model file, NF4 folder and adapter of the reference data, at both precisions, within the
// tolerances that its README recommends. Run with -v they print one line per case: the table of docs.

// limits are the tolerances of one kind of arithmetic.
type limits struct {
	maxAbs float64 // of logits; 0: not asked for
	relRMS float64 // over prompt 0
	cosine float64 // at each position
	most   float64 // share of positions within relRMS where the whole prompt need not be
	margin float64 // greedy choices are compared where the first leads the second by this much
	stop   bool    // and no further than the first that does not
	nll    float64 // per token
}

// limitsFor picks the README's column: float32 for exact; for fast, 8 bits where the weights are quantised, and float16
// (which is how keys and values are kept) where they are not, since activations stay in float32 then.
func limitsFor(arch, precision string, quantised bool) limits {
	var l limits
	switch {
	case precision == "exact":
		l = limits{maxAbs: 2e-3, margin: 0.004, nll: 1e-3}
		if quantised {
			l.maxAbs = 5e-3
		}
		if arch == "gpt2" {
			l.maxAbs, l.margin = 0.02, 0.02
		}
	case !quantised:
		l = limits{maxAbs: 0.08, relRMS: 0.004, margin: 0.1, nll: 5e-3}
	default:
		l = limits{relRMS: 0.08, cosine: 0.995, margin: 2, nll: 0.12}
		if arch == "mixtral" { // 8 bits flip the choice of the second expert
			l.cosine, l.most, l.stop = 0, 0.6, true
		}
	}
	return l
}

// result is what was measured. scripts/oracle-table reads its text.
type result struct {
	maxAbs, relRMS, cosine, share float64
	whole                         bool // relRMS, cosine and share were measured
	greedy, steps                 int  // choices compared
	bad                           []string
	nll                           *float64 // nil: not measured
}

func (r *result) String() string {
	ok := "ok"
	if len(r.bad) > 0 {
		ok = strings.Join(r.bad, "; ")
	}
	rms, cosine, nll := "-", "-", "-" // what was not measured
	if r.whole {
		rms, cosine = fmt.Sprintf("%.2e", r.relRMS), fmt.Sprintf("%.6f", r.cosine)
	}
	if r.nll != nil {
		nll = fmt.Sprintf("%+.1e", *r.nll)
	}
	return fmt.Sprintf("max abs %.2e, rel rms %s, cosine %s, greedy (%d of %d compared) %s, nll diff %s",
		r.maxAbs, rms, cosine, r.greedy, r.steps, ok, nll)
}

// compare measures rows of logits against the reference, both (n, vocab).
func (r *result) compare(got, want []float32, vocab int, whole bool) {
	var num, den float64
	good := 0
	for at := 0; at < len(want); at += vocab {
		var e2, w2, g2, dot float64
		for i := at; i < at+vocab; i++ {
			g, w := float64(got[i]), float64(want[i])
			e := g - w
			if r.maxAbs = max(r.maxAbs, math.Abs(e)); math.IsNaN(e) {
				r.maxAbs = math.Inf(1)
			}
			e2 += e * e
			w2 += w * w
			g2 += g * g
			dot += g * w
		}
		num += e2
		den += w2
		if e2 <= 0.08*0.08*w2 {
			good++
		}
		if whole {
			r.cosine = min(r.cosine, dot/math.Sqrt(w2*g2))
		}
	}
	if whole {
		r.whole, r.relRMS, r.share = true, math.Sqrt(num/den), float64(good)/float64(len(want)/vocab)
	}
}

func (r *result) check(t *testing.T, l limits) {
	t.Helper()
	if l.maxAbs > 0 && !(r.maxAbs <= l.maxAbs) {
		t.Errorf("largest error %g, want at most %g", r.maxAbs, l.maxAbs)
	}
	if l.relRMS > 0 && l.most == 0 && !(r.relRMS <= l.relRMS) {
		t.Errorf("relative RMS error %g, want at most %g", r.relRMS, l.relRMS)
	}
	if l.most > 0 && r.share < l.most {
		t.Errorf("%g of the positions are within %g, want %g", r.share, l.relRMS, l.most)
	}
	if l.cosine > 0 && !(r.cosine >= l.cosine) {
		t.Errorf("smallest cosine %g, want at least %g", r.cosine, l.cosine)
	}
	if r.nll != nil && !(math.Abs(*r.nll) <= l.nll) {
		t.Errorf("negative log-likelihood per token differs by %g, want at most %g", *r.nll, l.nll)
	}
	for _, b := range r.bad {
		t.Error(b)
	}
}

// runner runs one model.
type runner struct {
	t    *testing.T
	m    *Model
	uses []Use

	invocation []int32 // of an activated adapter
	from       int     // the position from which uses are on
}

// logits runs ids through a new sequence in pieces and returns the logits of every position, and the sequence.
func (r *runner) logits(ids []int32) ([]float32, *Seq) {
	return r.stretched(ids, r.m.Stretch(len(ids)))
}

// usesAt are the adapters of the row at a position: an activated one begins at r.from.
func (r *runner) usesAt(pos int) []Use {
	if pos < r.from {
		return nil
	}
	return r.uses
}

// stretched is logits of a sequence that is turned in a given way.
func (r *runner) stretched(ids []int32, how int) ([]float32, *Seq) {
	r.t.Helper()
	seq, vocab := r.m.NewSeq(), r.m.Info().VocabRows
	seq.Stretch(how)
	out := make([]float32, len(ids)*vocab)
	for lo := 0; lo < len(ids); lo += r.m.Info().MaxRows {
		hi := min(lo+r.m.Info().MaxRows, len(ids))
		rows := make([]Row, 0, hi-lo)
		for i := lo; i < hi; i++ {
			rows = append(rows, Row{Seq: seq, Token: ids[i], Adapters: r.usesAt(i), Logits: out[i*vocab : (i+1)*vocab]})
		}
		if err := r.m.Forward(rows); err != nil {
			r.t.Fatal(err)
		}
	}
	return out, seq
}

// prompt runs a prompt and the reference's choices after it, compares the choices at every step whose margin is large
// enough, and returns the logits at the prompt's positions. Since the reference's choices are what is fed back, a step with
// a small margin does not end the comparison, and all can go through together: TestRowBits proves that decoding one by
// one gives the same logits.
func (r *runner) prompt(res *result, ids, want []int32, margins []float64, l limits) []float32 {
	r.t.Helper()
	vocab := r.m.Info().VocabRows
	whole := slices.Concat(ids, want[:len(want)-1])
	how := r.m.Stretch(len(ids))
	if how == 0 {
		how = r.m.Stretch(len(whole))
	}
	all, seq := r.stretched(whole, how)
	defer seq.Free()
	if b := r.m.border; b > 0 && len(ids) <= b && len(whole) > b { // beyond the border all is computed anew
		near, seq := r.stretched(whole[:b], 0)
		defer seq.Free()
		copy(all, near)
	}
	next := all[(len(ids)-1)*vocab:]
	res.steps += len(want)
	for i, id := range want {
		if margins[i] < l.margin {
			if l.stop {
				break
			}
			continue
		}
		if got := argmax(next[i*vocab : (i+1)*vocab]); got != id {
			res.bad = append(res.bad, fmt.Sprintf("step %d: id %d, want %d (margin %g)", i, got, id, margins[i]))
		}
		res.greedy++
	}
	return all[:len(ids)*vocab]
}

// nllSum is the negative log-likelihood of ids[1:].
func (r *runner) nllSum(ids []int32) float64 {
	r.t.Helper()
	vocab := r.m.Info().VocabRows
	all, seq := r.logits(ids)
	defer seq.Free()
	var sum float64
	for i := range len(ids) - 1 {
		row := all[i*vocab : (i+1)*vocab]
		top, z := float64(row[argmax(row)]), 0.0
		for _, v := range row {
			z += math.Exp(float64(v) - top)
		}
		sum += top + math.Log(z) - float64(row[ids[i+1]])
	}
	return sum
}

func argmax(x []float32) int32 {
	best := 0
	for i, v := range x {
		if v > x[best] {
			best = i
		}
	}
	return int32(best)
}

// precisions are the ways in which every file is run; fast with the KV type that is served by default. The processor's own kernels
// have the bits of the portable ones, as their conformance suite proves, at a tenth of the time. One thread: TestRowBits proves that
// their number changes nothing.
func precisions() map[string]Options {
	return map[string]Options{
		"exact": {Kernels: x86.Best(), Precision: kernel.Exact, MaxRows: 64, ThreadsPrefill: 1, ThreadsDecode: 1},
		"fast":  {Kernels: x86.Best(), Precision: kernel.Fast, KV: kernel.KVF16, MaxRows: 64, ThreadsPrefill: 1, ThreadsDecode: 1},
	}
}

func openRunner(t *testing.T, path string, o Options) (*runner, *weights.Model) {
	t.Helper()
	w, err := weights.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	m, err := New(w, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if m.Cache().FreePages() != m.Cache().TotalPages() {
			t.Errorf("%d of %d pages are free at the end", m.Cache().FreePages(), m.Cache().TotalPages())
		}
		if err := m.Close(); err != nil {
			t.Error(err)
		}
		if err := w.Close(); err != nil {
			t.Error(err)
		}
	})
	return &runner{t: t, m: m}, w
}

type oraclePrompt struct {
	IDs        []int32   `json:"ids"`
	Greedy     []int32   `json:"greedy"`
	Margins    []float64 `json:"margins"`
	RefGreedy  []int32   `json:"ref_greedy"`
	RefMargins []float64 `json:"ref_margins"`
	RefLogits  string    `json:"ref_logits"`
}

type oracleFile struct {
	File     *string        `json:"file"`
	Quant    string         `json:"quant"`
	Prompts  []oraclePrompt `json:"prompts"`
	PPLText  []int32        `json:"ppl_text_ids"`
	RefNLL   float64        `json:"ref_nll_sum"`
	NLLTerms int            `json:"nll_terms"`
}

func TestOracleModels(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "models")
	for _, arch := range []string{"gpt2", "llama-tied", "mixtral", "qwen2"} {
		base := filepath.Join(dir, arch)
		var hf oracleFile
		readJSON(t, filepath.Join(base, "oracle", "hf.json"), &hf)
		files, err := filepath.Glob(filepath.Join(base, "oracle", "*.json"))
		if err != nil || len(files) == 0 {
			t.Fatal(files, err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, ".dequant.json") {
				continue
			}
			stem := strings.TrimSuffix(file, ".json")
			var want oracleFile
			readJSON(t, file, &want)
			path := filepath.Join(base, "hf")
			same := filepath.Base(stem) == "hf" // weights equal those of the HF folder
			if !same {
				if want.File == nil {
					continue
				}
				path = filepath.Join(base, *want.File)
				same = want.Quant == "F16" || want.Quant == "F32"
			}
			if same { // the reference's choices for all three prompts
				for i := range want.Prompts {
					if slices.Equal(want.Prompts[i].IDs, hf.Prompts[i].IDs) {
						want.Prompts[i].RefGreedy, want.Prompts[i].RefMargins = hf.Prompts[i].RefGreedy, hf.Prompts[i].RefMargins
					}
				}
			}
			for name, o := range precisions() {
				t.Run(filepath.Base(path)+"/"+arch+"/"+name, func(t *testing.T) {
					l := limitsFor(arch, name, !same)
					r, _ := openRunner(t, path, o)
					res := r.model(&want, stem, l)
					t.Logf("oracle: %s/%s, %s: %v", arch, filepath.Base(path), name, res)
					res.check(t, l)
				})
			}
		}
	}
}

// model compares a model file with its oracle.
func (r *runner) model(want *oracleFile, stem string, l limits) *result {
	r.t.Helper()
	res := r.prompts(want, stem, l)
	nll := (r.nllSum(want.PPLText) - want.RefNLL) / float64(want.NLLTerms)
	res.nll = &nll
	return res
}

// prompts compares the prompts alone.
func (r *runner) prompts(want *oracleFile, stem string, l limits) *result {
	r.t.Helper()
	res := &result{cosine: 1}
	vocab := r.m.Info().VocabRows
	last := readNPY(r.t, stem+".ref.last.npy")
	for i, p := range want.Prompts {
		choices, margins, l := p.RefGreedy, p.RefMargins, l
		if choices == nil { // only llama.cpp's are known, which were made with 8-bit activations
			choices, margins = p.Greedy, p.Margins
			l.margin = max(l.margin, 2)
		}
		got := r.prompt(res, p.IDs, choices, margins, l)
		if i == 0 {
			res.compare(got, readNPY(r.t, stem+".ref.p0.npy"), vocab, true)
		}
		res.compare(got[len(got)-vocab:], last[i*vocab:(i+1)*vocab], vocab, false)
	}
	return res
}

func TestOracleNF4(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "nf4")
	var want struct {
		Cases []struct {
			Lora    *string        `json:"lora"`
			Scale   float32        `json:"scale"`
			Prompts []oraclePrompt `json:"prompts"`
		} `json:"cases"`
	}
	base := filepath.Join(dir, "llama-tied-nf4-dq")
	readJSON(t, filepath.Join(base, "oracle", "oracle.json"), &want)
	for name, o := range precisions() {
		for _, c := range want.Cases {
			kind := "base"
			if c.Lora != nil {
				kind = "lora"
			}
			t.Run(kind+"/"+name, func(t *testing.T) {
				l := limitsFor("llama", name, true)
				if name == "exact" {
					l.maxAbs = 2e-3
				}
				r, w := openRunner(t, base, o)
				if c.Lora != nil {
					r.use(w, filepath.Join(dir, *c.Lora), c.Scale)
				}
				res := &result{cosine: 1}
				vocab := r.m.Info().VocabRows
				last := readNPY(t, filepath.Join(base, "oracle", "ref."+kind+".last.npy"))
				for i, p := range c.Prompts {
					got := r.prompt(res, p.IDs, p.RefGreedy, p.RefMargins, l)
					if i == 0 {
						res.compare(got, readNPY(t, filepath.Join(base, "oracle", "ref."+kind+".p0.npy")), vocab, true)
					}
					res.compare(got[len(got)-vocab:], last[i*vocab:(i+1)*vocab], vocab, false)
				}
				t.Logf("oracle: nf4 %s, %s: %v", kind, name, res)
				res.check(t, l)
			})
		}
	}
}

// use adds an adapter to every row that r runs.
func (r *runner) use(w *weights.Model, path string, scale float32) {
	r.t.Helper()
	a, err := lora.Open(path, w)
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := r.m.LoadAdapter(a)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		b.Close()
		if err := a.Close(); err != nil {
			r.t.Error(err)
		}
	})
	r.uses = append(r.uses, Use{Adapter: b, Scale: scale})
}

func TestOracleAdapters(t *testing.T) {
	dir := oracle.Dir(t)
	for _, base := range []string{"llama-tied", "qwen2"} {
		var want struct {
			Cases []struct {
				Key      string
				Adapters []struct {
					Name  string
					Scale float32
				}
				Prompts []oraclePrompt
			}
		}
		readJSON(t, filepath.Join(dir, "lora", base, "oracle.json"), &want)
		for _, model := range []string{"hf", base + "-F16.gguf"} {
			for _, ext := range []string{"", ".gguf"} { // PEFT folder, GGUF file
				for name, o := range precisions() {
					for _, c := range want.Cases {
						// All cases on the folder with PEFT, both adapters together on every other pair.
						if (model != "hf" || ext != "") && len(c.Adapters) < 2 {
							continue
						}
						t.Run(base+"/"+model+"/"+c.Key+ext+"/"+name, func(t *testing.T) {
							l := limitsFor(base, name, false)
							r, w := openRunner(t, filepath.Join(dir, "models", base, model), o)
							for _, a := range c.Adapters {
								r.use(w, filepath.Join(dir, "lora", base, a.Name+ext), a.Scale)
							}
							res := &result{cosine: 1}
							for i, p := range c.Prompts {
								got := r.prompt(res, p.IDs, p.RefGreedy, p.RefMargins, l)
								if i == 0 {
									res.compare(got, readNPY(t, filepath.Join(dir, "lora", base, p.RefLogits)), r.m.Info().VocabRows, true)
								}
							}
							t.Logf("oracle: %s/%s + %s%s, %s: %v", base, model, c.Key, ext, name, res)
							res.check(t, l)
						})
					}
				}
			}
		}
	}
}

func TestOracleAdaptersOnQuantised(t *testing.T) {
	dir := oracle.Dir(t)
	for _, base := range []string{"llama-tied", "qwen2"} {
		var want struct {
			Cases []struct {
				File       string    `json:"base_file"`
				Adapter    string    `json:"adapter"`
				Scale      float32   `json:"scale"`
				IDs        []int32   `json:"ids"`
				RefGreedy  []int32   `json:"ref_greedy"`
				RefMargins []float64 `json:"ref_margins"`
				RefLogits  string    `json:"ref_logits"`
			} `json:"cases"`
		}
		readJSON(t, filepath.Join(dir, "lora", base, "oracle_quant_base.json"), &want)
		for name, o := range precisions() {
			for _, c := range want.Cases {
				t.Run(c.File+"/"+c.Adapter+"/"+name, func(t *testing.T) {
					l := limitsFor(base, name, true)
					if name == "fast" {
						l.relRMS, l.cosine = 0.1, 0
					}
					r, w := openRunner(t, filepath.Join(dir, "models", base, c.File), o)
					r.use(w, filepath.Join(dir, "lora", base, c.Adapter), c.Scale)
					res := &result{cosine: 1}
					got := r.prompt(res, c.IDs, c.RefGreedy, c.RefMargins, l)
					res.compare(got, readNPY(t, filepath.Join(dir, "lora", base, c.RefLogits)), r.m.Info().VocabRows, true)
					t.Logf("oracle: %s + %s, %s: %v", c.File, c.Adapter, name, res)
					res.check(t, l)
				})
			}
		}
	}
}

func readJSON(t *testing.T, path string, v any) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, v); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}

func readNPY(t *testing.T, path string) []float32 {
	t.Helper()
	return oracle.NPY(t, path)
}
