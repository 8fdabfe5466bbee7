package weights

import (
	"fmt"
	"path/filepath"

	"edged/core/model/arch/families"
	"edged/core/model/arch/keys"
	"edged/core/model/hfjson"
	"edged/core/model/mmap"
)

// Names of the JSON files of a Hugging Face folder.
const (
	configName     = "config.json"
	generationName = "generation_config.json"
)

func readJSON(path string, v any) error {
	if err := hfjson.Read(path, v); err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	return nil
}

// readConfig reads config.json of dir, and what it and generation_config.json say about the end of a text.
// Source of the fields: transformers, models/*/configuration_*.py.
func (b *builder) readConfig(dir string) (map[string]any, error) {
	config := map[string]any{}
	if err := readJSON(filepath.Join(dir, configName), &config); err != nil {
		return nil, err
	}
	k := keys.Config(config, nil)
	name := families.ModelType(config)
	if b.m.Name = k.String("|_name_or_path"); b.m.Name == "" {
		abs, err := filepath.Abs(dir)
		if err != nil {
			return nil, fmt.Errorf("weights: %w", err)
		}
		b.m.Name = filepath.Base(abs)
	}
	var err error
	if b.scheme, err = b.readScheme(config); err != nil {
		return nil, err
	}
	if err := k.Err(); err != nil {
		return nil, fmt.Errorf("weights: %s: %w", b.m.Path, err)
	}
	if name == "" {
		return nil, b.fail(ErrInvalid, "config.json has no model_type")
	}
	if b.m.family = families.Find(name); b.m.family == nil {
		return nil, b.unsupportedArch(name)
	}
	return config, b.stopTokens(k, dir)
}

func (b *builder) stopTokens(k *keys.Keys, dir string) error {
	m := b.m
	m.BOS, m.EOS = -1, -1
	if ids := k.IDs("|bos_token_id"); len(ids) > 0 {
		m.BOS = ids[0]
	}
	ids := k.IDs("|eos_token_id")
	if len(ids) > 0 {
		m.EOS = ids[0]
	}
	if err := k.Err(); err != nil {
		return fmt.Errorf("weights: %s: %w", m.Path, err)
	}
	generation := map[string]any{}
	err := readJSON(filepath.Join(dir, generationName), &generation)
	if err != nil && !mmap.Absent(err) {
		return err
	}
	g := keys.Config(generation, nil)
	ids = append(ids, g.IDs("|eos_token_id")...)
	if err := g.Err(); err != nil {
		return fmt.Errorf("weights: %s: %s: %w", m.Path, generationName, err)
	}
	for _, id := range ids {
		m.addEOG(id)
	}
	if m.EOS < 0 && len(m.EOG) > 0 {
		m.EOS = m.EOG[0]
	}
	return nil
}
