package loader

import (
	"context"
	"errors"
	"os"
	"path/filepath"

	"edged/core/model/weights"
	"edged/core/protocol/backend"
	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/tile"
)

// tiler is implemented by kernels that have tiles: whether they are worth their memory, and the rows in a
// group of w's, 0 for none.
type tiler interface {
	WantsTiles() bool
	TileRows(w *quant.Matrix) int
}

// tiles gives the matrices of a model their tiles, from the cache directory, where they are written at the
// first load. It returns nil where there are none: the answers are the same without, and a full disk or a
// damaged file is no reason not to serve. Only an error of stage is one.
func (o Options) tiles(
	ctx context.Context,
	m *weights.Model,
	l *layout,
	req backend.LoadRequest,
	hash string,
	stage func(name string, done, total int64) error,
) (*tile.File, error) {
	k, ok := o.Kernels.(tiler)
	if !ok || !k.WantsTiles() || req.NoTiles || req.CacheDir == "" || l.options.Precision != kernel.Fast {
		return nil, nil
	}
	set := tile.Set{Model: hash}
	for _, w := range m.Products() {
		set.Add(w, k.TileRows(w))
	}
	if len(set.Parts) == 0 {
		return nil, nil
	}
	if p := &l.plan; p.Available > 0 && p.Total+set.Bytes() > p.Available {
		o.Log.InfoContext(
			ctx,
			"no room in memory for tiles beside the model",
			"tiles_bytes",
			set.Bytes(),
			"plan_bytes",
			p.Total,
			"available_bytes",
			p.Available,
		)
		return nil, nil
	}
	dir := filepath.Join(req.CacheDir, "tiles")
	var ended error // of stage
	read := func(done, total int64) error { ended = stage("map", done, total); return ended }
	write := func(done, total int64) error { ended = stage("tiles", done, total); return ended }
	f, err := tile.Open(dir, &set, read)
	if err != nil && ended == nil {
		if !errors.Is(err, os.ErrNotExist) {
			o.Log.WarnContext(ctx, "tiles are made anew", "err", err)
		}
		if err = tile.Build(ctx, dir, &set, write); err == nil {
			f, err = tile.Open(dir, &set, read)
		}
	}
	switch {
	case ended != nil:
		return nil, ended
	case err != nil:
		o.Log.WarnContext(ctx, "no tiles: decoding is slower, answers are the same", "err", err)
		return nil, nil
	}
	f.Attach()
	return f, nil
}
