package transformer

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/lora"
	"edged/test/oracle"
)

// notServed are the folders of the reference that are refused today. A folder that is served must go from here: the list
// only shrinks.
var notServed = []string{
	// It changes the base by a decomposition that PEFT draws anew whenever it loads it.
	"init-pissa_niter_4",
}

// TestOraclePEFT: what PEFT saves is served with PEFT's logits, or refused by a sentence of ours; never anything else.
func TestOraclePEFT(t *testing.T) {
	dir := oracle.Dir(t)
	folders, err := os.ReadDir(oracle.Path(t, dir, "adapters", "peft"))
	if err != nil {
		t.Fatal(err)
	}
	right := 0
	for _, f := range folders {
		t.Run(f.Name(), func(t *testing.T) {
			base := filepath.Join(dir, "adapters", "peft", f.Name())
			var want struct {
				Base    string         `json:"base"`
				Prompts []oraclePrompt `json:"prompts"`
			}
			readJSON(t, filepath.Join(base, "hf.json"), &want)
			model := filepath.Join(dir, want.Base)
			if strings.HasPrefix(want.Base, "bases/") {
				model = filepath.Join(dir, "adapters", want.Base)
			}
			r, w := openRunner(t, model, precisions()["exact"])
			a, err := lora.Open(filepath.Join(base, "adapter"), w)
			refused := slices.Contains(notServed, f.Name())
			switch {
			case err != nil && !refused:
				t.Fatal(err)
			case err != nil:
				if !errors.Is(err, lora.ErrUnsupported) && !errors.Is(err, lora.ErrInvalid) && !errors.Is(err, lora.ErrMismatch) || strings.Contains(err.Error(), "\n") {
					t.Errorf("refused by %q: no sentence of ours", err)
				}
				t.Log(err)
				return
			}
			if err := a.Close(); err != nil {
				t.Fatal(err)
			}
			r.use(w, filepath.Join(base, "adapter"), 1)
			r.invocation = a.Invocation
			l := limits{maxAbs: 0.016, margin: 0.008, stop: true}
			if strings.Contains(want.Base, "gpt2") {
				l.maxAbs, l.margin = 0.02, 0.02
			}
			res := r.behind(want.Prompts, base, l)
			t.Logf("oracle: %s: %v", f.Name(), res)
			res.check(t, l)
			if refused && !t.Failed() {
				t.Error("it is served and right: take it from the list of what is not")
			}
			right++
		})
	}
	t.Logf("%d of %d folders are served", right, len(folders))
}

// behind compares prompts behind the virtual tokens of the adapters, of whose positions the reference says nothing.
func (r *runner) behind(prompts []oraclePrompt, dir string, l limits) *result {
	r.t.Helper()
	res := &result{cosine: 1}
	vocab := r.m.Info().VocabRows
	last := readNPY(r.t, filepath.Join(dir, "hf.ref.last.npy"))
	var virtual []int32
	for _, u := range r.uses {
		for range u.Adapter.Virtual() {
			virtual = append(virtual, int32(-1-len(virtual)))
		}
	}
	for i, p := range prompts {
		r.from = lora.ActiveFrom(r.invocation, len(p.IDs), func(i int) int32 { return p.IDs[i] })
		got := r.prompt(res, slices.Concat(virtual, p.IDs), p.RefGreedy, p.RefMargins, l)[len(virtual)*vocab:]
		if i == 0 {
			res.compare(got, readNPY(r.t, filepath.Join(dir, "hf.ref.p0.npy")), vocab, true)
		}
		res.compare(got[len(got)-vocab:], last[i*vocab:(i+1)*vocab], vocab, false)
	}
	return res
}

