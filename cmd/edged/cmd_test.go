package main

import (
	"bytes"
	"strings"
	"testing"

	"edged/cmd/edged/cli"
)

// command runs a command line and returns what it wrote and its exit code.
func command(t *testing.T, in string, args ...string) (out, errs string, code int) {
	t.Helper()
	var o, e bytes.Buffer
	code = cli.Execute(t.Context(), cli.Streams{In: strings.NewReader(in), Out: &o, Err: &e}, args, root)
	return o.String(), e.String(), code
}

func TestExitCodes(t *testing.T) {
	missing := t.TempDir() + "/none"
	for _, c := range []struct {
		args string
		code int
		says string
	}{
		{"", 0, ""},
		{"version", 0, ""},
		{"version --json", 0, ""},
		{"generate --help", 0, ""},
		{"nonsense", 2, "unknown command"},
		{"generate --nonsense", 2, "unknown flag"},
		{"generate --max-tokens x", 2, "max-tokens"},
		{"generate", 2, "--prompt"},
		{"generate --prompt a --ids 1", 2, "give one of"},
		{"generate --prompt a", 2, "--model is missing"},
		{"generate --ids 1,x --model m", 2, `"x" is not a token id`},
		{"generate --ids -1 --model m", 2, "not a token id"},
		{"generate --ids 1 --chat --model m", 2, "--chat"},
		{"generate --prompt a --output xml --model m", 2, `"xml" is none of text, ids, json`},
		{"generate --prompt a --temperature -1 --model m", 2, "temperature"},
		{"generate --prompt a --seed -1 --model m", 2, "--seed"},
		{"generate --prompt a --logit-bias 5 --model m", 2, "ID=BIAS"},
		{"generate --prompt a --precision exact --kv f16 --model m", 2, "contradicts"},
		{"generate --prompt a --model " + missing, 1, "no such file"},
		{"generate --prompt a --model . --adapter x=y", 2, "not a scale"},
		{"generate --prompt a --model . --adapter " + missing, 1, "no such file"},
		{"tokenize --model m", 2, "give one of"},
		{"tokenize text", 2, "--model is missing"},
		{"tokenize --model m --batch x --pieces", 2, "pieces"},
		{"tokenize --model m --ids --pieces text", 2, "ids pieces"},
		{"detokenize --model m", 2, "give one of"},
		{"detokenize 1,2", 2, "--model is missing"},
		{"detokenize --model m 1,x", 2, "\"x\" is not a token id"},
		{"render --input x", 2, "--model or --template"},
		{"render --template x", 2, "--input"},
		{"render --template x --ids --input y", 2, "--ids needs --model"},
		{"render --template " + missing + " --input y", 1, "no such file"},
		{"score --model m", 2, "--file"},
		{"generate --prompt a --model m --num-beams 65", 2, "num_beams"},
		{"generate --prompt a --model m --early-stopping soon", 2, "true, false, never"},
		{"embed --model m", 2, "--batch is missing"},
		{"embed --model m --batch x --pooling odd", 2, "mean, cls, last"},
		{"rerank --model m", 2, "--batch is missing"},
		{"rerank --batch x", 2, "--model is missing"},
		{"rerank --model m --batch x --adapter y", 2, "--adapter"},
		{"fill --model m", 2, "--batch is missing"},
		{"fill --model m --batch x --top 0", 2, "--top"},
		{"quantize a b", 2, "--type is missing"},
		{"quantize a b --type q9", 2, "Q4_K_M"},
		{"quantize a --type q4_0", 2, "2 arg"},
		{"quantize a b --type q4_0 --tensor-type x", 2, "PATTERN=TYPE"},
		{"quantize a b --type q4_0 --tensor-type x=iq2_xs", 2, "types that are written"},
		{"quantize " + missing + " b --type q4_0", 1, "no such file"},
		{"quantize . b --type q4_0", 1, "is a folder"},
		{"ask --var a=b text", 2, "belongs to --prompt-name"},
		{"ask --prompt-name x --var a text", 2, "is not NAME=VALUE"},
		{"ask --prompt-name x --var a=1 --var a=2 text", 2, "given twice"},
		{"ask --prompt-name a/b text", 2, "--prompt-name"},
		{"ask --node @ text", 2, "--node"},
		{"ask --node a@b text", 2, "with @ before it for a group"},
		{"ask --model /a/b.gguf text", 2, "not a path"},
		{"status --node @house", 2, "name one of its nodes"},
		{"models --node @house", 2, "name one of its nodes"},
		{"adapters --node @house", 2, "name one of its nodes"},
		{"run --config " + missing, 1, missing},
		{"check --config " + missing, 1, ""},
		{"adapters remove ..", 2, "cannot be the name"},
		{"run extra", 2, "extra"},
	} {
		t.Run(c.args, func(t *testing.T) {
			_, errs, code := command(t, "", strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(errs, c.says) {
				t.Errorf("code %d, want %d; stderr %q, want %q in it", code, c.code, errs, c.says)
			}
			if code == 1 && strings.Count(errs, "\n") > 1 {
				t.Errorf("more than one sentence: %q", errs)
			}
		})
	}
}
