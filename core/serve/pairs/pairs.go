// Package pairs makes of a query and a document what a model reads that says how well they fit: a cross-encoder both texts with what
// belongs between them, a decoder the question whether the one fits the other, in the form that Qwen3-Reranker was trained with.
//
// It must not know where a request comes from, nor how ids are computed with. An Encoder may be used concurrently.
package pairs

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
)

// Limit is how many tokens a text may have before it is cut: what the model's files say, or of an encoder without such files its
// positions. 0: it is not cut.
func Limit(model *backend.ModelInfo, text *tokenizer.Info) int {
	most := text.MaxTokens
	if model.Kind == "encoder" && (most == 0 || most > model.TrainContext) {
		most = model.TrainContext
	}
	return most
}

// Instruct is what a decoder is told where nothing else is said, as Qwen3-Reranker was trained.
const Instruct = "Given a web search query, retrieve relevant passages that answer the query"

// question is the form in which a decoder is asked. The tags in it are words to the model; the control tokens are the template's alone. Of the
// line ends behind it Jinja drops one.
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
	forms   bool // a decoder knows the form of the question
}

// New returns the Encoder for a model with its tokenizer. The error is protocol.ErrUnsupported for a model that does not rank.
func New(ctx context.Context, tok tokenizer.Tokenizer, model *backend.ModelInfo, text *tokenizer.Info) (*Encoder, error) {
	e := &Encoder{tok: tok, limit: Limit(model, text)}
	switch model.Kind {
	case "encoder":
		if !model.Does(backend.TaskRank) {
			return nil, fmt.Errorf("%w: the model is an encoder without a head that says how well two texts fit", protocol.ErrUnsupported)
		}
		p, ok := tok.(tokenizer.PairEncoder)
		if !ok || !text.Pairs {
			return nil, fmt.Errorf("%w: the tokenizer's files do not say how the model wants two texts", protocol.ErrUnsupported)
		}
		e.pairs = p
		return e, nil
	case "encoder-decoder":
		return nil, fmt.Errorf("%w: the model is an encoder-decoder, which ranks nothing", protocol.ErrUnsupported)
	}
	lists, err := tok.Encode(ctx, []string{"yes", "no", mark}, tokenizer.Flags{ParseSpecial: true})
	if err != nil {
		return nil, err
	}
	if len(lists) != 3 || len(lists[0]) == 0 || len(lists[1]) == 0 {
		return nil, errors.New("the tokenizer has no tokens for yes and no")
	}
	e.yes, e.no = lists[0][len(lists[0])-1], lists[1][len(lists[1])-1]
	e.forms = len(lists[2]) == 1
	if e.yes == e.no {
		return nil, fmt.Errorf("%w: yes and no end in the same token", protocol.ErrUnsupported)
	}
	return e, nil
}

// Answers puts the tokens of a decoder's answers into a request.
func (e *Encoder) Answers(req *backend.RankRequest) { req.Yes, req.No = e.yes, e.no }

// Typed reports whether tokens have types that the model may read.
func (e *Encoder) Typed() bool { return e.pairs != nil }

// Encode makes the request for a query and documents; trusted texts may hold control tokens. instruct is for a decoder; "": Instruct.
func (e *Encoder) Encode(ctx context.Context, instruct, query string, documents []string, trusted bool) (backend.RankRequest, error) {
	var req backend.RankRequest
	if e.pairs != nil {
		if instruct != "" {
			return req, fmt.Errorf("%w: instruct: the model is a cross-encoder, which takes none", protocol.ErrInvalid)
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
	if !e.forms {
		return req, fmt.Errorf("%w: the model is a decoder without the token %s, in whose form it would be asked: give it pairs of ids", protocol.ErrUnsupported, mark)
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
