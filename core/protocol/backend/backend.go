// Package backend is the contract between the daemon and a compute backend plugin: a Go interface over plain
// structs, its gRPC client and server, and a fake for tests.
//
// It must not know how a backend computes, nor anything of MQTT. The structs here know no protobuf; the glue in this
// package translates them. Every method may be called concurrently, except that Load is called once, before all others
// but Describe and Plan.
package backend

import (
	"bytes"
	"context"
	"slices"
	"strings"
	"time"
)

// Backend is the contract of a compute backend. Logits never cross it: sampling, stopping and batching are
// the backend's.
//
// Errors are the sentinels of package protocol, wrapped; the client restores them from gRPC status codes.
type Backend interface {
	// Describe names the backend and its abilities. It works before Load.
	Describe(ctx context.Context) (Description, error)
	// Plan computes the memory that Load would need, from headers only; nothing is loaded.
	Plan(ctx context.Context, req LoadRequest) (MemoryPlan, error)
	// Load maps and prepares a model. It calls progress, if not nil, from one goroutine.
	Load(ctx context.Context, req LoadRequest, progress func(LoadProgress)) (ModelInfo, error)
	// SetVocabulary hands over the bytes of every token piece, once, after Load and before Generate.
	SetVocabulary(ctx context.Context, v Vocabulary) error
	// LoadAdapter proves an adapter against the loaded model and makes it ready. The same (path, sha256) twice
	// returns the same id.
	LoadAdapter(ctx context.Context, req AdapterRequest) (AdapterInfo, error)
	// UnloadAdapter frees an adapter when no running request uses it. An unknown id is protocol.ErrAdapterNotFound.
	UnloadAdapter(ctx context.Context, id string) error
	// Generate runs one request and calls emit, from one goroutine, for each event in order. The last event is the
	// only one with Done set. Cancelling ctx ends the request within one token; Generate then returns ctx's error.
	Generate(ctx context.Context, req Request, emit func(Event) error) error
	// Score returns the log-probability of every token of every list given its prefix, index 0 excluded:
	// lists of length n give n-1 values.
	Score(ctx context.Context, req ScoreRequest) ([]ScoreResult, error)
	// Stats is a snapshot of counters.
	Stats(ctx context.Context) (Stats, error)
}

// Embedder is an optional ability: sentence embeddings.
type Embedder interface {
	// Embed returns one vector of Description's model width for each list of token ids.
	Embed(ctx context.Context, lists [][]int32) ([][]float32, error)
}

// TextEncoder is an optional ability beside Embedder: embeddings in another way than the model's files say.
// What a model or a backend cannot do is protocol.ErrUnsupported.
type TextEncoder interface {
	// EmbedTexts returns one vector for each list, or with PoolNone the vectors of all its tokens, one behind
	// the other.
	EmbedTexts(ctx context.Context, req EmbedRequest) ([][]float32, error)
}

// EmbedRequest says what to embed. Zero values stand for the settings in the model's files.
type EmbedRequest struct {
	Lists     [][]int32
	Types     [][]int32 // of the tokens, a list for each of Lists; nil: all 0
	Pooling   string    // "mean", "cls", "last", or PoolNone
	Normalize *bool     // whether vectors are scaled to length 1
}

// Ranker is an optional ability: how well two texts fit.
type Ranker interface {
	// Rank returns a Rank for each list, which holds both texts as the model wants them. A model that does not rank is
	// protocol.ErrUnsupported.
	Rank(ctx context.Context, req RankRequest) ([]Rank, error)
}

// RankRequest says what to rank.
type RankRequest struct {
	Lists [][]int32
	Types [][]int32 // of the tokens, a list for each of Lists; nil: all 0
	// Of a decoder that is asked: the tokens of the answers, whose logits' difference is the logit. Both 0:
	// as the model's files say.
	Yes, No int32
}

// Rank says how well two texts fit.
type Rank struct {
	Logit float32 // as the head gives it
	Score float32 // after the function that the model's files name
}

// Filler is an optional ability: guessing masked tokens.
type Filler interface {
	// Fill returns for each list, for each of its positions, what is likeliest there, likeliest first. A
	// model that does not fill masks is protocol.ErrUnsupported.
	Fill(ctx context.Context, req FillRequest) ([][][]Guess, error)
}

// FillRequest says what to guess.
type FillRequest struct {
	Lists     [][]int32
	Types     [][]int32 // of the tokens, a list for each of Lists; nil: all 0
	Positions [][]int32 // of each list, counted from 0
	Top       int       // guesses of a position; 0: 5
}

