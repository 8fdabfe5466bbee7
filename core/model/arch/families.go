package arch

import (
	"slices"
	"strings"
	"sync"
)

// Family is a kind of model, as a folder's model_type or a file's general.architecture names it.
type Family struct {
	Names []string // model_type and general.architecture; the first is what it is called
	// GGUF is the architecture under which llama.cpp's converter writes it; "": its first name.
	GGUF    string
	Modules Modules
	Base    string // what names of a model saved without its head lack; "": "model."
	// Ignored are Hugging Face tensors that follow from the configuration, by the end of their name.
	Ignored []string
	// Drafted is what the names of tensors in a folder begin with that guess further tokens: they change no answer. "": none.
	Drafted string
	// Settings are modules, by their names here, whose few values are read as hyper-parameters and not as tensors.
	Settings []string
	// Renamed are modules of a layer that have another name in GGUF files than here.
	Renamed map[string]string
	// Permuted says that llama.cpp's converter puts the rows of q and k pair by pair.
	Permuted bool
	// Folded says that it multiplies factors of the configuration into matrices, so that what was trained on a folder fits no GGUF file.
	Folded bool
	// Tiled says that it puts a delta net's value heads tile by tile, see ByHead.
	Tiled bool
	read  func(k *Keys) Spec
}

// table is families, made once.
var table = sync.OnceValue(families) //nolint:gochecknoglobals // a table

// families lists them all.
func families() []Family {
	return []Family{
		llama(),
		mistral(),
		qwen2(),
		qwen3(),
		gpt2(),
		mixtral(),
		olmo2(),
		granite(),
		gemma(),
		gemma2(),
		vaultgemma(),
		gemma3(), gemma3n(), gemma4(),
		phi3(),
		phi(),
		smollm3(),
		cohere(),
		cohere2(),
		glm4(),
		glm(),
		stablelm(),
		starcoder2(),
		gptneox(),
		gptj(),
		codegen(),
		falcon(),
		olmo(),
		exaone4(),
		hunyuan(),
		ernie(),
		helium(),
		nemotron(),
		arcee(),
		apertus(),
		seedoss(),
		ministral(),
		mistral3(),
		bloom(),
		mpt(),
		opt(),
		openaigpt(),
		bitnet(),
		cwm(),
		graniteswa(),
		internlm2(),
		minicpm(),
		qwen2moe(), qwen3moe(), olmoe(), phimoe(), ernie45moe(), glm4moe(), minimaxm2(), gptoss(), deepseek(), deepseek2(), granitemoe(),
		lfm2(), lfm2moe(),
		mamba2(),
		qwen35(), qwen35moe(), qwen3next(),
		granitehybrid(), bamba(), falconh1(), nemotronh(), mamba(), falconmamba(), jamba(),
		bert(), roberta(), distilbert(), mpnet(), modernbert(), nomicbert(), eurobert(),
		t5(), mt5(), umt5(), bart(), mbart(), marian(), pegasus(), m2m100(),
	}
}

// Find returns the family of a name, nil where there is none.
func Find(name string) *Family {
	all := table()
	for i := range all {
		if slices.Contains(all[i].Names, name) {
			return &all[i]
		}
	}
	return nil
}

// Names lists the families that are served, for messages.
func Names() string {
	var names []string
	for _, f := range table() {
		names = append(names, f.Names[0])
	}
	return strings.Join(names, ", ")
}

// Stored is the architecture under which llama.cpp's converter writes a family's models and adapters; a name that is not in
// the table stands for itself.
func Stored(name string) string {
	if f := Find(name); f != nil && f.GGUF != "" {
		return f.GGUF
	}
	return name
}

// Skips reports whether a Hugging Face tensor is no weight but a buffer that follows from the configuration.
func (f *Family) Skips(name string) bool {
	for _, end := range append([]string{".rotary_emb.inv_freq"}, f.Ignored...) {
		if strings.HasSuffix(name, end) {
			return true
		}
	}
	return false
}

// FromGGUF is the name here of a GGUF file's tensor.
func (f *Family) FromGGUF(name string) string {
	module, suffix := cutLast(name)
	layer, part := cutLast(module)
	if own := f.Renamed[part]; own != "" {
		return layer + "." + own + "." + suffix
	}
	return name
}

// ToFile is the GGUF file's name of a tensor here.
func (f *Family) ToFile(name string) string {
	module, suffix := cutLast(name)
	layer, part := cutLast(module)
	for theirs, own := range f.Renamed {
		if own == part {
			return layer + "." + theirs + "." + suffix
		}
	}
	return name
}

// cutLast divides a dotted name before its last part.
func cutLast(name string) (rest, last string) {
	i := strings.LastIndexByte(name, '.')
	if i < 0 {
		return "", name
	}
	return name[:i], name[i+1:]
}

// IsSetting reports whether a tensor, by its name here, is one of Settings.
func (f *Family) IsSetting(name string) bool {
	pattern, _ := SplitNumbers(strings.TrimSuffix(name, ".weight"))
	return slices.Contains(f.Settings, pattern)
}

// Read makes the Spec of a model of this family and proves it. Errors wrap ErrInvalid or ErrUnsupported and name the file's own
// key.
func (f *Family) Read(k *Keys) (*Spec, error) {
	s := f.read(k)
	if k.err != nil {
		return nil, k.err
	}
	if s.Family == "" {
		s.Family = f.Names[0]
	}
	if s.Kind != Encoder {
		s.Pool = Pool{Kind: k.decoderPool(), Normalize: true}
	}
	if s.Kind == Decoder {
		s.Score = k.answers(s.Width)
	}
	s.Vocab = k.vocab
	if s.Encoder != nil {
		s.Encoder.Vocab, s.Encoder.Family = k.vocab, s.Family
	}
	if k.err != nil {
		return nil, k.err
	}
	s.Context = max(s.Context, k.reach)
	s.Permuted, s.Folded = f.Permuted && k.gguf != nil, f.Folded && k.gguf != nil
	if err := s.check(); err != nil {
		return nil, err
	}
	return &s, nil
}
