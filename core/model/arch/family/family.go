// Package family says what is to be known of a model family beyond the Spec of one model: the names by which
// containers call it, how its modules are called in a Hugging Face folder and in a GGUF file, and what
// llama.cpp's converter does to its tensors. It also holds the pieces that many families share, above all
// Llama, the network that most decoders vary.
//
// It knows none of the families themselves: see package families. A Family does not change once it is made,
// and may be read concurrently.
package family

import (
	"slices"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/arch/keys"
)

// Family is a kind of model, as a folder's model_type or a file's general.architecture names it. Its tensors
// have the names that GGUF gives them, with the exceptions of Renamed; a folder's are translated by Modules.
// Read makes the Spec of one model of it.
type Family struct {
	Names []string // model_type and general.architecture; the first is what it is called
	// GGUF is the architecture under which llama.cpp's converter writes it; "": its first name.
	GGUF    string
	Modules Modules
	Base    string // what names of a model saved without its head lack; "": "model."
	// Ignored are Hugging Face tensors that follow from the configuration, by the end of their name.
	Ignored []string
	// Drafted is the prefix of the names of a folder's tensors that guess further tokens: they change no
	// answer. "": none.
	Drafted string
	// Settings are modules, by their names here, whose few values are read as hyper-parameters and not as tensors.
	Settings []string
	// Renamed are modules of a layer that have another name in GGUF files than here.
	Renamed map[string]string
	// Permuted says that llama.cpp's converter puts the rows of q and k pair by pair.
	Permuted bool
	// Folded says that it multiplies factors of the configuration into matrices, so that what was trained on
	// a folder fits no GGUF file.
	Folded bool
	// Tiled says that it puts a delta net's value heads tile by tile, see ByHead.
	Tiled bool
	// Spec reads the network out of a container; what every family has in common, Read adds.
	Spec func(k *keys.Keys) arch.Spec
}

// Read makes the Spec of a model of this family and proves it. Errors wrap ErrInvalid or ErrUnsupported and
// name the file's own key.
func (f *Family) Read(k *keys.Keys) (*arch.Spec, error) {
	s := f.Spec(k)
	if k.Err() != nil {
		return nil, k.Err()
	}
	if s.Family == "" {
		s.Family = f.Names[0]
	}
	if s.Kind != arch.Encoder {
		s.Pool = arch.Pool{Kind: k.DecoderPool(), Normalize: true}
	}
	if s.Kind == arch.Decoder {
		s.Score = k.Answers(s.Width)
	}
	s.Vocab = k.Vocab()
	if s.Encoder != nil {
		s.Encoder.Vocab, s.Encoder.Family = k.Vocab(), s.Family
	}
	if k.Err() != nil {
		return nil, k.Err()
	}
	s.Context = max(s.Context, k.Reach())
	s.Permuted, s.Folded = f.Permuted && k.IsGGUF(), f.Folded && k.IsGGUF()
	if err := s.Check(); err != nil {
		return nil, err
	}
	return &s, nil
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
	pattern, _ := arch.SplitNumbers(strings.TrimSuffix(name, ".weight"))
	return slices.Contains(f.Settings, pattern)
}