// Guess is a token that may stand at a masked position, with its probability.
type Guess struct {
	ID   int32
	Prob float32
}

// The tasks of ModelInfo.
const (
	TaskGenerate = "generate"
	TaskEmbed    = "embed"
	TaskRank     = "rank"
	TaskFill     = "fill"
)

// PoolNone asks for the vectors of all tokens.
const PoolNone = "none"

// plain reports whether an Embedder gives what is asked for.
func (r *EmbedRequest) plain() bool { return r.Types == nil && r.Pooling == "" && r.Normalize == nil }

// Forecaster is an optional ability: saying how fast a model would be without loading it.
type Forecaster interface {
	// Forecast reads a model's headers and measures the machine for about a second. req is the request that
	// Load would get.
	Forecast(ctx context.Context, req LoadRequest) (Forecast, error)
}

// Forecast holds the cost of a token and the speed of this machine.
type Forecast struct {
	TokenBytes        int64   // of weights that a decoded token reads
	TokenProducts     int64   // multiply-adds with weights of a token of a prompt, without the output head
	BytesPerSecond    float64 // of a plain sum in memory
	ProductsPerSecond float64 // multiply-adds of many tokens at once, in the format of most weights
}

// TokensPerSecond is how fast an answer can come at the most: a token reads all its weights from memory. 0: not known.
func (f Forecast) TokensPerSecond() float64 {
	if f.TokenBytes <= 0 {
		return 0
	}
	return f.BytesPerSecond / float64(f.TokenBytes)
}

// Prompt is how long a prompt of so many tokens takes, but for attention, which adds more the longer it is.
// 0: not known.
func (f Forecast) Prompt(tokens int) time.Duration {
	if f.ProductsPerSecond <= 0 {
		return 0
	}
	return time.Duration(float64(tokens) * float64(f.TokenProducts) / f.ProductsPerSecond * float64(time.Second))
}

// Observer is an optional ability: telling what the model's matrices are multiplied with, and the logits of
// every position. It is for whoever makes smaller weights of the model; serving never asks for it.
type Observer interface {
	// Observe computes each list by itself, from an empty context. Where req wants logits, it calls row from
	// one goroutine for each position from req.From on, list by list, in order; logits (VocabRows) are valid
	// during the call only. It returns, where req wants them, the inputs of the matrices by name. A model
	// that does not generate is protocol.ErrUnsupported, a list longer than the context
	// protocol.ErrContextLength.
	Observe(ctx context.Context, req ObserveRequest, row func(list, position int, logits []float32) error) ([]MatrixInputs, error)
}

// ObserveRequest says what to compute and what is wanted of it.
type ObserveRequest struct {
	Lists  [][]int32
	Inputs bool // what the matrices are multiplied with
	Logits bool
	From   int // of each list: the first position whose logits are wanted
}

// MatrixInputs says what a matrix was multiplied with, or a stack of them, in all positions of all lists.
type MatrixInputs struct {
	Name    string    // GGUF name of the tensor
	Squares []float32 // (matrices, columns): squares of the inputs, summed
	Counts  []int64   // (matrices): inputs that each met
}

// Bencher is an optional ability: measuring the loaded model.
type Bencher interface {
	Bench(ctx context.Context, req BenchRequest, progress func(done, total int)) (BenchResult, error)
}

// Description says which backend this is.
type Description struct {
	Name     string   // "generic" or "neon"
	Version  string   // of the plugin binary
	Kernels  []string // instruction sets in use, best first, for example "avx512vnni", "avx2", "portable"
	Features []string // CPU features seen
	Embeds   bool     // Embed is served
	Benches  bool     // Bench is served
}

// Precision selects the arithmetic of matrix products.
type Precision string

// The precisions. Fast may quantise activations to 8 bits; Exact dequantises weights exactly, computes in float32 and
// keeps K and V in float32.
const (
	Fast  Precision = "fast"
	Exact Precision = "exact"
)

