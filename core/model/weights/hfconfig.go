package weights

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"edged/core/model/arch"
	"edged/core/model/mmap"
)

// Names of the JSON files of a Hugging Face folder.
const (
	configName     = "config.json"
	generationName = "generation_config.json"
)

// maxConfig bounds config.json and its like; real ones have a few kilobytes.
const maxConfig = 1 << 20

// readJSON reads a small JSON file into v.
func readJSON(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return fmt.Errorf("weights: %w", mmap.Explain(path, err))
	}
	if info.Size() > maxConfig {
		return fmt.Errorf("weights: %s: %w: %d bytes, more than the %d allowed", path, ErrInvalid, info.Size(), maxConfig)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("weights: %w", err)
	}
	for _, mark := range []string{"\xEF\xBB\xBF", "\xFF\xFE", "\xFE\xFF"} { // of UTF-8 and UTF-16: editors on Windows write them
		if bytes.HasPrefix(data, []byte(mark)) {
			return fmt.Errorf("weights: %s: %w: it begins with a byte order mark, which JSON does not allow: save it as UTF-8 without one", path, ErrInvalid)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(quoted(data)))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("weights: %s: %w: its JSON is cut off", path, ErrInvalid)
		}
		return fmt.Errorf("weights: %s: %w: %w", path, ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("weights: %s: %w: text follows the JSON object", path, ErrInvalid)
	}
	return nil
}

// quoted returns JSON in which the bare Infinity and NaN of older transformers stand as transformers 5 writes them:
// {"__float__": "Infinity"}.
func quoted(data []byte) []byte {
	if !bytes.Contains(data, []byte("Infinity")) && !bytes.Contains(data, []byte("NaN")) {
		return data
	}
	var out []byte
	text := false
	for i := 0; i < len(data); i++ {
		if c := data[i]; text {
			if c == '"' {
				text = false
			} else if c == '\\' && i+1 < len(data) {
				out = append(out, c)
				i++
			}
		} else if c == '"' {
			text = true
		} else if word := bareWord(data[i:]); word != "" {
			out = append(out, `{"__float__": "`+word+`"}`...)
			i += len(word) - 1
			continue
		}
		out = append(out, data[i])
	}
	return out
}

func bareWord(data []byte) string {
	for _, word := range []string{"-Infinity", "Infinity", "NaN"} {
		if bytes.HasPrefix(data, []byte(word)) {
			return word
		}
	}
	return ""
}

// readConfig reads config.json of dir, and what it and generation_config.json say about the end of a text. Source of the
// fields: transformers, models/*/configuration_*.py.
func (b *builder) readConfig(dir string) (map[string]any, error) {
	config := map[string]any{}
	if err := readJSON(filepath.Join(dir, configName), &config); err != nil {
		return nil, err
	}
	k := arch.Config(config, nil)
	name := arch.ModelType(config)
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
	if b.m.family = arch.Find(name); b.m.family == nil {
		return nil, b.unsupportedArch(name)
	}
	return config, b.stopTokens(k, dir)
}

func (b *builder) stopTokens(k *arch.Keys, dir string) error {
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
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	g := arch.Config(generation, nil)
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