// TestPEFTKindsTogether: rows with adapters of different kinds in one batch have the bits that each has alone, on a folder, on NF4
// and on a file in 4 bits; and each kind changes something there.
func TestPEFTKindsTogether(t *testing.T) {
	dir, made := oracle.Dir(t), madeKinds(t)
	for _, c := range []struct{ base, precision string }{
		{"models/llama-tied/hf", "exact"}, {"models/llama-tied/hf", "fast"}, {"nf4/llama-tied-nf4-dq", "fast"}, {"models/llama-tied/llama-tied-Q4_K_M.gguf", "fast"},
	} {
		t.Run(c.base+" "+c.precision, func(t *testing.T) {
			r, w := openRunner(t, filepath.Join(dir, filepath.FromSlash(c.base)), precisions()[c.precision])
			var names []string
			for _, kind := range kindsTogether {
				names = append(names, kind)
				r.use(w, filepath.Join(dir, "adapters", "peft", kind, "adapter"), 1)
			}
			for _, path := range made {
				names = append(names, filepath.Base(path))
				r.use(w, path, 1)
			}
			vocab, ids := r.m.Info().VocabRows, []int32{59, 192, 274, 241, 404}
			bare, seq := (&runner{t: t, m: r.m}).logits(ids)
			seq.Free()
			var tokens [][]int32
			var alone [][]float32
			longest := 0
			for i, u := range r.uses {
				var text []int32
				for v := range u.Adapter.Virtual() {
					text = append(text, int32(-1-v))
				}
				text = append(text, ids...)
				one := &runner{t: t, m: r.m, uses: r.uses[i : i+1]}
				got, seq := one.logits(text)
				seq.Free()
				tokens, alone, longest = append(tokens, text), append(alone, got), max(longest, len(text))
				if slices.Equal(got[len(got)-vocab:], bare[len(bare)-vocab:]) {
					t.Errorf("%s changes nothing", names[i])
				}
			}
			const most = 10 // a batch's, as many as there are pages for
			for lo := 0; lo < len(r.uses); lo += most {
				hi := min(lo+most, len(r.uses))
				seqs, got := make([]*Seq, len(r.uses)), make([][]float32, len(r.uses))
				for i := lo; i < hi; i++ {
					seqs[i], got[i] = r.m.NewSeq(), make([]float32, len(tokens[i])*vocab)
				}
				for p := range longest {
					var rows []Row
					for i := lo; i < hi; i++ {
						if p < len(tokens[i]) {
							rows = append(rows, Row{Seq: seqs[i], Token: tokens[i][p], Adapters: r.uses[i : i+1], Logits: got[i][p*vocab : (p+1)*vocab]})
						}
					}
					if err := r.m.Forward(rows); err != nil {
						t.Fatal(err)
					}
				}
				for i := lo; i < hi; i++ {
					if !slices.Equal(got[i], alone[i]) {
						t.Errorf("%s: other logits beside other kinds", names[i])
					}
					seqs[i].Free()
				}
			}
		})
	}
}

// kindsTogether are folders of one base and of different kinds.
var kindsTogether = []string{
	"lora-plain", "hra", "ia3", "loha", "miss-bat", "vera-noproj", "lokr", "vblora", "lora-bd", "fourierft", "waveft", "x-road",
	"ln-tuning", "mts-norm", "prefix", "cpt", "adaption-prompt", "dora-embed", "tokens-list",
}

// TestPEFTOnGGUF: what PEFT trained on a folder has PEFT's logits on the GGUF file that was made of it, whose queries and keys
// stand in another order.
func TestPEFTOnGGUF(t *testing.T) {
	dir := oracle.Dir(t)
	r, w := openRunner(t, filepath.Join(dir, "models", "llama-tied", "llama-tied-F16.gguf"), precisions()["exact"])
	for _, kind := range kindsTogether {
		t.Run(kind, func(t *testing.T) {
			base := filepath.Join(dir, "adapters", "peft", kind)
			var want struct {
				Prompts []oraclePrompt `json:"prompts"`
			}
			readJSON(t, filepath.Join(base, "hf.json"), &want)
			one := &runner{t: t, m: r.m}
			one.use(w, filepath.Join(base, "adapter"), 1)
			l := limits{maxAbs: 0.016, margin: 0.008, stop: true}
			res := one.behind(want.Prompts[:1], base, l)
			t.Logf("oracle: %s: %v", kind, res)
			res.check(t, l)
		})
	}
}