// LoadRequest says what to load and how. Zero values are the defaults that are named at each field.
type LoadRequest struct {
	Path           string    // GGUF file or Hugging Face folder
	Context        int       // positions per sequence; 0: the model's own limit, at most 4096
	KVType         string    // "f32", "f16" (default; "f32" where Precision is Exact), "q8_0"
	Precision      Precision // default Fast
	ThreadsPrefill int       // 0: tuned
	ThreadsDecode  int       // 0: tuned
	Head           string    // output head: "as-is" (default), "q8_0", "q4_0"
	Quantize       string    // linear layers: "" (default: as stored), "q8_0", "q4_0"
	CacheDir       string    // where derived files may be kept; "": nowhere
	MaxSequences   int       // running at once; 0: 8
	KVBytes        int64     // bytes of the KV page pool; 0: MaxSequences × Context, bounded by free memory
	MemoryLimit    int64     // bytes; 0: what the machine has free
	IgnorePlan     bool      // load even where the plan says that memory is short
	NoPrefixCache  bool      // compute every prompt anew, whatever it begins with
	NoLookup       bool      // do not guess next tokens from what the prompt and the answer repeat
	NoTiles        bool      // keep no second copy of the weights in CacheDir, even where products would be faster
	DraftModel     string    // a smaller model with the same vocabulary that guesses next tokens; "": none
	// Of CacheDir: bytes that computed prefixes may take, so that they outlive the process, and bytes that
	// may be written for that in any 24 hours. 0: nothing is kept there, or nothing more is written.
	PrefixDiskBytes  int64
	PrefixDiskDaily  int64
	PrefixDiskTokens int // of a prompt from which on it is kept there though no request came back to it; 0: 256
}

// LoadProgress is one step of a load.
type LoadProgress struct {
	Stage string // "open", "plan", "pack", "tiles", "map", "tune", "ready"
	Done  int64  // bytes or items of the stage
	Total int64
}

// ModelInfo describes a loaded model.
type ModelInfo struct {
	Arch           string // "llama", "qwen2", …
	Name           string // from metadata, or the file's base name
	Hash           string // sha256 over the model's content, hexadecimal
	Format         string // the most frequent weight format, for example "Q4_0", "NF4"
	Layers         int
	Width          int // hidden size
	VocabRows      int // rows of the embedding matrix
	Context        int // positions per sequence that are served
	TrainContext   int // what the model was trained with
	Parameters     int64
	WeightBytes    int64 // mapped bytes read per decoded token
	HasTokenizer   bool  // tokenizer data stand in the same file or folder
	Plan           MemoryPlan
	Precision      Precision
	KVType         string
	ThreadsDecode  int
	ThreadsPrefill int
	Kind           string   // "decoder", "encoder" or "encoder-decoder"; "": not told
	Tasks          []string // what the model is for: the tasks above; nil: not told
	VectorLen      int      // values of a text's vector; 0: Width
}

// Does reports whether a model is for a task. One whose backend does not tell is for what decoders are for.
func (i *ModelInfo) Does(task string) bool {
	if i.Tasks == nil {
		return task == TaskGenerate || task == TaskEmbed
	}
	return slices.Contains(i.Tasks, task)
}

// MemoryPlan is the memory that a load needs, in bytes.
type MemoryPlan struct {
	Weights   int64 // mapped, reclaimable
	Derived   int64 // packed or requantised weights
	KV        int64
	Scratch   int64
	Adapters  int64 // reserved for adapters
	Total     int64
	Available int64 // free memory when the plan was made
	HeadBytes int64 // bytes of the output head read per token, as asked for
	HeadSaves int64 // bytes per token that Head saves against "as-is"
	Fits      bool
	Draft     int64 // the model that guesses next tokens, with its cache and scratch
	OnDisk    int64 // not in Total: tables of which a token reads one row, so that they can stay in the file
}

// Vocabulary holds the bytes of every piece, by id.
type Vocabulary struct {
	Pieces  [][]byte // by token id; what the piece decodes to
	Control []bool   // pieces that are never text (BOS, end of turn, …)
	EOG     []int32  // end-of-generation ids
	BOS     int32    // -1: none
	Hash    string   // sha256 over all of the above, hexadecimal
}

// AdapterRequest names an adapter to load.
type AdapterRequest struct {
	Path   string // PEFT folder or GGUF file
	SHA256 string // content hash; "": computed
	Name   string // for messages only
}

// AdapterInfo describes a loaded adapter.
type AdapterInfo struct {
	ID      string
	SHA256  string
	Rank    int
	Targets []string // module names, for example "q_proj"
	Bytes   int64    // of memory
	Kind    string   // "lora", "dora", "soft_prompt" or a peft_type in small letters
	Virtual int      // virtual tokens, of a soft prompt
	Base    string   // what its files say it was trained on; "" where they do not
}

// AdapterUse is one adapter of a request.
type AdapterUse struct {
	ID    string
	Scale float32 // multiplies the adapter's own scaling; 1 is as trained
}

