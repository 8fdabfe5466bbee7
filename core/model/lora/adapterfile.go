package lora

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"edged/core/model/digest"
	"edged/core/model/lora/kinds"
	"edged/core/model/mmap"
	"edged/core/model/safetensors"
	"edged/quant"
)

const (
	maxRank = kinds.MaxRank
	// maxVirtual bounds the virtual tokens of a soft prompt: published ones have 8 to 100.
	maxVirtual = 1 << 12
)

// Kind is the kind of an adapter, such as LoRA.
type Kind string

// The kinds. An adapter of which one module is DoRA is of that kind. Other kinds of PEFT have its peft_type
// in small letters: "loha".
const (
	KindLoRA   Kind = "lora"
	KindDoRA   Kind = "dora"
	KindPrompt Kind = "soft_prompt"
)

// Header holds the properties of an adapter that its files tell without the model.
type Header struct {
	Path    string
	Kind    Kind
	Virtual int      // virtual tokens of a soft prompt
	Rank    int      // the largest of its modules'; 0: a soft prompt
	Targets []string // module names in Hugging Face's words, sorted
	Modules int      // matrices that it changes; a GPT-2 c_attn and a stack of experts count once
	Bytes   int64    // of its tensors
	Base    string   // what it says it was trained on, "" where it does not: base_model_name_or_path, general.base_model.0.name
	Arch    string   // of the base, "" where it does not say (PEFT)
}

// ReadHeader reads and checks an adapter's configuration and tensor names, shapes and types: all that can be
// checked without the model. Of LoRA and soft prompts tensor data is not read.
func ReadHeader(path string) (*Header, error) {
	f, err := readAdapter(path, nil)
	if err != nil {
		return nil, err
	}
	h := &Header{
		Path: path, Kind: f.kind(), Virtual: f.prompt.rows + f.prefix.rows, Rank: f.rank(), Targets: f.targets(), Modules: len(f.loras), Bytes: f.bytes(), Base: f.base, Arch: f.arch,
	}
	return h, f.close()
}

// Files lists the files that an adapter is made of, sorted by name: the two of a PEFT folder, or the GGUF file, whose
// name is always adapter.gguf so that renaming a drop changes no hash. The files need not be valid, but must be there.
func Files(path string) ([]digest.File, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("lora: %w", err)
	}
	if !info.IsDir() {
		return []digest.File{{Name: "adapter.gguf", Path: path}}, nil
	}
	var files []digest.File
	for _, name := range []string{adapterConfigName, adapterModelName} {
		file := filepath.Join(path, name)
		if _, err := os.Stat(file); err != nil {
			if link, ok := errors.AsType[*mmap.DanglingLinkError](mmap.Explain(file, err)); ok {
				return nil, fmt.Errorf("lora: %w", link)
			}
			if name == adapterModelName && exists(filepath.Join(path, "adapter_model.bin")) {
				return nil, adapterError(path, ErrUnsupported, "adapter_model.bin is a Python pickle, which can run code when it is read: load it with PEFT and save it with save_pretrained(…, safe_serialization=True), which writes %s", adapterModelName)
			}
			if in := checkpoint(path); in != "" {
				return nil, adapterError(path, ErrInvalid, "%s is missing, but %s has one: that is the folder of the adapter", name, in)
			}
			return nil, adapterError(path, ErrInvalid, "%s is missing: a PEFT folder holds %s and %s", name, adapterConfigName, adapterModelName)
		}
		files = append(files, digest.File{Name: name, Path: file})
	}
	return files, nil
}

// maxListed bounds how much of a folder is looked at for a hint.
const maxListed = 1 << 10

// checkpoint names the latest folder that a trainer left in dir with an adapter in it; "": none.
func checkpoint(dir string) string {
	d, err := os.Open(dir)
	if err != nil {
		return ""
	}
	defer d.Close()                       //nolint:errcheck // opened for reading: nothing to lose
	names, _ := d.Readdirnames(maxListed) // an empty folder has none
	latest, at := "", -1
	for _, name := range names {
		step, ok := strings.CutPrefix(name, "checkpoint-")
		n, err := strconv.Atoi(step)
		if ok && err == nil && n > at && exists(filepath.Join(dir, name, adapterConfigName)) {
			latest, at = name, n
		}
	}
	return latest
}

