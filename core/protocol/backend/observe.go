package backend

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"google.golang.org/grpc"

	"edged/core/protocol"
	"edged/core/protocol/edgedpb"
)

// observePiece is how many numbers a part of what was observed holds: 1 MiB.
const observePiece = 1 << 18

// maxMatrixValues bounds what a client joins for one tensor: a stack of 1024 experts of 64 Ki columns.
const maxMatrixValues = 1 << 26

// Observe is Observer's, over the connection.
func (c *client) Observe(
	ctx context.Context,
	req ObserveRequest,
	row func(list, position int, logits []float32) error,
) ([]MatrixInputs, error) {
	call, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.rpc.Observe(call)
	if err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	err = sendLists(req.Lists, func(lists []*edgedpb.IdList, first bool) error {
		part := &edgedpb.ObserveRequest{Lists: lists}
		if first {
			part.Inputs, part.Logits, part.LogitsFrom = req.Inputs, req.Logits, narrow(req.From)
		}
		return stream.Send(part)
	})
	if err := sent(err); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	if err := stream.CloseSend(); err != nil {
		return nil, protocol.FromStatus(ctx, err)
	}
	o := observed{req: &req, row: row, position: req.From - 1}
	for {
		part, err := stream.Recv()
		switch {
		case errors.Is(err, io.EOF):
			return o.end()
		case err != nil:
			return nil, protocol.FromStatus(ctx, err)
		}
		if err := o.add(part); err != nil {
			return nil, err
		}
	}
}

// observed joins the parts of an answer.
type observed struct {
	req      *ObserveRequest
	row      func(list, position int, logits []float32) error
	list     int // of the last row
	position int
	rest     []float32 // of a row that has not come whole
	whole    int       // values of a row; 0: none came yet
	matrices []MatrixInputs
	open     bool // the last matrix goes on
}

// next is the place of the next row; ok is false where there is none.
func (o *observed) next() (list, position int, ok bool) {
	list, position = o.list, o.position+1
	for list < len(o.req.Lists) && position >= len(o.req.Lists[list]) {
		list, position = list+1, o.req.From
	}
	return list, position, o.req.Logits && list < len(o.req.Lists)
}

func (o *observed) add(part *edgedpb.ObservePart) error {
	for _, l := range part.GetLogits() {
		if len(o.rest)+len(l.GetValues()) > maxMatrixValues {
			return errors.New("backend: observe: a row of logits does not end")
		}
		o.rest = append(o.rest, l.GetValues()...)
		if !l.GetLast() {
			continue
		}
		list, position, ok := o.next()
		if !ok || o.whole != 0 && len(o.rest) != o.whole {
			return fmt.Errorf("backend: observe: a row of %d logits that was not asked for", len(o.rest))
		}
		o.list, o.position, o.whole = list, position, len(o.rest)
		if o.row != nil {
			if err := o.row(list, position, o.rest); err != nil {
				return err
			}
		}
		o.rest = o.rest[:0]
	}
	for _, p := range part.GetMatrices() {
		if !o.open {
			o.matrices = append(o.matrices, MatrixInputs{Name: p.GetName()})
		}
		m := &o.matrices[len(o.matrices)-1]
		if m.Name != p.GetName() || len(m.Squares)+len(p.GetSquares()) > maxMatrixValues {
			return fmt.Errorf("backend: observe: the values of %.100q do not end", m.Name)
		}
		m.Squares = append(m.Squares, p.GetSquares()...)
		m.Counts = p.GetCounts()
		if o.open = len(m.Counts) == 0; !o.open && len(m.Squares)%len(m.Counts) != 0 {
			return fmt.Errorf("backend: observe: %d values for %d matrices of %.100q", len(m.Squares), len(m.Counts), m.Name)
		}
	}
	return nil
}

func (o *observed) end() ([]MatrixInputs, error) {
	if _, _, more := o.next(); more || len(o.rest) > 0 || o.open {
		return nil, errors.New("backend: observe: the answer ends too early")
	}
	return o.matrices, nil
}

func (s *server) Observe(stream grpc.BidiStreamingServer[edgedpb.ObserveRequest, edgedpb.ObservePart]) error {
	impl, ok := s.impl.(Observer)
	if !ok {
		return protocol.ToStatus(fmt.Errorf("backend: observe: %w by this backend", protocol.ErrUnsupported))
	}
	var req ObserveRequest
	lists, err := receiveLists(stream.Recv, func(part *edgedpb.ObserveRequest, first bool) []*edgedpb.IdList {
		if first {
			req.Inputs, req.Logits, req.From = part.Inputs, part.Logits, int(part.LogitsFrom)
		}
		return part.Lists
	})
	if err != nil {
		return protocol.ToStatus(err)
	}
	req.Lists = lists
	matrices, err := impl.Observe(stream.Context(), req, func(_, _ int, logits []float32) error {
		for piece := range slices.Chunk(logits, observePiece) {
			logits = logits[len(piece):]
			part := &edgedpb.ObservePart{Logits: []*edgedpb.FloatList{{Values: piece, Last: len(logits) == 0}}}
			if err := stream.Send(part); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return protocol.ToStatus(err)
	}
	for _, m := range matrices {
		rest := m.Squares
		for piece := range slices.Chunk(m.Squares, observePiece) {
			rest = rest[len(piece):]
			p := &edgedpb.MatrixInputs{Name: m.Name, Squares: piece}
			if len(rest) == 0 {
				p.Counts = m.Counts
			}
			if err := stream.Send(&edgedpb.ObservePart{Matrices: []*edgedpb.MatrixInputs{p}}); err != nil {
				return err
			}
		}
	}
	return nil
}