// Sampling holds the sampling parameters. A zero Sampling is greedy with no penalty.
type Sampling struct {
	Temperature      float32 // ≤ 0: greedy
	TopK             int     // 0: off
	TopP             float32 // 0 or ≥ 1: off
	MinP             float32 // 0: off
	TypicalP         float32 // 0 or ≥ 1: off
	RepeatPenalty    float32 // 0 or 1: off
	PresencePenalty  float32
	FrequencyPenalty float32
	PenaltyLastN     int // tokens looked back at; 0: 64; -1: all
	LogitBias        map[int32]float32
	Seed             uint64
}

// Request is one generation.
type Request struct {
	ID           string // for logs
	PromptIDs    []int32
	Borders      []int32 // numbers of PromptIDs, ascending, behind which prompts that begin alike may go on otherwise: a hint
	GeneratedIDs []int32 // what an earlier attempt produced: penalties, grammar, limits and text count them
	ForcedIDs    []int32 // decoded as if sampled
	Adapters     []AdapterUse
	Sampling     Sampling
	MaxTokens    int // 0: until the context is full
	Stop         []string
	StopIDs      []int32
	IgnoreEOS    bool
	Grammar      string // GBNF, with %json and %regex; "": free
	N            int    // choices; 0: 1
	BestOf       int    // 0: N
	Logprobs     bool
	TopLogprobs  int       // alternatives per step
	Priority     int       // higher first
	Client       string    // fairness key
	Stream       bool      // events per token; otherwise only stage events and the last
	Search       Search    // of an encoder-decoder
	Pin          string    // the prompt's pages stay under this name, until another request takes it over; "": as others
	Thinking     *Thinking // nil: what is thought is text like any other
}

// Thinking says how a model's family writes what it thinks before it answers, and how much of that there may
// be. The marks are looked for in the bytes of the tokens, those of control tokens included.
type Thinking struct {
	Open  string // the mark that begins a thought, behind blanks at most
	Close string // the mark that ends one
	Again string // what stands between two thoughts, before the second one's Open; "": there is one at most
	Begun bool   // the prompt ends within a thought
	Never bool   // no thought begins: the token that would complete Open is not drawn
	Must  bool   // a thought has its end: CloseIDs are decoded where the model would end its answer within one
	// Budget is how many tokens may be thought, the mark that closes the thought not counted; 0: any number.
	// Where it is spent, CloseIDs are decoded as if they had been sampled; a mark that has begun is waited
	// for.
	Budget   int
	CloseIDs []int32
	// A Grammar that holds the whole answer begins behind the thought, which then ends with its mark in any
	// case, and early enough for the shortest answer. ThenIDs are decoded behind a mark that the model wrote
	// itself.
	ThenIDs []int32
}

// Opens cuts the mark that begins a thought, and what may stand before it, off a text. rest is nil where it
// does not begin with them, and waits then tells whether more of the text is needed to know.
func (t *Thinking) Opens(text []byte) (rest []byte, waits bool) {
	text = bytes.TrimLeft(text, " \t\r\n")
	for _, before := range []string{t.Again, ""} {
		whole := before + t.Open
		if after, ok := bytes.CutPrefix(text, []byte(whole)); ok {
			return after, false
		}
		waits = waits || strings.HasPrefix(whole, string(text))
	}
	return nil, waits
}

// Search says how an encoder-decoder's answers are found. Zero values stand for the settings in the model's files.
type Search struct {
	Beams         int      // 1: none
	LengthPenalty *float64 // the exponent of the length by which a beam's score is divided
	EarlyStopping string   // "true", "false" or "never"
}

// FinishReason says why a choice ended.
type FinishReason string

// The finish reasons.
const (
	FinishStop   FinishReason = "stop"   // end-of-generation token, stop string or stop id
	FinishLength FinishReason = "length" // MaxTokens, or the context is full
)

// TokenLogprob is the raw log-softmax of one sampled token, and of the most likely alternatives.
type TokenLogprob struct {
	ID      int32
	Logprob float32
	Top     []Alternative // TopLogprobs of them, most likely first
}

// Alternative is one candidate of a step.
type Alternative struct {
	ID      int32
	Logprob float32
}

// Event is one thing that happened to a request.
type Event struct {
	Index    int            // choice
	IDs      []int32        // new ids; those of a stop that is cut away are not in here
	Text     string         // new text, whole UTF-8 sequences, never part of a stop string
	Logprobs []TokenLogprob // one per new id, where asked for
	Prefill  *Prefill       // set on prefill progress events, which carry nothing else
	Done     bool           // the last event of the request
	Choices  []Choice       // set when Done: the authority
	Usage    Usage          // set when Done
	Timings  Timings        // set when Done
}