// An adapterFile is an adapter as its container has it.
type adapterFile struct {
	gguf       bool
	model      Base // that it is to be proved against, for messages; nil: none is open
	base       string
	arch       string
	other      Kind // of package kinds; "": LoRA or a prompt
	loras      []rawDelta
	prompt     rawTensor // a soft prompt (virtual tokens, width); no rows: none
	copies     []baseCopy
	saved      []savedTensor
	prefix     rawTensor                                 // of prefix tuning (virtual tokens, all of a token's keys and values); no rows: none
	adaption   map[string]map[string]*safetensors.Tensor // of adaption prompts, by module and part
	kinds      *kinds.Reader                             // that reads them
	invocation []int32
	tokens     []trainedTokens
	largest    kinds.Size // of the matrices that it changes, once the model is known
	notes      []string
	files      []digest.File
	maps       []*mmap.Mapping
}

// A baseCopy is a weight of the base that is saved with an adapter.
type baseCopy struct {
	trained bool // modules_to_save names it: it takes the base's place
	module  string
	t       rawTensor
}

// maxNotes bounds what is said about one adapter.
const maxNotes = 8

// note keeps what is passed over.
func (f *adapterFile) note(format string, args ...any) {
	if len(f.notes) < maxNotes {
		f.notes = append(f.notes, fmt.Sprintf(format, args...))
	}
}

// A rawDelta is one module. Its shapes agree with each other; nothing is known of the base.
type rawDelta struct {
	module  string // Hugging Face name without prefix, or GGUF tensor name
	target  string // last part of the Hugging Face name
	embed   bool   // of an embedding: A has a column for each token, or, in GGUF, a row
	a, b    rawTensor
	size    rawTensor // DoRA's magnitudes (out, 1); no rows: plain LoRA
	bias    rawTensor // (out, 1), what it is says how; no rows: none
	how     biasKind
	experts int // of how many experts' matrices it is; 0: of one matrix
	first   int // row of the fused matrix that B begins at
	scale   float64
	olora   bool          // A and B stand beside what OLoRA leaves of the base
	made    *kinds.Change // computed when the matrix that it is for is known; nil: a and b are as the file has them
}

// A biasKind is what the bias of a module does to the product.
type biasKind uint8

const (
	biasAdded biasKind = iota // it is added, times the module's scaling
	biasWhole                 // it replaces the base's
	biasGain                  // the base's is multiplied by it
)

// rank is the number of columns of B, which all containers agree on; 0 where the change has no low rank.
func (l *rawDelta) rank() int {
	if l.made != nil && l.made.Dense {
		return 0
	}
	return l.b.cols
}

// A rawTensor is (rows, cols) in the container's bytes.
type rawTensor struct {
	name       string
	format     quant.Format
	rows, cols int
	data       []byte
}

func (t *rawTensor) matrix(name string) *quant.Matrix {
	return &quant.Matrix{Name: name, Format: t.format, Rows: t.rows, Cols: t.cols, Data: t.data}
}

// column returns the values of a tensor of one column.
func (t *rawTensor) column() []float32 {
	out, m := make([]float32, t.rows), t.matrix(t.name)
	m.Rows, m.Cols = 1, t.rows
	quant.Row(out, m, 0)
	return out
}

// readAdapter reads either container. m is the model that it is for, where one is open: what is refused is
// named beside the model's own then. The caller closes it, or takes its maps over.
func readAdapter(path string, m Base) (*adapterFile, error) {
	files, err := Files(path)
	if err != nil {
		return nil, err
	}
	f := &adapterFile{files: files, model: m}
	if files[0].Name == adapterConfigName {
		err = f.readPEFT(path)
	} else {
		f.gguf = true
		err = f.readGGUF(path)
	}
	if err == nil && len(f.loras) == 0 && f.prompt.rows == 0 && len(f.tokens) == 0 && f.prefix.rows == 0 && len(f.saved) == 0 && len(f.adaption) == 0 {
		err = adapterError(path, ErrInvalid, "it has no tensors of an adapter, such as lora_A and lora_B or prompt_embeddings")
	}
	if err != nil {
		return nil, errors.Join(err, f.close())
	}
	return f, nil
}

func (f *adapterFile) close() error {
	var errs []error
	for _, m := range f.maps {
		errs = append(errs, m.Close())
	}
	return errors.Join(errs...)
}

// A half is what one tensor of an adapter is to its module.
type half uint8

const (
	halfA half = iota
	halfB
	halfSize  // DoRA's magnitudes
	halfBias  // that of lora_B
	halfTrain // the base's own bias, trained
	halves
)

// parts are the tensors of one module, as far as the file has them; rows are 0 where it has not.
type parts struct {
	t       [halves]rawTensor
	embed   bool
	experts int // of how many experts the factors are; 0: of a linear layer
}

