package transformer

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"edged/core/model/weights"
	"edged/test/oracle"
)

// familyInfo is what families.json says about a reference model.
type familyInfo struct {
	GELU    bool           `json:"gelu"`
	Steps   map[string]int `json:"judged_steps"` // by prompt, where not all of its continuation is well defined
	Experts bool           `json:"-"`
}

// TestFamilies holds every family against transformers' logits and greedy choices, in both containers: precision exact within the
// tolerances for float32, precision fast within those for activations of 8 bits.
func TestFamilies(t *testing.T) {
	dir := filepath.Join(oracle.Dir(t), "families")
	var infos map[string]familyInfo
	readJSON(t, filepath.Join(dir, "families.json"), &infos)
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		name := e.Name()
		folder := folderOf(t, dir, name)
		info := infos[name]
		files, err := filepath.Glob(filepath.Join(dir, name, "*.gguf"))
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range append([]string{folder}, files...) {
			stem := filepath.Join(dir, name, "oracle", "hf")
			if path != folder {
				stem = filepath.Join(dir, name, "oracle", strings.TrimSuffix(filepath.Base(path), ".gguf"))
			}
			for precision, o := range precisions() {
				t.Run(name+"/"+filepath.Base(path)+"/"+precision, func(t *testing.T) {
					r, w := openRunner(t, path, o)
					info.Experts = r.m.net.mixture
					l := familyLimits(&info, precision, quantised(w))
					if filepath.Base(path) == "falcon_h1-F16.gguf" && precision == "exact" {
						l.maxAbs = 0.008 // its weights are the folder's times factors, rounded to float16; the reference is the folder's
					}
					res := r.family(stem, &info, l)
					t.Logf("oracle: %s/%s, %s: %v", name, filepath.Base(path), precision, res)
				})
			}
		}
	}
}

// folderOf is the Hugging Face folder of a reference model. Where only its configuration is spelt in another way, weights and
// tokenizer are those of the folder that WEIGHTS names.
func folderOf(t *testing.T, dir, name string) string {
	folder := filepath.Join(dir, name, "hf")
	text, err := os.ReadFile(filepath.Join(folder, "WEIGHTS"))
	if err != nil {
		return folder
	}
	words := strings.Fields(string(text)) // "model.safetensors is that of FOLDER"
	base := filepath.Join(folder, words[len(words)-1])
	out := filepath.Join(t.TempDir(), name)
	if err := os.Mkdir(out, 0o750); err != nil {
		t.Fatal(err)
	}
	for _, from := range []string{base, folder} {
		all, err := os.ReadDir(from)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range all {
			to := filepath.Join(out, e.Name())
			_ = os.Remove(to)
			if err := os.Symlink(filepath.Join(from, e.Name()), to); err != nil {
				t.Fatal(err)
			}
		}
	}
	return out
}

// quantised reports whether any matrix of a model is in blocks.
func quantised(w *weights.Model) bool {
	return slices.ContainsFunc(w.Names(), func(name string) bool {
		m := w.Matrix(name)
		return m != nil && m.Format.BlockSize() > 1
	})
}

// familyLimits are the columns of ../shared/oracle/README.md: float32 for exact, 8 bits for fast.
func familyLimits(info *familyInfo, precision string, quantised bool) limits {
	if precision == "fast" {
		l := limits{relRMS: 0.08, cosine: 0.995, margin: 2, stop: true}
		if !quantised { // only keys and values are rounded
			l.margin = 0.1
		}
		if info.Experts { // 8 bits flip the choice of the last expert
			l.cosine, l.most = 0, 0.6
		}
		return l
	}
	l := limits{maxAbs: 2e-3, margin: 0.004, stop: true}
	if quantised {
		l.maxAbs = 5e-3
	}
	if info.GELU {
		l.maxAbs, l.margin = 0.02, 0.02
	}
	return l
}

// familyPrompt is one prompt of a reference.
type familyPrompt struct {
	IDs        []int32      `json:"ids"`
	RefGreedy  []int32      `json:"ref_greedy"`
	RefMargins []float64    `json:"ref_margins"`
	RefTop     [][2]float64 `json:"ref_last_top20"` // id, logit
	Greedy     []int32      `json:"greedy"`
	Margins    []float64    `json:"margins"`
	Top        [][2]float64 `json:"last_top20"`
}

// family compares a model with its reference: logits of prompt 0 and of each prompt's last position, and the greedy continuation,
// up to the first step whose margin is too narrow to be judged.
func (r *runner) family(stem string, info *familyInfo, l limits) *result {
	r.t.Helper()
	var want struct {
		Prompts []familyPrompt `json:"prompts"`
	}
	readJSON(r.t, stem+".json", &want)
	res := &result{cosine: 1}
	vocab := r.m.Info().VocabRows
	var p0 []float32
	if _, err := os.Stat(stem + ".ref.p0.npy"); err == nil {
		p0 = readNPY(r.t, stem+".ref.p0.npy")
	}
	for i, p := range want.Prompts {
		choices, margins, top := p.RefGreedy, p.RefMargins, p.RefTop
		if choices == nil { // llama.cpp's own reading of the file
			choices, margins, top = p.Greedy, p.Margins, p.Top
			l.maxAbs, l.margin = 0.08, 0.1 // it rounds activations to float16
		}
		if n, ok := info.Steps[string(rune('0'+i))]; ok {
			choices, margins = choices[:n], margins[:n]
		}
		got := r.prompt(res, p.IDs, choices, margins, l)
		if i == 0 && p0 != nil {
			res.compare(got, p0, vocab, true)
		}
		last := got[len(got)-vocab:]
		for _, x := range top {
			if e := math.Abs(float64(last[int(x[0])]) - x[1]); !(e <= res.maxAbs) {
				res.maxAbs = e
			}
		}
	}
	if !res.whole {
		l.relRMS, l.cosine, l.most = 0, 0, 0
	}
	res.bad = res.bad[:min(len(res.bad), 3)] // of a wrong model nearly all are
	if res.steps == 0 {
		r.t.Error("nothing was compared")
	}
	res.check(r.t, l)
	return res
}
