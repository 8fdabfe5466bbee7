package bpe

import "slices"

// turnEnds are texts of tokens that end a turn, the likeliest first; the first that a vocabulary has is its EOT where the
// file names none. Source: llama.cpp, src/llama-vocab.cpp.
func turnEnds() []string {
	return []string{
		"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]",
		"<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "<end_of_utterance>",
	}
}

// generationEnds are texts of tokens after which nothing of an answer comes. The list's source is the same.
func generationEnds() []string {
	return []string{
		"<|eot_id|>", "<|im_end|>", "<|end|>", "<|return|>", "<|call|>", "<|flush|>", "<|calls|>", "<end_of_turn>", "<|endoftext|>", "</s>",
		"<|eom_id|>", "<EOT>", "_<EOT>", "[EOT]", "[EOS]", "<|end_of_text|>", "<end_of_utterance>", "<eos>", "<turn|>", "<|tool_response>",
		"<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "[e~[",
		// fill-in-the-middle: padding, next repository, next file
		"<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]", "<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>", "<|file_sep|>",
	}
}

// otherMarks are control tokens by their text that are no end.
func otherMarks() []string {
	return []string{
		"<|fim_prefix|>", "<fim-prefix>", "<fim_prefix>", "<\uFF5Cfim\u2581begin\uFF5C>", "<PRE>", "\u2581<PRE>", "<|code_prefix|>", "<|prefix|>",
		"<|fim_suffix|>", "<fim-suffix>", "<fim_suffix>", "<\uFF5Cfim\u2581hole\uFF5C>", "<SUF>", "\u2581<SUF>", "<|code_suffix|>", "<|suffix|>",
		"<|fim_middle|>", "<fim-middle>", "<fim_middle>", "<\uFF5Cfim\u2581end\uFF5C>", "<MID>", "\u2581<MID>", "<|code_middle|>", "<|middle|>",
	}
}

// ends are the tokens that end a turn or an answer.
type ends struct {
	eot int32   // ends a turn; -1: there is none
	eog []int32 // after these nothing of an answer comes
}

// findEnds finds the tokens that end generation, and gives the type of control tokens to tokens that look like some, whatever the file
// calls them: many files call them text. eos, eot and eom are the ids that the file names, -1 where it names none. In a wordPiece
// vocabulary [PAD] ends nothing.
func findEnds(text []string, kinds []kind, eos, eot, eom int32, wordPiece bool) ends {
	e := ends{eot: eot}
	ids := map[string]int32{}
	for _, list := range [][]string{turnEnds(), generationEnds(), otherMarks(), {"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"}} {
		for _, s := range list {
			ids[s] = -1
		}
	}
	for id, s := range text {
		if at, ok := ids[s]; ok && at < 0 {
			ids[s] = int32(id)
		}
	}
	has := func(s string) bool { return ids[s] >= 0 }
	mark := func(id int32) {
		if !kinds[id].special() {
			kinds[id] = control
		}
	}
	if e.eot < 0 {
		for _, s := range turnEnds() {
			if has(s) {
				e.eot = ids[s]
				mark(e.eot)
				break
			}
		}
	}
	for _, s := range otherMarks() {
		if has(s) {
			mark(ids[s])
		}
	}
	for _, s := range generationEnds() {
		if has(s) && !(wordPiece && s == "[PAD]") {
			mark(ids[s])
			e.eog = append(e.eog, ids[s])
		}
	}
	for _, id := range []int32{eos, e.eot, eom} {
		if id >= 0 {
			e.eog = append(e.eog, id)
		}
	}
	drop := func(s string, k kind) {
		kinds[ids[s]] = k
		e.eog = slices.DeleteFunc(e.eog, func(id int32) bool { return id == ids[s] })
	}
	// In these families <|end|> ends a channel, not the answer, and the marks between channels are shown.
	if has("<|end|>") && (has("<|return|>") && has("<|call|>") || has("<|flush|>") && (has("<|call|>") || has("<|calls|>"))) {
		drop("<|end|>", userDefined)
	}
	for _, s := range []string{"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"} {
		if has(s) {
			kinds[ids[s]] = userDefined
		}
	}
	// Gemma 4's </s> is a mark of HTML.
	if has("<|tool_response>") && has("</s>") {
		drop("</s>", normal)
	}
	return e
}
