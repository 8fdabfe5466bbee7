package backend

import (
	"math"
	"time"

	"edged/core/protocol/edgedpb"
	"edged/core/protocol/internal/parts"
)

// narrow saturates an int on the wire's 32 bits.
func narrow(n int) int32 { return int32(max(math.MinInt32, min(math.MaxInt32, n))) }

// wide saturates a 64-bit number of the wire on this machine's int.
func wide(n int64) int { return int(max(math.MinInt, min(math.MaxInt, n))) }

func descriptionTo(d Description) *edgedpb.Description {
	return &edgedpb.Description{
		Name: d.Name, Version: d.Version, Kernels: d.Kernels, Features: d.Features, Embeds: d.Embeds, Benches: d.Benches,
	}
}

func descriptionFrom(d *edgedpb.Description) Description {
	return Description{
		Name: d.Name, Version: d.Version, Kernels: d.Kernels, Features: d.Features, Embeds: d.Embeds, Benches: d.Benches,
	}
}

func loadRequestTo(r LoadRequest) *edgedpb.LoadRequest {
	return &edgedpb.LoadRequest{
		Path: r.Path, Context: int64(r.Context), KvType: r.KVType, Precision: string(r.Precision),
		ThreadsPrefill: narrow(r.ThreadsPrefill), ThreadsDecode: narrow(r.ThreadsDecode), Head: r.Head, Quantize: r.Quantize,
		CacheDir: r.CacheDir, MaxSequences: narrow(r.MaxSequences), KvBytes: r.KVBytes, MemoryLimit: r.MemoryLimit,
		IgnorePlan: r.IgnorePlan, NoPrefixCache: r.NoPrefixCache, NoLookup: r.NoLookup, NoTiles: r.NoTiles, DraftModel: r.DraftModel,
		PrefixDiskBytes: r.PrefixDiskBytes, PrefixDiskDaily: r.PrefixDiskDaily, PrefixDiskTokens: int64(r.PrefixDiskTokens),
	}
}

func loadRequestFrom(r *edgedpb.LoadRequest) LoadRequest {
	return LoadRequest{
		Path: r.Path, Context: wide(r.Context), KVType: r.KvType, Precision: Precision(r.Precision),
		ThreadsPrefill: int(r.ThreadsPrefill), ThreadsDecode: int(r.ThreadsDecode), Head: r.Head, Quantize: r.Quantize,
		CacheDir: r.CacheDir, MaxSequences: int(r.MaxSequences), KVBytes: r.KvBytes, MemoryLimit: r.MemoryLimit,
		IgnorePlan: r.IgnorePlan, NoPrefixCache: r.NoPrefixCache, NoLookup: r.NoLookup, NoTiles: r.NoTiles, DraftModel: r.DraftModel,
		PrefixDiskBytes: r.PrefixDiskBytes, PrefixDiskDaily: r.PrefixDiskDaily, PrefixDiskTokens: wide(r.PrefixDiskTokens),
	}
}

func planTo(p MemoryPlan) *edgedpb.MemoryPlan {
	return &edgedpb.MemoryPlan{
		Weights: p.Weights, Derived: p.Derived, Kv: p.KV, Scratch: p.Scratch, Adapters: p.Adapters, Total: p.Total,
		Available: p.Available, HeadBytes: p.HeadBytes, HeadSaves: p.HeadSaves, Fits: p.Fits, Draft: p.Draft, OnDisk: p.OnDisk,
	}
}

// planFrom takes nil for an empty plan.
func planFrom(p *edgedpb.MemoryPlan) MemoryPlan {
	return MemoryPlan{
		Weights: p.GetWeights(), Derived: p.GetDerived(), KV: p.GetKv(), Scratch: p.GetScratch(), Adapters: p.GetAdapters(),
		Total: p.GetTotal(), Available: p.GetAvailable(), HeadBytes: p.GetHeadBytes(), HeadSaves: p.GetHeadSaves(), Draft: p.GetDraft(),
		Fits: p.GetFits(), OnDisk: p.GetOnDisk(),
	}
}

func infoTo(i ModelInfo) *edgedpb.ModelInfo {
	return &edgedpb.ModelInfo{
		Arch: i.Arch, Name: i.Name, Hash: i.Hash, Format: i.Format, Layers: narrow(i.Layers), Width: narrow(i.Width),
		VocabRows: narrow(i.VocabRows), Context: int64(i.Context), TrainContext: int64(i.TrainContext),
		Parameters: i.Parameters, WeightBytes: i.WeightBytes, HasTokenizer: i.HasTokenizer, Plan: planTo(i.Plan),
		Precision: string(i.Precision), KvType: i.KVType, ThreadsDecode: narrow(i.ThreadsDecode),
		ThreadsPrefill: narrow(i.ThreadsPrefill), Kind: i.Kind, Tasks: i.Tasks, VectorLen: narrow(i.VectorLen),
	}
}

