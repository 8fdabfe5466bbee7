package weights

import (
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"edged/core/model/arch"
	"edged/core/model/arch/keys"
)

// generation reads how answers are drawn: of a folder generation_config.json, or without one what config.json
// says, as transformers takes it. k are the model's own keys, dir the folder; "": a GGUF file, which tells
// the start token only.
func (b *builder) generation(k *keys.Keys, config map[string]any, dir string) error {
	if b.m.Spec.Kind != arch.EncoderDecoder {
		return nil
	}
	from := map[string]any{}
	if dir != "" {
		if err := readJSON(filepath.Join(dir, generationName), &from); errors.Is(err, fs.ErrNotExist) {
			from = config
		} else if err != nil {
			return err
		}
	}
	g, err := keys.ReadGeneration(keys.Config(from, nil), k)
	if err != nil {
		return fmt.Errorf("weights: %s: %s: %w", b.m.Path, generationName, err)
	}
	if len(g.EOS) == 0 {
		g.EOS = b.m.EOG
	}
	if vocab := int32(b.m.Spec.Vocab); g.Start < 0 || g.Start >= vocab {
		return b.fail(ErrInvalid, "decoder_start_token_id is %d: want a token of the model's %d", g.Start, vocab)
	}
	b.m.Generation = g
	return nil
}
