package huggingface

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"edged/plugins/tokenizer-bpe/bpe/sentencepiece"
	"edged/plugins/tokenizer-bpe/bpe/split"
	"edged/plugins/tokenizer-bpe/bpe/tokenizerjson"
	"edged/plugins/tokenizer-bpe/bpe/transformers"
	"edged/plugins/tokenizer-bpe/bpe/vocab"
)

// rankedTokens are the tokens of a tiktoken file by rank.
type rankedTokens []string

// parseTiktoken reads a tiktoken file: lines of a token in base64 and its rank.
func parseTiktoken(data []byte) (rankedTokens, error) {
	var out rankedTokens
	seen := 0
	for line := range bytes.Lines(data) {
		line = bytes.TrimSpace(line)
		if len(line) == 0 {
			continue
		}
		text, number, ok := bytes.Cut(line, []byte(" "))
		rank, err := strconv.ParseInt(string(bytes.TrimSpace(number)), 10, 32)
		token, err2 := base64.StdEncoding.DecodeString(string(text))
		if !ok || err != nil || err2 != nil || rank < 0 || rank >= vocab.MaxTokens || len(token) == 0 {
			return nil, fmt.Errorf("line %d is not a token in base64 and its rank", seen+1)
		}
		if len(token) > sentencepiece.MaxPiece {
			return nil, fmt.Errorf("the token of rank %d has %d bytes: at most %d are supported", rank, len(token), sentencepiece.MaxPiece)
		}
		for int64(len(out)) <= rank {
			out = append(out, "")
		}
		out[rank] = string(token)
		seen++
	}
	if seen == 0 || len(out) > 2*seen+1024 {
		return nil, errors.New("it holds no list of tokens and ranks")
	}
	return out, nil
}

// file puts the tokens into the form of a tokenizer.json: ids start at first, words that are tokens are not merged. Two
// parts of a token merge with the token's rank; of parts that make one token the leftmost merge first where even is set
// (as tiktoken does it), else those whose left part has the lower rank (as transformers writes it).
func (r rankedTokens) file(first int, pattern string, even bool) (*tokenizerjson.File, error) {
	chars := vocab.NewByteChars()
	written := make([]string, len(r))
	ids := make(map[string]int, len(r))
	for rank, s := range r {
		if s != "" {
			written[rank] = string(chars.Encode(nil, s))
			ids[s] = rank
		}
	}
	f := &tokenizerjson.File{}
	m := &f.Model
	m.Type, m.IgnoreMerges = "BPE", true
	m.Vocab = tokenizerjson.Vocab{Texts: append(make([]string, first), written...), Count: first + len(ids)}
	for rank, s := range r {
		if ids[s] != rank || s == "" {
			continue
		}
		from := len(m.Merges.Pairs)
		type pair struct{ left, right int }
		var parts []pair
		for i := 1; i < len(s); i++ {
			l, ok := ids[s[:i]]
			right, ok2 := ids[s[i:]]
			if ok && ok2 {
				parts = append(parts, pair{l, right})
			}
		}
		slices.SortFunc(parts, func(a, b pair) int {
			return cmp.Or(cmp.Compare(a.left, b.left), cmp.Compare(a.right, b.right))
		})
		for _, p := range parts {
			m.Merges.Pairs = append(m.Merges.Pairs, [2]string{written[p.left], written[p.right]})
			if even {
				m.Merges.Ranks = append(m.Merges.Ranks, uint32(from))
			}
		}
		if len(m.Merges.Pairs) > vocab.MaxMerges {
			return nil, fmt.Errorf("its tokens have more than the %d merges that are supported", vocab.MaxMerges)
		}
	}
	for _, part := range []struct {
		to  *json.RawMessage
		own any
	}{
		{&f.PreTokenizer, tokenizerjson.PreTokenizers(tokenizerjson.Object{"type": "Split", "pattern": tokenizerjson.Object{"Regex": pattern}, "behavior": "Isolated", "invert": false}, tokenizerjson.ByteLevel(false, false))},
		{&f.Decoder, tokenizerjson.ByteLevel(false, false)},
	} {
		raw, err := json.Marshal(part.own)
		if err != nil {
			return nil, err
		}
		*part.to = raw
	}
	return f, nil
}