// Prefill is prompt progress, in tokens.
type Prefill struct{ Done, Of int }

// Choice is one finished answer.
type Choice struct {
	Index    int
	IDs      []int32 // GeneratedIDs first
	Text     string
	Finish   FinishReason
	Logprobs []TokenLogprob

	// Of an encoder-decoder: the id that ended it and is not in IDs, and of a search with beams its score.
	// nil: none. They are for who asks a backend, not for the journal.
	End   *int32   `json:"-"`
	Score *float32 `json:"-"`
}

// Usage counts tokens.
type Usage struct {
	PromptTokens     int
	CachedTokens     int // prompt tokens that were not computed anew
	CompletionTokens int // a stopping end-of-generation token counts
	VirtualTokens    int // of PromptTokens: virtual tokens of soft prompts
}

// Timings are the durations of a request inside the backend.
type Timings struct {
	Queue      time.Duration
	FirstToken time.Duration // from arrival to the first sampled token
	Prefill    time.Duration
	Decode     time.Duration
}

// ScoreRequest asks for log-probabilities.
type ScoreRequest struct {
	Lists    [][]int32
	Adapters []AdapterUse
}

// ScoreResult holds ln p(list[i+1] | list[:i+1]) at index i.
type ScoreResult struct{ Logprobs []float32 }

// Stats are counters since the load.
type Stats struct {
	Running       int
	Waiting       int
	KVPages       int // in the pool
	KVPagesUsed   int // held by requests that run
	KVPagesCached int // held by the prefix cache alone: reclaimed when a sequence needs them
	Adapters      int
	AdapterBytes  int64
	PromptTokens  uint64
	DecodedTokens uint64
	PrefixHits    uint64 // requests that found their beginning computed
	PrefixTokens  uint64 // tokens that were not computed therefore
	Steps         uint64 // forward passes: grows while there is work, which is what a watchdog looks at
	ResidentBytes int64
	HeapBytes     int64
	PrefillTime   time.Duration
	DecodeTime    time.Duration

	DraftedTokens  uint64 // guessed next tokens that were computed
	AcceptedTokens uint64 // those of them that were drawn; DecodedTokens counts them too

	// Computed prefixes on disk: what is there, tokens that were read, bytes that were written, damaged files removed.
	PrefixDiskPages   int
	PrefixDiskBytes   int64
	PrefixDiskTokens  uint64
	PrefixDiskWritten uint64
	PrefixDiskDamaged uint64
	PrefixPinnedPages int // of the pool, that pinned prefixes hold

	// Tokens of answers that were held to a grammar, and those among them that it left no choice about.
	ConstrainedTokens uint64
	DecidedTokens     uint64
	ThreadsDecode     int // now: fewer than ModelInfo says while the processor's clock is held down; 0: not told
}

// BenchRequest says what to measure.
type BenchRequest struct {
	PromptTokens int // 0: 512
	GenTokens    int // 0: 128, or what Transcript holds beyond Context
	Repeats      int // 0: 5
	Context      int // decode starts at this position; 0: 1
	// Transcript is decoded as if it were sampled; its first Context ids are computed before the clock runs.
	// Empty: random ids up to Context, and then what the model gives.
	Transcript []int32
	Adapters   []AdapterUse // of all measured tokens; of several, each of Streams answers has one, in turns
	// Streams is how many answers are decoded at once besides, and how long they wait while a prompt of
	// PromptTokens is read; 0: none.
	Streams int
}

// BenchResult holds one value per repeat.
type BenchResult struct {
	PrefillTPS          []float64
	DecodeTPS           []float64
	BandwidthGBps       float64 // 10⁹ bytes per second of a plain sum over the same mapping with the same threads
	WeightBytesPerToken int64
	FirstTokenMS        float64   // of a prompt of PromptTokens
	PlainDecodeTPS      []float64 // without the adapters, in turns with DecodeTPS; nil where there are none

	SingleDecodeTPS []float64 // without guesses, in turns with DecodeTPS; nil where nothing is guessed
	Drafted         int64     // guessed tokens that were computed in all repeats of DecodeTPS
	Accepted        int64     // and those that were drawn
	StreamsTPS      []float64 // of all streams together; nil where the request names none
	PlainStreamsTPS []float64 // of all streams without the adapters, in turns with StreamsTPS; nil where there are none
	StreamsWait     []float64 // the longest wait for a token while the prompt was read, in usual gaps
}
