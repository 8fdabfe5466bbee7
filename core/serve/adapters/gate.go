package adapters

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
)

// Gate is a test that a new generation has to pass: it may not predict some text worse than the generation
// that it is to replace. The first generation of a name has nothing to be held against, and passes.
type Gate struct {
	// Path of a .jsonl or text file, or of a folder that holds NAME.jsonl or NAME.txt for some names. "": no gate.
	Path string
	// Margin by which the perplexity may be higher: 0.05 is 5 %.
	Margin float64
}

// Sample is one piece of text whose Reference is scored: after a conversation, after a plain prompt, or from its own
// beginning.
type Sample struct {
	Messages  json.RawMessage `json:"messages"` // as a request has them
	Prompt    string          `json:"prompt"`
	Reference string          `json:"reference"`
}

// Limits of a gate's file: scoring takes as long as reading a prompt of its length, and twice per drop.
const (
	maxGateBytes   = 1 << 20
	maxGateSamples = 1000
)

// file returns the path of the gate of a name; "" if it has none.
func (g *Gate) file(name string) string {
	if info, err := os.Stat(g.Path); g.Path == "" || err != nil || !info.IsDir() {
		return g.Path // one that is not there is said so when it is read
	}
	for _, ext := range []string{".jsonl", ".txt"} {
		file := filepath.Join(g.Path, name+ext)
		if _, err := os.Stat(file); !errors.Is(err, fs.ErrNotExist) {
			return file
		}
	}
	return ""
}

// readGate reads a gate's file: one JSON object a line with "reference" and "prompt" or "messages" in a
// .jsonl file (other fields are left alone), plain text in any other.
func readGate(path string) ([]Sample, error) {
	file, size, err := openRegular(path)
	if err != nil {
		return nil, err
	}
	defer file.Close() //nolint:errcheck // opened for reading: nothing to lose
	if size > maxGateBytes {
		return nil, fmt.Errorf("%s has %d bytes, more than the %d of a gate", path, size, maxGateBytes)
	}
	data, err := io.ReadAll(io.LimitReader(file, maxGateBytes))
	if err != nil {
		return nil, err
	}
	samples, err := parseGate(data, strings.EqualFold(filepath.Ext(path), ".jsonl"))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return samples, nil
}

func parseGate(data []byte, lines bool) ([]Sample, error) {
	if !lines {
		if len(bytes.TrimSpace(data)) == 0 {
			return nil, errors.New("it is empty")
		}
		return []Sample{{Reference: string(data)}}, nil
	}
	var samples []Sample
	scanner := bufio.NewScanner(bytes.NewReader(data))
	scanner.Buffer(nil, maxGateBytes+1)
	for n := 1; scanner.Scan(); n++ {
		line := bytes.TrimSpace(scanner.Bytes())
		if len(line) == 0 {
			continue
		}
		var s Sample
		if err := json.Unmarshal(line, &s); err != nil {
			return nil, fmt.Errorf("line %d: %w", n, err)
		}
		switch {
		case s.Reference == "":
			return nil, fmt.Errorf("line %d has no \"reference\"", n)
		case s.Prompt != "" && s.Messages != nil:
			return nil, fmt.Errorf("line %d has \"prompt\" and \"messages\": one of them is meant", n)
		case len(samples) == maxGateSamples:
			return nil, fmt.Errorf("it has more than %d samples", maxGateSamples)
		}
		samples = append(samples, s)
	}
	if len(samples) == 0 && scanner.Err() == nil {
		return nil, errors.New("it has no sample")
	}
	return samples, scanner.Err()
}

// score is a content's perplexity over a gate.
type score struct {
	file, print string
	perplexity  float64
}

// passGate holds a loaded content against the generation that it is to replace.
func (f *Folder) passGate(ctx context.Context, e *entry, c *content, loaded string, p Prover, life uint64) error {
	file := f.o.Gate.file(e.name)
	f.mu.Lock()
	old := e.current
	if file == "" || old == nil || old.content == c {
		f.mu.Unlock()
		return nil
	}
	pin := f.pin(old)
	f.mu.Unlock()
	defer pin.Release()
	samples, err := readGate(file)
	if err != nil {
		return fmt.Errorf("adapters.gate: %w", err)
	}
	id, err := pin.Use(ctx, p, life)
	if err != nil {
		return err
	}
	before, err := f.perplexity(ctx, p, id, pin.g.content, file, samples)
	if err != nil {
		return fmt.Errorf("adapters.gate: generation %d: %w", pin.g.number, err)
	}
	after, err := f.perplexity(ctx, p, loaded, c, file, samples)
	if err != nil {
		return fmt.Errorf("adapters.gate: %w", err)
	}
	if !(after <= before*(1+f.o.Gate.Margin)) { // a NaN does not pass
		return fmt.Errorf("adapters.gate: its perplexity on %s is %.4g, and that of generation %d, which stays, is %.4g; up to %.4g would pass",
			filepath.Base(file), after, pin.g.number, before, before*(1+f.o.Gate.Margin))
	}
	f.log.InfoContext(ctx, "adapter passed the gate", "adapter", e.name, "perplexity", after, "perplexity_before", before)
	return nil
}

// perplexity scores a loaded content. The latest score of each content that is served is remembered: the next
// drop is held against it.
func (f *Folder) perplexity(ctx context.Context, p Prover, id string, c *content, file string, samples []Sample) (float64, error) {
	print := ""
	if info, err := os.Stat(file); err == nil {
		print = fmt.Sprint(info.Size(), info.ModTime().UnixNano())
	}
	if s, ok := f.scores[c.sha256]; ok && s.file == file && s.print == print {
		return s.perplexity, nil
	}
	nats, tokens, err := p.Score(ctx, id, samples)
	if err == nil && tokens == 0 {
		err = fmt.Errorf("%s has no token to score", file)
	}
	if err != nil {
		return 0, err
	}
	f.mu.Lock()
	for sum := range f.scores {
		if f.contents[sum] == nil {
			delete(f.scores, sum)
		}
	}
	f.mu.Unlock()
	s := score{file, print, math.Exp(nats / float64(tokens))}
	f.scores[c.sha256] = s
	return s.perplexity, nil
}
