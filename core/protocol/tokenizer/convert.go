package tokenizer

import (
	"errors"
	"io"
	"math"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

// idBytes is the most that a token id takes on the wire: a positive 32-bit varint.
const idBytes = 5

func infoTo(i Info) *edgedpb.TokenizerInfo {
	var mask *int32
	if i.Mask >= 0 {
		mask = &i.Mask
	}
	return &edgedpb.TokenizerInfo{
		Kind: i.Kind, Pre: i.Pre, Tokens: int32(min(i.Tokens, math.MaxInt32)), BosId: i.BOS, EosId: i.EOS, EotId: i.EOT,
		UnknownId: i.Unknown, PadId: i.Pad, EogIds: i.EOG, AddBos: i.AddBOS, AddEos: i.AddEOS,
		ChatTemplate: []byte(i.ChatTemplate), Hash: i.Hash,
		MaskId: mask, MaxTokens: int32(min(i.MaxTokens, math.MaxInt32)), Prompts: i.Prompts, DefaultPrompt: i.Prompt, Pairs: i.Pairs,
	}
}

func infoFrom(i *edgedpb.TokenizerInfo) Info {
	mask := int32(-1)
	if i.MaskId != nil {
		mask = *i.MaskId
	}
	return Info{
		Kind: i.Kind, Pre: i.Pre, Tokens: int(i.Tokens), BOS: i.BosId, EOS: i.EosId, EOT: i.EotId,
		Unknown: i.UnknownId, Pad: i.PadId, EOG: i.EogIds, AddBOS: i.AddBos, AddEOS: i.AddEos,
		ChatTemplate: string(i.ChatTemplate), Hash: i.Hash,
		Mask: mask, MaxTokens: int(i.MaxTokens), Prompts: i.Prompts, Prompt: i.DefaultPrompt, Pairs: i.Pairs,
	}
}

// sendTexts sends texts in parts.
func sendTexts(texts []string, flags Flags, send func(*edgedpb.EncodePart) error) error {
	lists := make([][]byte, len(texts))
	for i, t := range texts {
		lists[i] = []byte(t)
	}
	first := true
	return parts.Split(lists, 1, func(batch []parts.Piece[byte]) error {
		part := &edgedpb.EncodePart{}
		if first {
			part.AddSpecial, part.ParseSpecial, part.MaxTokens = flags.AddSpecial, flags.ParseSpecial, int32(min(flags.MaxTokens, math.MaxInt32))
		}
		first = false
		for _, p := range batch {
			part.Texts = append(part.Texts, &edgedpb.TextPart{Text: p.Items, Last: p.Last})
		}
		return send(part)
	})
}

// receiveTexts puts texts together.
func receiveTexts(recv func() (*edgedpb.EncodePart, error)) ([]string, Flags, error) {
	var j parts.Joiner[byte]
	var flags Flags
	for first := true; ; first = false {
		part, err := recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, Flags{}, err
		}
		if first {
			flags = Flags{AddSpecial: part.AddSpecial, ParseSpecial: part.ParseSpecial, MaxTokens: int(part.MaxTokens)}
		}
		for _, p := range part.Texts {
			if err := j.Add(p.Text, p.Last, 1); err != nil {
				return nil, Flags{}, err
			}
		}
	}
	lists, err := j.Lists()
	if err != nil {
		return nil, Flags{}, err
	}
	texts := make([]string, len(lists))
	for i, l := range lists {
		texts[i] = string(l)
	}
	return texts, flags, nil
}

// sendChat sends a conversation in parts, one field after the other.
func sendChat(c Chat, send func(*edgedpb.ChatPart) error) error {
	if err := send(&edgedpb.ChatPart{NoPrompt: c.NoPrompt, Plain: c.Plain}); err != nil {
		return err
	}
	for _, field := range []struct {
		data []byte
		part func([]byte) *edgedpb.ChatPart
	}{
		{c.Messages, func(b []byte) *edgedpb.ChatPart { return &edgedpb.ChatPart{Messages: b} }},
		{c.Tools, func(b []byte) *edgedpb.ChatPart { return &edgedpb.ChatPart{Tools: b} }},
		{c.Variables, func(b []byte) *edgedpb.ChatPart { return &edgedpb.ChatPart{Variables: b} }},
		{[]byte(c.Template), func(b []byte) *edgedpb.ChatPart { return &edgedpb.ChatPart{Template: b} }},
	} {
		if len(field.data) == 0 {
			continue
		}
		if err := parts.Bytes(field.data, func(b []byte) error { return send(field.part(b)) }); err != nil {
			return err
		}
	}
	return nil
}

// receiveChat puts a conversation together; together its fields hold at most protocol.MaxValue bytes.
func receiveChat(recv func() (*edgedpb.ChatPart, error)) (Chat, error) {
	var c Chat
	var template []byte
	total := 0
	for first := true; ; first = false {
		part, err := recv()
		if errors.Is(err, io.EOF) {
			c.Template = string(template)
			return c, nil
		}
		if err != nil {
			return Chat{}, err
		}
		if first {
			c.NoPrompt, c.Plain = part.NoPrompt, part.Plain
		}
		total += len(part.Messages) + len(part.Tools) + len(part.Variables) + len(part.Template)
		if total > protocol.MaxValue {
			return Chat{}, parts.TooLarge()
		}
		c.Messages = append(c.Messages, part.Messages...)
		c.Tools = append(c.Tools, part.Tools...)
		c.Variables = append(c.Variables, part.Variables...)
		template = append(template, part.Template...)
	}
}

func sendBytes(data []byte, send func(*edgedpb.BytesPart) error) error {
	return parts.Bytes(data, func(b []byte) error { return send(&edgedpb.BytesPart{Data: b}) })
}
