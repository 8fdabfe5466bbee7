// Package pairs makes of a query and a document what a model reads that says how well they fit: a
// cross-encoder both texts with what belongs between them, a decoder the question whether the one fits the
// other, in the form that Qwen3-Reranker was trained with.
//
// It must not know where a request comes from, nor how ids are computed with. An Encoder may be used concurrently.
package pairs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// Limit is how many tokens a text may have before it is cut: what the model's files say, or of an encoder
// without such files its positions. 0: it is not cut.
func Limit(model *backend.ModelInfo, text *tokenizer.Info) int {
	most := text.MaxTokens
	if model.Kind == "encoder" && (most == 0 || most > model.TrainContext) {
		most = model.TrainContext
	}
	return most
}

// Instruct is the default instruction for a decoder that ranks, as Qwen3-Reranker was trained.
const Instruct = "Given a web search query, retrieve relevant passages that answer the query"

// question is the form in which a decoder is asked. The tags in it are words to the model; the control tokens
// are the template's alone. Of the line ends behind it Jinja drops one.
const question = "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct provided. " +
	"Note that the answer can only be \"yes\" or \"no\".<|im_end|>\n<|im_start|>user\n<Instruct>: {{ messages[0].content }}\n" +
	"<Query>: {{ messages[1].content }}\n<Document>: {{ messages[2].content }}<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n\n"

// mark is the control token that a decoder must have which is asked in this form.
const mark = "<|im_start|>"

// Encoder makes requests of pairs.
type Encoder struct {
	tok     tokenizer.Tokenizer
	pairs   tokenizer.PairEncoder // of a cross-encoder; nil: a decoder is asked
	limit   int
	yes, no int32
	own     bool   // the files of a decoder say which head or which tokens answer the question
	unfit   string // why it is not asked; "": it is
}

// Error says what of a request, or about its model, cannot be served.
type Error struct {
	Field string // of the request
	Why   string
	Kind  error // protocol.ErrUnsupported or protocol.ErrInvalid
}

func (e *Error) Error() string { return e.Field + ": " + e.Why }

// Unwrap returns the Kind.
func (e *Error) Unwrap() error { return e.Kind }

func unsupported(why string) *Error { return &Error{"model", why, protocol.ErrUnsupported} }

// New returns the Encoder for a model with its tokenizer. The error is an Error for a model that does not
// rank. Of a decoder that was not trained to rank Encode says so; pairs of ids can be ranked by it all the
// same.
func New(ctx context.Context, tok tokenizer.Tokenizer, model *backend.ModelInfo, text *tokenizer.Info) (*Encoder, error) {
	e := &Encoder{tok: tok, limit: Limit(model, text)}
	switch model.Kind {
	case "encoder":
		if !model.Does(backend.TaskRank) {
			return nil, unsupported("it is an encoder without a head that says how well two texts fit")
		}
		p, ok := tok.(tokenizer.PairEncoder)
		if !ok || !text.Pairs {
			return nil, unsupported("the tokenizer's files do not say how it wants two texts")
		}
		e.pairs = p
		return e, nil
	case "encoder-decoder":
		return nil, unsupported("it is an encoder-decoder, which ranks nothing")
	}
	lists, err := tok.Encode(ctx, []string{"yes", "no", mark}, tokenizer.Flags{ParseSpecial: true})
	if err != nil {
		return nil, err
	}
	if len(lists) != 3 || len(lists[0]) == 0 || len(lists[1]) == 0 {
		return nil, errors.New("the tokenizer has no tokens for yes and no")
	}
	e.yes, e.no = lists[0][len(lists[0])-1], lists[1][len(lists[1])-1]
	e.own = model.Does(backend.TaskRank)
	if e.yes == e.no && !e.own {
		return nil, unsupported("yes and no end in the same token of it")
	}
	switch {
	case !trained(model, text):
		e.unfit = "nothing in the files of this decoder says that it was trained to rank: a head or two tokens for it, a chat template with <Query> and " +
			"<Document>, or \"rerank\" in its name"
	case len(lists[2]) != 1:
		e.unfit = "it is a decoder without the token " + mark + ", in whose form it would be asked"
	}
	return e, nil
}

// trained reports whether a decoder's files say that it was trained to rank: by a head or by the tokens of
// its answers (GGUF files with pooling_type 4, the LogitScore of sentence-transformers), by a chat template
// that asks the question, or, where they hold nothing but the language model as those of the first
// Qwen3-Reranker, by its name.
func trained(model *backend.ModelInfo, text *tokenizer.Info) bool {
	asks := strings.Contains(text.ChatTemplate, "<Query>") && strings.Contains(text.ChatTemplate, "<Document>")
	return model.Does(backend.TaskRank) || asks || strings.Contains(strings.ToLower(model.Name), "rerank")
}

// Answers puts the tokens of a decoder's answers into a request, unless its files name its own.
func (e *Encoder) Answers(req *backend.RankRequest) {
	if !e.own {
		req.Yes, req.No = e.yes, e.no
	}
}

// Typed reports whether tokens have types that the model may read.
func (e *Encoder) Typed() bool { return e.pairs != nil }

// Encode makes the request for a query and documents; trusted texts may hold control tokens. instruct is for
// a decoder; "": Instruct.
func (e *Encoder) Encode(ctx context.Context, instruct, query string, documents []string, trusted bool) (backend.RankRequest, error) {
	var req backend.RankRequest
	if e.pairs != nil {
		if instruct != "" {
			return req, &Error{"instruct", "the model is a cross-encoder, which takes none", protocol.ErrInvalid}
		}
		all := make([][2]string, len(documents))
		for i, d := range documents {
			all[i] = [2]string{query, d}
		}
		out, err := e.pairs.EncodePairs(ctx, all, tokenizer.Flags{AddSpecial: true, ParseSpecial: trusted, MaxTokens: e.limit})
		if err != nil {
			return req, err
		}
		for _, p := range out {
			req.Lists, req.Types = append(req.Lists, p.IDs), append(req.Types, p.Types)
		}
		return req, nil
	}
	if e.unfit != "" {
		return req, unsupported(e.unfit)
	}
	e.Answers(&req)
	for _, d := range documents {
		var messages []map[string]string
		for _, text := range []string{cmp.Or(instruct, Instruct), query, d} {
			messages = append(messages, map[string]string{"role": "user", "content": text})
		}
		raw, err := json.Marshal(messages)
		if err != nil {
			return req, err
		}
		out, err := e.tok.EncodeChat(ctx, tokenizer.Chat{Messages: raw, Template: question})
		if err != nil {
			return req, err
		}
		req.Lists = append(req.Lists, out.IDs)
	}
	return req, nil
}
