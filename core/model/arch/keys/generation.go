package keys

import (
	"math"

	"edged/core/model/arch"
)

// ReadGeneration reads generation_config.json, and config.json for the start token where that has none. The
// zero Keys of a file that is not there are allowed. Errors are those of Keys.
func ReadGeneration(generation, config *Keys) (arch.Generation, error) {
	k := generation
	g := arch.Generation{
		Start: -1, EOS: k.IDs("|eos_token_id"), MaxLength: k.IntOr("|max_length", 0), MaxNew: k.IntOr("|max_new_tokens", 0),
		MinLength: k.IntOr("|min_length", 0), MinNew: k.IntOr("|min_new_tokens", 0),
		Beams: k.IntOr("|num_beams", 1), LengthPenalty: k.FloatOr("|length_penalty", 1),
		NoRepeat: k.IntOr("|no_repeat_ngram_size", 0), EncoderNoRepeat: k.IntOr("|encoder_no_repeat_ngram_size", 0),
		Repetition: k.FloatOr("|repetition_penalty", 1), EncoderRepetition: k.FloatOr("|encoder_repetition_penalty", 1),
		BadWords: k.words("|bad_words_ids"), ForcedBOS: -1, ForcedEOS: k.IDs("|forced_eos_token_id"),
		Suppress: k.IDs("|suppress_tokens"), BeginSuppress: k.IDs("|begin_suppress_tokens"), Renormalize: k.Bool("|renormalize_logits", false),
	}
	if ids := append(k.IDs("|decoder_start_token_id"), config.IDs("decoder_start_token_id|decoder_start_token_id")...); len(ids) > 0 {
		g.Start = ids[0]
	}
	if ids := k.IDs("|forced_bos_token_id"); len(ids) > 0 {
		g.ForcedBOS = ids[0]
	}
	switch v, name, _ := k.Value("|early_stopping"); v {
	case nil, false:
	case true:
		g.Early = arch.EarlyTrue
	case "never":
		g.Early = arch.EarlyNever
	default:
		k.wrong(name, v, `true, false or "never"`)
	}
	if k.err != nil {
		return g, k.err
	}
	if config.err != nil {
		return g, config.err
	}
	for _, p := range []float64{g.Repetition, g.EncoderRepetition} {
		if !(p > 0) || math.IsInf(p, 0) {
			k.Invalid("a repetition penalty of %g: want a positive number", p)
		}
	}
	if g.LengthPenalty-g.LengthPenalty != 0 || g.Beams < 1 || g.Beams > arch.MaxBeams {
		k.Invalid("num_beams is %d and length_penalty %g: want 1 to %d and a number", g.Beams, g.LengthPenalty, arch.MaxBeams)
	}
	return g, k.err
}

// words reads a list of lists of token ids.
func (k *Keys) words(names string) [][]int32 {
	v, name, ok := k.Value(names)
	if k.err != nil || !ok {
		return nil
	}
	list, ok := v.([]any)
	if !ok {
		k.wrong(name, v, "a list of lists of token ids")
		return nil
	}
	var out [][]int32
	for _, e := range list {
		word, ok := e.([]any)
		if !ok || len(word) == 0 {
			k.wrong(name, e, "a list of token ids")
			return nil
		}
		var ids []int32
		for _, id := range word {
			ids = append(ids, int32(k.toInt(name, id)))
		}
		out = append(out, ids)
	}
	return out
}