// infoFrom takes nil for an empty info.
func infoFrom(i *edgedpb.ModelInfo) ModelInfo {
	return ModelInfo{
		Arch: i.GetArch(), Name: i.GetName(), Hash: i.GetHash(), Format: i.GetFormat(), Layers: int(i.GetLayers()),
		Width: int(i.GetWidth()), VocabRows: int(i.GetVocabRows()), Context: wide(i.GetContext()),
		TrainContext: wide(i.GetTrainContext()), Parameters: i.GetParameters(), WeightBytes: i.GetWeightBytes(),
		HasTokenizer: i.GetHasTokenizer(), Plan: planFrom(i.GetPlan()), Precision: Precision(i.GetPrecision()),
		KVType: i.GetKvType(), ThreadsDecode: int(i.GetThreadsDecode()), ThreadsPrefill: int(i.GetThreadsPrefill()),
		Kind: i.GetKind(), Tasks: i.GetTasks(), VectorLen: int(i.GetVectorLen()),
	}
}

func usesTo(uses []AdapterUse) []*edgedpb.AdapterUse {
	var out []*edgedpb.AdapterUse
	for _, u := range uses {
		out = append(out, &edgedpb.AdapterUse{Id: u.ID, Scale: u.Scale})
	}
	return out
}

func usesFrom(uses []*edgedpb.AdapterUse) []AdapterUse {
	var out []AdapterUse
	for _, u := range uses {
		out = append(out, AdapterUse{ID: u.Id, Scale: u.Scale})
	}
	return out
}

func samplingTo(s Sampling) *edgedpb.Sampling {
	return &edgedpb.Sampling{
		Temperature: s.Temperature, TopK: narrow(s.TopK), TopP: s.TopP, MinP: s.MinP, TypicalP: s.TypicalP,
		RepeatPenalty: s.RepeatPenalty, PresencePenalty: s.PresencePenalty, FrequencyPenalty: s.FrequencyPenalty,
		PenaltyLastN: narrow(s.PenaltyLastN), LogitBias: s.LogitBias, Seed: s.Seed,
	}
}

// samplingFrom takes nil for greedy.
func samplingFrom(s *edgedpb.Sampling) Sampling {
	return Sampling{
		Temperature: s.GetTemperature(), TopK: int(s.GetTopK()), TopP: s.GetTopP(), MinP: s.GetMinP(), TypicalP: s.GetTypicalP(),
		RepeatPenalty: s.GetRepeatPenalty(), PresencePenalty: s.GetPresencePenalty(), FrequencyPenalty: s.GetFrequencyPenalty(),
		PenaltyLastN: int(s.GetPenaltyLastN()), LogitBias: s.GetLogitBias(), Seed: s.GetSeed(),
	}
}

func benchRequestTo(r BenchRequest) *edgedpb.BenchRequest {
	return &edgedpb.BenchRequest{
		PromptTokens: narrow(r.PromptTokens), GenTokens: narrow(r.GenTokens), Repeats: narrow(r.Repeats),
		Context: int64(r.Context), Transcript: r.Transcript, Adapters: usesTo(r.Adapters),
		Streams: narrow(r.Streams),
	}
}

func benchRequestFrom(r *edgedpb.BenchRequest) BenchRequest {
	return BenchRequest{
		PromptTokens: int(r.PromptTokens), GenTokens: int(r.GenTokens), Repeats: int(r.Repeats),
		Context: wide(r.Context), Transcript: r.Transcript, Adapters: usesFrom(r.Adapters),
		Streams: int(r.Streams),
	}
}

func benchResultTo(r BenchResult) *edgedpb.BenchResult {
	return &edgedpb.BenchResult{
		PrefillTps: r.PrefillTPS, DecodeTps: r.DecodeTPS, BandwidthGbps: r.BandwidthGBps,
		WeightBytesPerToken: r.WeightBytesPerToken, FirstTokenMs: r.FirstTokenMS, PlainDecodeTps: r.PlainDecodeTPS,
		SingleDecodeTps: r.SingleDecodeTPS, Drafted: r.Drafted, Accepted: r.Accepted, StreamsTps: r.StreamsTPS, StreamsWait: r.StreamsWait,
		PlainStreamsTps: r.PlainStreamsTPS,
	}
}

