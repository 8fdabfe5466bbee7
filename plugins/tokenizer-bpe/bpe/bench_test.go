package bpe_test

import (
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"edged/core/model/gguf"
	"edged/plugins/tokenizer-bpe/bpe"
	"edged/plugins/tokenizer-bpe/bpe/ggufvocab"
	"edged/test/oracle"
)

// prose is ordinary text in a few languages, with code.
func prose() string {
	return strings.Repeat(`In 1913 the river flooded; 467 people died — and the engineers, who'd warned "it's coming", built five dams.
The quick brown fox doesn't jump over 12345 lazy dogs; naïve façade, coöperation. Das Wasser stieg über Nacht um 3,5 Meter.
水位が上がった。Вода поднялась. ارتفع الماء 🌊🌊

	def warn(level: float) -> bool:
		return level >= 3.5e0  # metres

People who live near rivers have always known that water rises; what changes is how many of them there are, and how much
they have built. A dam is a promise about the largest flood that will come, made by people who have not seen it.
`, 200)
}

// variety is text of many words that hardly repeat: the oracle's cases, one after the other.
func variety(tb testing.TB) string {
	tb.Helper()
	var b strings.Builder
	for _, name := range []string{"qwen2", "llama-spm", "bert-bge"} {
		for _, c := range readCases(tb, filepath.Join(oracle.Dir(tb), "tokenizer", "cases", name+".jsonl")) {
			if c.BytesHex == "" {
				b.WriteString(c.Text)
			}
		}
	}
	return b.String()
}

func BenchmarkEncode(b *testing.B) {
	for kind, text := range map[string]string{"prose": prose(), "variety": variety(b)} {
		b.Run(kind, func(b *testing.B) { benchmarkEncode(b, text) })
	}
}

func benchmarkEncode(b *testing.B, text string) {
	b.Helper()
	for _, name := range []string{"qwen2", "llama-bpe", "gpt-2", "llama-spm", "bert-bge"} {
		b.Run(name, func(b *testing.B) {
			tok := loadGGUF(b, vocabFile(b, name))
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			var ids []int32
			for b.Loop() {
				var err error
				if ids, err = tok.Encode(ids[:0], text, bpe.Options{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkLoad: time and memory of a vocabulary of 150 000 tokens.
func BenchmarkLoad(b *testing.B) {
	for _, name := range []string{"qwen2", "llama-bpe", "llama-spm"} {
		b.Run(name, func(b *testing.B) {
			path := vocabFile(b, name)
			f, err := gguf.Open(path)
			if err != nil {
				b.Fatal(err)
			}
			defer f.Close()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			var tok *bpe.Tokenizer
			for b.Loop() {
				if tok, err = ggufvocab.Read(path, f); err != nil {
					b.Fatal(err)
				}
			}
			runtime.GC()
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MB-held")
			runtime.KeepAlive(tok)
		})
	}
}

// TestHostileTexts: a megabyte of anything takes less than a second, also as one word.
func TestHostileTexts(t *testing.T) {
	for _, name := range []string{"qwen2", "llama-bpe", "gpt-2", "llama-spm", "bert-bge"} {
		tok := loadGGUF(t, vocabFile(t, name))
		units := []string{"a", " ", "\n", "😀"}
		if name == "qwen2" || name == "llama-spm" {
			units = append(units, "1", "ab", "\u0301", "字", " a", "<|im_end|>", "<|im_", "\x00", "é", "Z̷")
		}
		for _, unit := range units {
			text := strings.Repeat(unit, 1<<20/len(unit))
			start := time.Now()
			ids, err := tok.Encode(nil, text, bpe.Options{ParseSpecial: true, AddSpecial: true})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			if testing.Verbose() {
				t.Logf("%-10s %-12q %8d ids %v", name, unit, len(ids), took)
			}
			if took > time.Minute { // 0.3 s on a quiet machine; slow emulators pass too, quadratic time would not
				t.Errorf("%s: 1 MB of %q took %v", name, unit, took)
			}
		}
	}
}
