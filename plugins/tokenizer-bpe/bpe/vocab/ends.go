package vocab

import "slices"

// turnEnds are texts of tokens that end a turn, the likeliest first; the first that a vocabulary has is its
// EOT where the file names none. Source: llama.cpp, src/llama-vocab.cpp.
func turnEnds() []string {
	return []string{
		"<|eot_id|>", "<|im_end|>", "<|end|>", "<end_of_turn>", "<|endoftext|>", "<|end_of_text|>", "<EOT>", "_<EOT>", "[EOT]",
		"<\uFF5Cend\u2581of\u2581sentence\uFF5C>", "<end_of_utterance>",
	}
}

// generationEnds are texts of tokens after which nothing of an answer comes. The list's source is the same.
func generationEnds() []string {
	return []string{
		"<|eot_id|>",
		"<|im_end|>",
		"<|end|>",
		"<|return|>",
		"<|call|>",
		"<|flush|>",
		"<|calls|>",
		"<end_of_turn>",
		"<|endoftext|>",
		"</s>",
		"<|eom_id|>",
		"<EOT>",
		"_<EOT>",
		"[EOT]",
		"[EOS]",
		"<|end_of_text|>",
		"<end_of_utterance>",
		"<eos>",
		"<turn|>",
		"<|tool_response>",
		"<\uFF5Cend\u2581of\u2581sentence\uFF5C>",
		"[e~[",
		// fill-in-the-middle: padding, next repository, next file
		"<|fim_pad|>",
		"<fim-pad>",
		"<fim_pad>",
		"<PAD>",
		"[PAD]",
		"<|fim_repo|>",
		"<|repo_name|>",
		"<fim-repo>",
		"<REPO>",
		"<reponame>",
		"<|file_sep|>",
	}
}

// otherMarks are control tokens by their text that are no end.
func otherMarks() []string {
	return []string{
		"<|fim_prefix|>",
		"<fim-prefix>",
		"<fim_prefix>",
		"<\uFF5Cfim\u2581begin\uFF5C>",
		"<PRE>",
		"\u2581<PRE>",
		"<|code_prefix|>",
		"<|prefix|>",
		"<|fim_suffix|>",
		"<fim-suffix>",
		"<fim_suffix>",
		"<\uFF5Cfim\u2581hole\uFF5C>",
		"<SUF>",
		"\u2581<SUF>",
		"<|code_suffix|>",
		"<|suffix|>",
		"<|fim_middle|>",
		"<fim-middle>",
		"<fim_middle>",
		"<\uFF5Cfim\u2581end\uFF5C>",
		"<MID>",
		"\u2581<MID>",
		"<|code_middle|>",
		"<|middle|>",
	}
}

// Ends are the tokens that end a turn or an answer.
type Ends struct {
	EOT int32   // ends a turn; -1: there is none
	EOG []int32 // after these nothing of an answer comes
}

// FindEnds finds the tokens that end generation, by the ids that the file names (eos, eot, eom; -1 where it
// names none) and by the texts that published models use. It changes types: a token with such a text becomes
// a control token, whatever the file calls it, since many files call it text. In a WordPiece vocabulary [PAD]
// ends nothing.
func FindEnds(text []string, types []Type, eos, eot, eom int32, wordPiece bool) Ends {
	e := Ends{EOT: eot}
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
		if !types[id].IsSpecial() {
			types[id] = Control
		}
	}
	if e.EOT < 0 {
		for _, s := range turnEnds() {
			if has(s) {
				e.EOT = ids[s]
				mark(e.EOT)
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
			e.EOG = append(e.EOG, ids[s])
		}
	}
	for _, id := range []int32{eos, e.EOT, eom} {
		if id >= 0 {
			e.EOG = append(e.EOG, id)
		}
	}
	drop := func(s string, k Type) {
		types[ids[s]] = k
		e.EOG = slices.DeleteFunc(e.EOG, func(id int32) bool { return id == ids[s] })
	}
	// In these families <|end|> ends a channel, not the answer, and the marks between channels are shown.
	if has("<|end|>") && (has("<|return|>") && has("<|call|>") || has("<|flush|>") && (has("<|call|>") || has("<|calls|>"))) {
		drop("<|end|>", UserDefined)
	}
	for _, s := range []string{"<|channel|>", "<|message|>", "<|start|>", "<|constrain|>"} {
		if has(s) {
			types[ids[s]] = UserDefined
		}
	}
	// Gemma 4's </s> is a mark of HTML.
	if has("<|tool_response>") && has("</s>") {
		drop("</s>", Normal)
	}
	return e
}