// pairUp joins the tensors of each module, in the order of module names.
func (f *adapterFile) pairUp(path string, modules map[string]*parts) error {
	for _, m := range slices.Sorted(maps.Keys(modules)) {
		p := modules[m]
		a, b, size := &p.t[halfA], &p.t[halfB], &p.t[halfSize]
		bias, how := &p.t[halfBias], biasAdded
		if trained := &p.t[halfTrain]; trained.rows > 0 {
			if bias.rows > 0 {
				return adapterError(path, ErrUnsupported, "tensors %s and %s are two biases of one module; train one of them", bias.name, trained.name)
			}
			bias, how = trained, biasWhole
		}
		rank := a.rows
		if p.embed && f.gguf {
			rank = a.cols
		}
		switch {
		case a.rows == 0 && b.rows == 0 && bias.rows > 0:
			return adapterError(path, ErrUnsupported, "tensor %s (%d): the trained bias of a module without LoRA%s; train with bias \"lora_only\" or \"none\"", bias.name, bias.rows, f.beside(bias.name))
		case bias.rows > 0 && (size.rows > 0 || p.embed):
			return adapterError(path, ErrUnsupported, "tensor %s (%d): a trained bias beside DoRA or of an embedding; train with bias \"none\"", bias.name, bias.rows)
		case bias.rows > 0 && bias.rows != b.rows:
			return adapterError(path, ErrInvalid, "tensor %s has %d values, but %s is (%d, %d)", bias.name, bias.rows, b.name, b.rows, b.cols)
		case a.rows == 0 && b.rows == 0:
			return adapterError(path, ErrInvalid, "tensor %s has no A and B beside it", size.name)
		case a.rows == 0:
			return adapterError(path, ErrInvalid, "tensor %s has no A beside it", b.name)
		case b.rows == 0:
			return adapterError(path, ErrInvalid, "tensor %s has no B beside it", a.name)
		case rank != b.cols:
			return adapterError(path, ErrInvalid, "tensors %s (%d, %d) and %s (%d, %d) are of different ranks", a.name, a.rows, a.cols, b.name, b.rows, b.cols)
		case rank > maxRank*max(p.experts, 1):
			return adapterError(path, ErrInvalid, "tensor %s has rank %d, more than the %d allowed", a.name, rank, maxRank)
		case size.rows > 0 && size.rows != b.rows:
			return adapterError(path, ErrInvalid, "tensor %s has %d magnitudes, but %s is (%d, %d)", size.name, size.rows, b.name, b.rows, b.cols)
		}
		f.loras = append(f.loras, rawDelta{module: m, target: lastWord(m), embed: p.embed, a: *a, b: *b, size: *size, bias: *bias, how: how, experts: p.experts})
	}
	return nil
}

// lastWord is the last part of a dotted name.
func lastWord(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

func (f *adapterFile) kind() Kind {
	switch {
	case f.prompt.rows > 0:
		return KindPrompt
	case f.other != "":
		return f.other
	case slices.ContainsFunc(f.loras, func(l rawDelta) bool { return l.size.rows > 0 }):
		return KindDoRA
	default:
		return KindLoRA
	}
}

func (f *adapterFile) rank() int {
	r := 0
	for i := range f.loras {
		r = max(r, f.loras[i].rank())
	}
	return r
}

func (f *adapterFile) targets() []string {
	var out []string
	for i := range f.loras {
		out = append(out, f.loras[i].target)
	}
	for i := range f.tokens {
		out = append(out, lastWord(f.tokens[i].module))
	}
	for i := range f.saved {
		out = append(out, lastWord(f.saved[i].module))
	}
	for module := range f.adaption {
		out = append(out, lastWord(module))
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func (f *adapterFile) bytes() int64 {
	n := int64(len(f.prompt.data)) + int64(len(f.prefix.data))
	for i := range f.saved {
		n += int64(len(f.saved[i].t.Data))
	}
	for _, parts := range f.adaption {
		for _, t := range parts {
			n += int64(len(t.Data))
		}
	}
	for i := range f.tokens {
		n += int64(len(f.tokens[i].rows.data))
	}
	for i := range f.loras {
		l := &f.loras[i]
		n += int64(len(l.a.data)) + int64(len(l.b.data)) + int64(len(l.size.data))
		if l.made != nil && l.a.data == nil && l.b.data == nil {
			n += 4 * (int64(l.a.rows)*int64(l.a.cols) + int64(l.b.rows)*int64(l.b.cols))
		}
	}
	return n
}
