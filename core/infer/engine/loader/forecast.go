package loader

import (
	"fmt"

	"edged/core/infer/speed"
	"edged/core/model/weights"
	"edged/core/protocol"
	"edged/core/protocol/backend"
)

// Forecast says what a token of a model would cost, from its headers, and measures what this machine does,
// which takes about a second. What else runs meanwhile makes the machine slower than it is.
func (o Options) Forecast(req backend.LoadRequest) (backend.Forecast, error) {
	l, err := resolve(req)
	if err != nil {
		return backend.Forecast{}, fmt.Errorf("engine: %w: %w", protocol.ErrInvalid, err)
	}
	m, err := weights.OpenHeaders(req.Path)
	if err != nil {
		return backend.Forecast{}, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	defer m.Close() //nolint:errcheck // opened for reading: nothing to lose
	if err := l.requantize(m); err != nil {
		return backend.Forecast{}, fmt.Errorf("engine: %w: %w", protocol.ErrModel, err)
	}
	f := m.Figures()
	machine := speed.Measure(o.Kernels, f.Format, max(req.ThreadsPrefill, req.ThreadsDecode), availableBytes())
	return backend.Forecast{
		TokenBytes:        f.PerToken,
		TokenProducts:     f.Products,
		BytesPerSecond:    machine.Bytes,
		ProductsPerSecond: machine.Products,
	}, nil
}