// benchResultFrom takes nil for an empty result.
func benchResultFrom(r *edgedpb.BenchResult) BenchResult {
	return BenchResult{
		PrefillTPS: r.GetPrefillTps(), DecodeTPS: r.GetDecodeTps(), BandwidthGBps: r.GetBandwidthGbps(),
		WeightBytesPerToken: r.GetWeightBytesPerToken(), FirstTokenMS: r.GetFirstTokenMs(), PlainDecodeTPS: r.GetPlainDecodeTps(),
		SingleDecodeTPS: r.GetSingleDecodeTps(), Drafted: r.GetDrafted(), Accepted: r.GetAccepted(),
		StreamsTPS: r.GetStreamsTps(), StreamsWait: r.GetStreamsWait(), PlainStreamsTPS: r.GetPlainStreamsTps(),
	}
}

func statsTo(s Stats) *edgedpb.StatsResponse {
	return &edgedpb.StatsResponse{
		Running: int64(s.Running), Waiting: int64(s.Waiting), KvPages: int64(s.KVPages), KvPagesUsed: int64(s.KVPagesUsed),
		Adapters: int64(s.Adapters), AdapterBytes: s.AdapterBytes, PromptTokens: s.PromptTokens, DecodedTokens: s.DecodedTokens,
		Steps: s.Steps, ResidentBytes: s.ResidentBytes, HeapBytes: s.HeapBytes, PrefillNs: s.PrefillTime.Nanoseconds(),
		DecodeNs: s.DecodeTime.Nanoseconds(), KvPagesCached: int64(s.KVPagesCached), PrefixHits: s.PrefixHits, PrefixTokens: s.PrefixTokens,
		DraftedTokens: s.DraftedTokens, AcceptedTokens: s.AcceptedTokens,
		PrefixDiskPages: int64(s.PrefixDiskPages), PrefixDiskBytes: s.PrefixDiskBytes, PrefixDiskTokens: s.PrefixDiskTokens,
		PrefixDiskWritten: s.PrefixDiskWritten, PrefixDiskDamaged: s.PrefixDiskDamaged, PrefixPinnedPages: int64(s.PrefixPinnedPages),
		ConstrainedTokens: s.ConstrainedTokens, DecidedTokens: s.DecidedTokens,
		ThreadsDecode: narrow(s.ThreadsDecode),
	}
}

func statsFrom(s *edgedpb.StatsResponse) Stats {
	return Stats{
		Running: wide(s.Running), Waiting: wide(s.Waiting), KVPages: wide(s.KvPages), KVPagesUsed: wide(s.KvPagesUsed),
		Adapters: wide(s.Adapters), AdapterBytes: s.AdapterBytes, PromptTokens: s.PromptTokens, DecodedTokens: s.DecodedTokens,
		Steps: s.Steps, ResidentBytes: s.ResidentBytes, HeapBytes: s.HeapBytes, PrefillTime: time.Duration(s.PrefillNs),
		DecodeTime: time.Duration(s.DecodeNs), KVPagesCached: wide(s.KvPagesCached), PrefixHits: s.PrefixHits, PrefixTokens: s.PrefixTokens,
		DraftedTokens: s.DraftedTokens, AcceptedTokens: s.AcceptedTokens,
		PrefixDiskPages: wide(s.PrefixDiskPages), PrefixDiskBytes: s.PrefixDiskBytes, PrefixDiskTokens: s.PrefixDiskTokens,
		PrefixDiskWritten: s.PrefixDiskWritten, PrefixDiskDamaged: s.PrefixDiskDamaged, PrefixPinnedPages: wide(s.PrefixPinnedPages),
		ConstrainedTokens: s.ConstrainedTokens, DecidedTokens: s.DecidedTokens,
		ThreadsDecode: int(s.ThreadsDecode),
	}
}

// sendTyped sends lists, and behind them, where there are some, the token types that stand beside them.
func sendTyped(lists, types [][]int32, send func(lists, types []*edgedpb.IdList, first bool) error) error {
	err := sendLists(lists, func(part []*edgedpb.IdList, first bool) error { return send(part, nil, first) })
	if err != nil || types == nil {
		return err
	}
	return sendLists(types, func(part []*edgedpb.IdList, _ bool) error { return send(nil, part, false) })
}

// sendLists sends lists of ids in parts; first is true in the first call.
func sendLists(lists [][]int32, send func(lists []*edgedpb.IdList, first bool) error) error {
	first := true
	return parts.Split(lists, idBytes, func(batch []parts.Piece[int32]) error {
		var out []*edgedpb.IdList
		for _, p := range batch {
			out = append(out, &edgedpb.IdList{Ids: p.Items, Last: p.Last})
		}
		err := send(out, first)
		first = false
		return err
	})
}

// idBytes is the most that a token id takes on the wire: a positive 32-bit varint.
const idBytes = 5