// tiktokenFile reads a tiktoken file as transformers does: with Llama 3's pattern, whatever the tokens were made with.
func tiktokenFile(data []byte, c *transformers.Config) (*tokenizerjson.File, error) {
	tokens, err := parseTiktoken(data)
	if err != nil {
		return nil, err
	}
	f, err := tokens.file(0, split.PatternLlama3, false)
	if err != nil {
		return nil, err
	}
	// Tokens that tokenizer_config.json adds have their places after the file's, and gaps between them are filled.
	top := int64(-1)
	for id := range c.AddedTokensDecoder {
		top = max(top, id)
	}
	if top > int64(len(tokens))+vocab.MaxTokens {
		return nil, fmt.Errorf("added_tokens_decoder has the id %d, with %d tokens in the file", top, len(tokens))
	}
	for id := int64(len(tokens)); id <= top; id++ {
		t := tokenizerjson.AddedToken{ID: id, Content: fmt.Sprintf("<|reserved_token_%d|>", id), Special: true}
		if given, ok := c.AddedTokensDecoder[id]; ok {
			t.Content = given.Content
		}
		f.Added = append(f.Added, t)
	}
	return f, nil
}

// tekkenJSON is Mistral's tekken.json.
type tekkenJSON struct {
	Vocab []struct {
		Bytes string `json:"token_bytes"`
	} `json:"vocab"`
	Special []struct {
		Rank int64  `json:"rank"`
		Text string `json:"token_str"`
	} `json:"special_tokens"`
	Config struct {
		Pattern string `json:"pattern"`
		Size    *int   `json:"default_vocab_size"`
		Special *int   `json:"default_num_special_tokens"`
	} `json:"config"`
}

// oldTekkenSpecials are the special tokens of files that do not list theirs. Source: mistral-common 1.13.
func oldTekkenSpecials() []string {
	return []string{
		"<unk>",
		"<s>",
		"</s>",
		"[INST]",
		"[/INST]",
		"[AVAILABLE_TOOLS]",
		"[/AVAILABLE_TOOLS]",
		"[TOOL_RESULTS]",
		"[/TOOL_RESULTS]",
		"[TOOL_CALLS]",
		"[IMG]",
		"<pad>",
		"[IMG_BREAK]",
		"[IMG_END]",
		"[PREFIX]",
		"[MIDDLE]",
		"[SUFFIX]",
		"[SYSTEM_PROMPT]",
		"[/SYSTEM_PROMPT]",
		"[TOOL_CONTENT]",
	}
}

// tekkenFile reads a tekken.json as mistral-common does: special tokens come first, and the others' ids follow.
func tekkenFile(data []byte) (*tokenizerjson.File, error) {
	var t tekkenJSON
	if err := json.Unmarshal(tokenizerjson.TrimBOM(data), &t); err != nil {
		return nil, err
	}
	specials := oldTekkenSpecials()
	if t.Special != nil {
		specials = make([]string, len(t.Special))
		for _, s := range t.Special {
			if s.Rank < 0 || s.Rank >= int64(len(specials)) || specials[s.Rank] != "" {
				return nil, errors.New("special_tokens: the ranks do not go from 0 on, each once")
			}
			specials[s.Rank] = s.Text
		}
	}
	n := len(specials)
	if t.Config.Special != nil {
		n = *t.Config.Special
	}
	size := n + len(t.Vocab)
	if t.Config.Size != nil {
		size = *t.Config.Size
	}
	switch {
	case n < len(specials) || n > vocab.MaxTokens:
		return nil, fmt.Errorf("config.default_num_special_tokens is %d, with %d special tokens", n, len(specials))
	case size < n || size-n > len(t.Vocab) || size > vocab.MaxTokens:
		return nil, fmt.Errorf("config.default_vocab_size is %d, with %d tokens and %d special ones", size, len(t.Vocab), n)
	}
	for i := len(specials); i < n; i++ {
		specials = append(specials, fmt.Sprintf("<SPECIAL_%d>", i))
	}
	tokens := make(rankedTokens, size-n)
	for rank := range tokens {
		b, err := base64.StdEncoding.DecodeString(t.Vocab[rank].Bytes)
		if err != nil || len(b) == 0 || len(b) > sentencepiece.MaxPiece {
			return nil, fmt.Errorf("vocab[%d]: token_bytes are not one to %d bytes in base64", rank, sentencepiece.MaxPiece)
		}
		tokens[rank] = string(b)
	}
	f, err := tokens.file(n, t.Config.Pattern, true)
	if err != nil {
		return nil, err
	}
	for id, s := range specials {
		f.Model.Vocab.Texts[id] = s
		f.Added = append(f.Added, tokenizerjson.AddedToken{ID: int64(id), Content: s, Special: true})
	}
	return f, nil
}
