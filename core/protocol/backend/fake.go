package backend

import (
	"context"
	"fmt"

	"edged/core/protocol"
)

// Fake is a Backend for tests, an Embedder, a Forecaster and a Bencher too: each method calls the field of
// its name, and without one refuses with protocol.ErrUnsupported.
type Fake struct {
	DescribeFunc      func(ctx context.Context) (Description, error)
	PlanFunc          func(ctx context.Context, req LoadRequest) (MemoryPlan, error)
	LoadFunc          func(ctx context.Context, req LoadRequest, progress func(LoadProgress)) (ModelInfo, error)
	SetVocabularyFunc func(ctx context.Context, v Vocabulary) error
	LoadAdapterFunc   func(ctx context.Context, req AdapterRequest) (AdapterInfo, error)
	UnloadAdapterFunc func(ctx context.Context, id string) error
	GenerateFunc      func(ctx context.Context, req Request, emit func(Event) error) error
	ScoreFunc         func(ctx context.Context, req ScoreRequest) ([]ScoreResult, error)
	EmbedFunc         func(ctx context.Context, lists [][]int32) ([][]float32, error)
	RankFunc          func(ctx context.Context, req RankRequest) ([]Rank, error)
	FillFunc          func(ctx context.Context, req FillRequest) ([][][]Guess, error)
	ForecastFunc      func(ctx context.Context, req LoadRequest) (Forecast, error)
	ObserveFunc       func(ctx context.Context, req ObserveRequest, row func(list, position int, logits []float32) error) ([]MatrixInputs, error)
	BenchFunc         func(ctx context.Context, req BenchRequest, progress func(done, total int)) (BenchResult, error)
	StatsFunc         func(ctx context.Context) (Stats, error)
}

var (
	_ Backend    = (*Fake)(nil)
	_ Embedder   = (*Fake)(nil)
	_ Forecaster = (*Fake)(nil)
	_ Observer   = (*Fake)(nil)
	_ Bencher    = (*Fake)(nil)
	_ Ranker     = (*Fake)(nil)
	_ Filler     = (*Fake)(nil)
)

func unset(method string) error {
	return fmt.Errorf("backend: fake: %s: %w", method, protocol.ErrUnsupported)
}

// Describe calls DescribeFunc.
func (f *Fake) Describe(ctx context.Context) (Description, error) {
	if f.DescribeFunc == nil {
		return Description{}, unset("describe")
	}
	return f.DescribeFunc(ctx)
}

// Plan calls PlanFunc.
func (f *Fake) Plan(ctx context.Context, req LoadRequest) (MemoryPlan, error) {
	if f.PlanFunc == nil {
		return MemoryPlan{}, unset("plan")
	}
	return f.PlanFunc(ctx, req)
}

// Load calls LoadFunc; progress is never nil there.
func (f *Fake) Load(ctx context.Context, req LoadRequest, progress func(LoadProgress)) (ModelInfo, error) {
	if f.LoadFunc == nil {
		return ModelInfo{}, unset("load")
	}
	if progress == nil {
		progress = func(LoadProgress) {}
	}
	return f.LoadFunc(ctx, req, progress)
}

// SetVocabulary calls SetVocabularyFunc.
func (f *Fake) SetVocabulary(ctx context.Context, v Vocabulary) error {
	if f.SetVocabularyFunc == nil {
		return unset("set vocabulary")
	}
	return f.SetVocabularyFunc(ctx, v)
}

// LoadAdapter calls LoadAdapterFunc.
func (f *Fake) LoadAdapter(ctx context.Context, req AdapterRequest) (AdapterInfo, error) {
	if f.LoadAdapterFunc == nil {
		return AdapterInfo{}, unset("load adapter")
	}
	return f.LoadAdapterFunc(ctx, req)
}

// UnloadAdapter calls UnloadAdapterFunc.
func (f *Fake) UnloadAdapter(ctx context.Context, id string) error {
	if f.UnloadAdapterFunc == nil {
		return unset("unload adapter")
	}
	return f.UnloadAdapterFunc(ctx, id)
}

// Generate calls GenerateFunc.
func (f *Fake) Generate(ctx context.Context, req Request, emit func(Event) error) error {
	if f.GenerateFunc == nil {
		return unset("generate")
	}
	return f.GenerateFunc(ctx, req, emit)
}

// Score calls ScoreFunc.
func (f *Fake) Score(ctx context.Context, req ScoreRequest) ([]ScoreResult, error) {
	if f.ScoreFunc == nil {
		return nil, unset("score")
	}
	return f.ScoreFunc(ctx, req)
}

// Embed calls EmbedFunc.
func (f *Fake) Embed(ctx context.Context, lists [][]int32) ([][]float32, error) {
	if f.EmbedFunc == nil {
		return nil, unset("embed")
	}
	return f.EmbedFunc(ctx, lists)
}

// Rank calls RankFunc.
func (f *Fake) Rank(ctx context.Context, req RankRequest) ([]Rank, error) {
	if f.RankFunc == nil {
		return nil, unset("rank")
	}
	return f.RankFunc(ctx, req)
}

// Fill calls FillFunc.
func (f *Fake) Fill(ctx context.Context, req FillRequest) ([][][]Guess, error) {
	if f.FillFunc == nil {
		return nil, unset("fill")
	}
	return f.FillFunc(ctx, req)
}

// Forecast calls ForecastFunc.
func (f *Fake) Forecast(ctx context.Context, req LoadRequest) (Forecast, error) {
	if f.ForecastFunc == nil {
		return Forecast{}, unset("forecast")
	}
	return f.ForecastFunc(ctx, req)
}

// Observe calls ObserveFunc; row is never nil there.
func (f *Fake) Observe(
	ctx context.Context,
	req ObserveRequest,
	row func(list, position int, logits []float32) error,
) ([]MatrixInputs, error) {
	if f.ObserveFunc == nil {
		return nil, unset("observe")
	}
	if row == nil {
		row = func(int, int, []float32) error { return nil }
	}
	return f.ObserveFunc(ctx, req, row)
}

// Bench calls BenchFunc; progress is never nil there.
func (f *Fake) Bench(ctx context.Context, req BenchRequest, progress func(done, total int)) (BenchResult, error) {
	if f.BenchFunc == nil {
		return BenchResult{}, unset("bench")
	}
	if progress == nil {
		progress = func(int, int) {}
	}
	return f.BenchFunc(ctx, req, progress)
}

// Stats calls StatsFunc.
func (f *Fake) Stats(ctx context.Context) (Stats, error) {
	if f.StatsFunc == nil {
		return Stats{}, unset("stats")
	}
	return f.StatsFunc(ctx)
}
