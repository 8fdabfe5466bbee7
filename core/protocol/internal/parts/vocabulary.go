package parts

import (
	"fmt"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
)

// Bounds on a vocabulary: sixteen times the pieces of the largest that is published, and a piece that is
// longer than any text of a part.
const (
	maxPieces = 1 << 22
	maxPiece  = 1 << 20
)

// Vocabulary is the vocabulary that both contracts transfer: backend.Vocabulary without its package.
type Vocabulary struct {
	Pieces  [][]byte
	Control []bool
	EOG     []int32
	BOS     int32
	Hash    string
}

// SendVocabulary sends v in parts.
func SendVocabulary(v Vocabulary, send func(*edgedpb.VocabularyPart) error) error {
	if len(v.Pieces) > maxPieces || len(v.Control) > len(v.Pieces) {
		return fmt.Errorf("protocol: %w: vocabulary of %d pieces and %d control flags", protocol.ErrInvalid, len(v.Pieces), len(v.Control))
	}
	part := &edgedpb.VocabularyPart{}
	room := protocol.PartBytes
	for id, piece := range v.Pieces {
		if len(piece) > maxPiece {
			return bad("piece %d has %d bytes, allowed are %d", id, len(piece), maxPiece)
		}
		if cost := len(piece) + overhead; cost > room && len(part.Lengths) > 0 {
			if err := send(part); err != nil {
				return err
			}
			part = &edgedpb.VocabularyPart{FirstId: int32(id)}
			room = protocol.PartBytes
		}
		part.Data = append(part.Data, piece...)
		part.Lengths = append(part.Lengths, uint32(len(piece)))
		if id < len(v.Control) && v.Control[id] {
			part.ControlIds = append(part.ControlIds, int32(id))
		}
		room -= len(piece) + overhead
	}
	part.Last, part.EogIds, part.BosId, part.Hash = true, v.EOG, v.BOS, v.Hash
	return send(part)
}

// ReceiveVocabulary puts a vocabulary together. The pieces of a part share one buffer.
func ReceiveVocabulary(recv func() (*edgedpb.VocabularyPart, error)) (Vocabulary, error) {
	var v Vocabulary
	total := 0
	for {
		part, err := recv()
		if err != nil {
			return Vocabulary{}, err
		}
		if int(part.FirstId) != len(v.Pieces) {
			return Vocabulary{}, bad("a part starts at id %d where %d pieces are known", part.FirstId, len(v.Pieces))
		}
		total += len(part.Data) + len(part.Lengths)*overhead
		if total > protocol.MaxValue || len(v.Pieces)+len(part.Lengths) > maxPieces {
			return Vocabulary{}, TooLarge()
		}
		data := part.Data
		for _, n := range part.Lengths {
			if uint64(n) > uint64(len(data)) {
				return Vocabulary{}, bad("the pieces of the part at id %d are longer than its data", part.FirstId)
			}
			v.Pieces = append(v.Pieces, data[:n:n])
			data = data[n:]
		}
		if len(data) > 0 {
			return Vocabulary{}, bad("the part at id %d has %d bytes that belong to no piece", part.FirstId, len(data))
		}
		v.Control = append(v.Control, make([]bool, len(part.Lengths))...)
		for _, id := range part.ControlIds {
			if id < part.FirstId || int(id) >= len(v.Pieces) {
				return Vocabulary{}, bad("control id %d is outside its part", id)
			}
			v.Control[id] = true
		}
		if !part.Last {
			continue
		}
		for _, id := range part.EogIds {
			if id < 0 || int(id) >= len(v.Pieces) {
				return Vocabulary{}, bad("end-of-generation id %d of %d pieces", id, len(v.Pieces))
			}
		}
		if part.BosId < -1 || int(part.BosId) >= len(v.Pieces) {
			return Vocabulary{}, bad("BOS id %d of %d pieces", part.BosId, len(v.Pieces))
		}
		v.EOG, v.BOS, v.Hash = part.EogIds, part.BosId, part.Hash
		return v, nil
	}
}

func bad(format string, args ...any) error {
	return fmt.Errorf("protocol: %w: vocabulary: %s", protocol.ErrInvalid, fmt.Sprintf(format, args...))
}
