// Package hfjson reads the small JSON files that stand beside the weights of a Hugging Face folder, as Python
// writes them.
//
// It must not know what they say. Read may be called concurrently.
package hfjson

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"edged/core/model/arch"
	"edged/core/model/mmap"
)

// limit bounds config.json and its like; real ones have a few kilobytes.
const limit = 1 << 20

// Read reads a small JSON file into v, numbers as json.Number where v does not say. Errors wrap arch.ErrInvalid.
func Read(path string, v any) error {
	info, err := os.Stat(path)
	if err != nil {
		return mmap.Explain(path, err)
	}
	if info.Size() > limit {
		return fmt.Errorf("%s: %w: %d bytes, more than the %d allowed", path, arch.ErrInvalid, info.Size(), limit)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	for _, mark := range []string{"\xEF\xBB\xBF", "\xFF\xFE", "\xFE\xFF"} { // of UTF-8 and UTF-16: editors on Windows write them
		if bytes.HasPrefix(data, []byte(mark)) {
			return fmt.Errorf(
				"%s: %w: it begins with a byte order mark, which JSON does not allow: save it as UTF-8 without one",
				path,
				arch.ErrInvalid,
			)
		}
	}
	dec := json.NewDecoder(bytes.NewReader(quoted(data)))
	dec.UseNumber()
	if err := dec.Decode(v); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return fmt.Errorf("%s: %w: its JSON is cut off", path, arch.ErrInvalid)
		}
		return fmt.Errorf("%s: %w: %w", path, arch.ErrInvalid, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return fmt.Errorf("%s: %w: text follows the JSON object", path, arch.ErrInvalid)
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
