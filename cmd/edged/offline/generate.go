package offline

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
	"edged/core/protocol/tokenizer"
	"edged/core/serve/languages"
)

type generateFlags struct {
	modelFlags
	settings settings // of the command line; --batch lines override them
	prompt   string
	file     string
	ids      string
	chat     bool
	batch    string
	parallel int
	output   string
	bias     []string
	grammar  string // file
	schema   string // file
	regex    string
	limited  bool // --max-tokens was given
	early    string
	penalty  float64
	beams    int
}

// settings are the parameters of one generation, by the names of the MQTT API.
type settings struct {
	MaxTokens        int      `json:"max_tokens"`
	Temperature      float32  `json:"temperature"`
	TopK             int      `json:"top_k"`
	TopP             float32  `json:"top_p"`
	MinP             float32  `json:"min_p"`
	TypicalP         float32  `json:"typical_p"`
	RepeatPenalty    float32  `json:"repeat_penalty"`
	PresencePenalty  float32  `json:"presence_penalty"`
	FrequencyPenalty float32  `json:"frequency_penalty"`
	PenaltyLastN     int      `json:"penalty_last_n"`
	LogitBias        biases   `json:"logit_bias"`
	Seed             *uint64  `json:"seed"`
	Stop             []string `json:"stop"`
	StopIDs          []int32  `json:"stop_ids"`
	IgnoreEOS        bool     `json:"ignore_eos"`
	Logprobs         *int     `json:"logprobs"` // alternatives of each step; nil: no log-probabilities
	N                int      `json:"n"`
	BestOf           int      `json:"best_of"`
	Grammar          string   `json:"grammar"`

	// Of an encoder-decoder; nil: as its files say.
	NumBeams      *int            `json:"num_beams"`
	LengthPenalty *float64        `json:"length_penalty"`
	EarlyStopping json.RawMessage `json:"early_stopping"`
	Source        string          `json:"source_lang"`
	Target        string          `json:"target_lang"`
	crossed       bool            // the model is one: max_tokens 0 is as its files say

	ResponseFormat json.RawMessage `json:"response_format"`
}

type biases map[int32]float32

func (a *app) generateCommand() *cobra.Command {
	var f generateFlags
	logprobs, seed := -1, ""
	var stopIDs string
	var c *cobra.Command
	c = &cobra.Command{
		Use:     "generate --model PATH (--prompt TEXT | --file FILE | --ids 1,2,3 | --batch FILE.jsonl)",
		GroupID: "offline",
		Short:   "Continue a text, without a service",
		Long: `Loads a model into plugins of its own and continues a prompt, greedily unless --temperature is given.

The prompt is a text (--chat: a user's message, put through the model's chat template) or token ids. BOS is added to a text where the
model wants it, never to ids. A generation ends at --max-tokens, at the model's end-of-generation token (not with --ignore-eos), at a
--stop text or id, or when the context is full. The same seed gives the same tokens, whatever else runs.

  --output text   the text as it comes (the default)
  --output ids    the new ids only, separated by commas, on one line
  --output json   one object: ids, text, finish_reason, usage, and logprobs where asked for

--batch reads JSON Lines: objects with "ids", "prompt" or "messages", and settings of that line by the names of the MQTT API
(max_tokens, temperature, top_k, top_p, min_p, typical_p, repeat_penalty, presence_penalty, frequency_penalty, penalty_last_n,
logit_bias, seed, stop, stop_ids, ignore_eos, logprobs, grammar, response_format, and tools and template_vars for messages). For each it writes one JSON object, in the
order of the input; a line that fails gives {"error":"…"}, and the exit code is 1 at the end.

Of an encoder-decoder (T5, Marian, BART and their kin) the prompt is the text to answer, and "ids" are its tokens with the end token
behind them. "ids" of the answer are all that the decoder gave but its start token, the end token included. Answers are found as the
model's generation_config.json says, and --num-beams, --length-penalty and --early-stopping (in --batch num_beams, length_penalty,
early_stopping: true, false or "never") say otherwise; with beams "score" is the sum of the log-probabilities over
length^length_penalty. Without --max-tokens the files' own limit counts. --source-lang and --target-lang (source_lang, target_lang) name
languages where the model's tokenizer knows them: see edged translate, the friendly form of this.

"logprobs":[{"id","logprob","top":[{"id","logprob"},…]},…] has one entry a step: the natural logarithm of the softmax of the raw logits.`,
		Example: `  edged generate --model m.gguf --chat --prompt "Turn on the light." --max-tokens 60
  edged generate --model base/ --adapter pirate/ --ids 1,15043,29892 --max-tokens 32 --output ids
  edged generate --model m.gguf --batch prompts.jsonl --logprobs 5 > answers.jsonl`,
		Args: cobra.NoArgs,
		RunE: a.Do(func(ctx context.Context, _ []string) error {
			if err := f.search(c.Flags().Changed); err != nil {
				return err
			}
			if err := f.parse(logprobs, seed, stopIDs); err != nil {
				return err
			}
			if err := a.readForm(&f); err != nil {
				return err
			}
			return a.generate(ctx, &f)
		}),
	}
	f.Register(c)
	fl := c.Flags()
	s := &f.settings
	fl.StringVarP(&f.prompt, "prompt", "p", "", "the text to continue")
	fl.StringVar(&f.file, "file", "", "read the text from a file; - is standard input")
	fl.StringVar(&f.ids, "ids", "", "token ids to continue, separated by commas")
	fl.BoolVar(&f.chat, "chat", false, "the prompt is a user's message: use the model's chat template")
	fl.StringVar(&f.batch, "batch", "", "read prompts from a JSON Lines file; - is standard input")
	fl.IntVar(&f.parallel, "parallel", 4, "lines of --batch that are computed at once")
	fl.StringVarP(&f.output, "output", "o", "text", "text, ids or json")
	fl.IntVarP(&s.MaxTokens, "max-tokens", "n", 256, "new tokens at most")
	fl.Float32Var(&s.Temperature, "temperature", 0, "0 takes the most likely token; higher is more varied")
	fl.IntVar(&s.TopK, "top-k", 0, "sample from the k most likely tokens (0: from all)")
	fl.Float32Var(&s.TopP, "top-p", 1, "sample from the most likely tokens that have this probability together (1: from all)")
	fl.Float32Var(&s.MinP, "min-p", 0, "drop tokens below this share of the most likely one's probability")
	fl.Float32Var(&s.TypicalP, "typical-p", 1, "locally typical sampling (1: off)")
	fl.Float32Var(&s.RepeatPenalty, "repeat-penalty", 1, "divide the logits of recent tokens (1: off)")
	fl.Float32Var(&s.PresencePenalty, "presence-penalty", 0, "subtract from the logits of recent tokens")
	fl.Float32Var(&s.FrequencyPenalty, "frequency-penalty", 0, "subtract for each time a token appeared recently")
	fl.IntVar(&s.PenaltyLastN, "penalty-last-n", 64, "tokens that count as recent (-1: all)")
	fl.StringArrayVar(&f.bias, "logit-bias", nil, "ID=BIAS added to a token's logit; may be repeated")
	fl.StringVar(&seed, "seed", "", "random seed (default: drawn, and shown with --output json)")
	fl.StringArrayVar(&s.Stop, "stop", nil, "end before this text; may be repeated")
	fl.StringVar(&stopIDs, "stop-ids", "", "end at one of these token ids, separated by commas")
	fl.BoolVar(&s.IgnoreEOS, "ignore-eos", false, "go on after an end-of-generation token")
	fl.StringVar(&f.grammar, "grammar", "", "hold the answer to the GBNF grammar in a file; - is standard input")
	fl.StringVar(&f.schema, "json-schema", "", "hold the answer to the JSON Schema in a file; - is standard input")
	fl.StringVar(&f.regex, "regex", "", "hold the answer to a regular expression, which must match all of it")
	fl.IntVar(&f.beams, "num-beams", 0, "beams of an encoder-decoder's search, 1 for none (default: as the model's files say)")
	fl.Float64Var(
		&f.penalty,
		"length-penalty",
		1,
		"exponent of the length by which a beam's score is divided (default: as the model's files say)",
	)
	fl.StringVar(
		&f.early,
		"early-stopping",
		"",
		"end a search once as many answers have ended as there are beams: true, false or never (default: as the model's files say)",
	)
	fl.StringVar(&s.Source, "source-lang", "", "language of the prompt, for a model that translates")
	fl.StringVar(&s.Target, "target-lang", "", "language of the answer, for a model that translates")
	fl.IntVar(&logprobs, "logprobs", -1, "give log-probabilities with this many alternatives a step (0: of the chosen token only)")
	return c
}

// search reads the flags of an encoder-decoder's search; changed tells those that were given.
func (f *generateFlags) search(changed func(string) bool) error {
	f.limited = changed("max-tokens")
	s := &f.settings
	if changed("num-beams") {
		s.NumBeams = &f.beams
	}
	if changed("length-penalty") {
		s.LengthPenalty = &f.penalty
	}
	if changed("early-stopping") {
		s.EarlyStopping = json.RawMessage(f.early)
	}
	return cli.OneOf("early-stopping", f.early, []string{"", "true", "false", "never"})
}

// searches reports whether an encoder-decoder's search is asked for.
func (s *settings) searches() bool {
	return s.NumBeams != nil || s.LengthPenalty != nil || len(s.EarlyStopping) > 0
}

// errSearch refuses the settings of beam search for a decoder.
var errSearch = errors.New(
	"num_beams, length_penalty and early_stopping: the model is no encoder-decoder, and its answers are drawn one token after the other",
)

// parse reads the flags that are more than one value.
func (f *generateFlags) parse(logprobs int, seed, stopIDs string) error {
	if err := cli.OneOf("output", f.output, []string{"text", "ids", "json"}); err != nil {
		return err
	}
	s := &f.settings
	if logprobs >= 0 {
		s.Logprobs = &logprobs
	}
	if seed != "" {
		n, err := strconv.ParseUint(seed, 10, 64)
		if err != nil {
			return cli.Usagef("--seed %q is not a whole number from 0", seed)
		}
		s.Seed = &n
	}
	if stopIDs != "" {
		ids, err := parseIDs(stopIDs)
		if err != nil {
			return err
		}
		s.StopIDs = ids
	}
	for _, b := range f.bias {
		id, value, _ := strings.Cut(b, "=")
		n, err1 := strconv.ParseInt(id, 10, 32)
		v, err2 := strconv.ParseFloat(value, 32)
		if err1 != nil || err2 != nil || n < 0 || math.IsNaN(v) {
			return cli.Usagef("--logit-bias %q is not ID=BIAS", b)
		}
		if s.LogitBias == nil {
			s.LogitBias = biases{}
		}
		s.LogitBias[int32(n)] = float32(v)
	}
	if f.parallel < 1 || f.parallel > 64 {
		return cli.Usagef("--parallel %d is outside 1 to 64", f.parallel)
	}
	given := cli.CountSet(f.prompt, f.file, f.ids, f.batch)
	switch {
	case given != 1:
		return cli.Usagef("give one of --prompt, --file, --ids and --batch")
	case f.chat && f.ids != "":
		return cli.Usagef("--chat needs a text, not --ids")
	}
	return s.check()
}

// check refuses values that mean nothing.
func (s *settings) check() error {
	if s.MaxTokens < 1 && !(s.crossed && s.MaxTokens == 0) {
		return cli.Usagef("max_tokens: %d is below 1", s.MaxTokens)
	}
	if s.Logprobs != nil && (*s.Logprobs < 0 || *s.Logprobs > 1000) {
		return cli.Usagef("logprobs: %d is outside 0 to 1000", *s.Logprobs)
	}
	if s.N > 1 || s.BestOf > 1 {
		return cli.Usagef("n and best_of: one answer a line is given here")
	}
	if n := s.NumBeams; n != nil && (*n < 1 || *n > 64) {
		return cli.Usagef("num_beams: %d is outside 1 to 64", *n)
	}
	if _, err := s.early(); err != nil {
		return err
	}
	if s.TopK < 0 {
		return cli.Usagef("top_k: %d is below 0", s.TopK)
	}
	for _, f := range []struct {
		name        string
		value       float32
		least, most float32
	}{
		{"temperature", s.Temperature, 0, 100},
		{"top_p", s.TopP, 0, 1},
		{"min_p", s.MinP, 0, 1},
		{"typical_p", s.TypicalP, 0, 1},
		{"repeat_penalty", s.RepeatPenalty, 0, 100},
		{"presence_penalty", s.PresencePenalty, -100, 100},
		{"frequency_penalty", s.FrequencyPenalty, -100, 100},
	} {
		if !(f.value >= f.least && f.value <= f.most) {
			return cli.Usagef("%s: %v is outside %v to %v", f.name, f.value, f.least, f.most)
		}
	}
	if slices.Contains(s.Stop, "") {
		return cli.Usagef("stop: a text is empty")
	}
	_, err := s.form()
	return err
}

// early returns the mode of early stopping: what a search does once as many answers have ended as it has
// beams; "": as the model's files say.
func (s *settings) early() (string, error) {
	text := strings.Trim(string(s.EarlyStopping), `"`)
	switch text {
	case "", "true", "false", "never":
		return text, nil
	case "null":
		return "", nil
	}
	return "", cli.Usagef(`early_stopping: %.40s is none of true, false and "never"`, s.EarlyStopping)
}

// request builds the backend's request from the settings.
func (s *settings) request(prompt []int32, adapters []backend.AdapterUse) backend.Request {
	seed := rand.Uint64() >> 11 // 53 bits, so that JSON readers keep it
	if s.Seed != nil {
		seed = *s.Seed
	}
	r := backend.Request{
		ID: "cli", PromptIDs: prompt, Adapters: adapters,
		Sampling: backend.Sampling{
			Temperature: s.Temperature, TopK: s.TopK, TopP: s.TopP, MinP: s.MinP, TypicalP: s.TypicalP,
			RepeatPenalty: s.RepeatPenalty, PresencePenalty: s.PresencePenalty, FrequencyPenalty: s.FrequencyPenalty,
			PenaltyLastN: s.PenaltyLastN, LogitBias: s.LogitBias, Seed: seed,
		},
		MaxTokens: s.MaxTokens, Stop: s.Stop, StopIDs: s.StopIDs, IgnoreEOS: s.IgnoreEOS,
	}
	r.Search.LengthPenalty = s.LengthPenalty
	if s.NumBeams != nil {
		r.Search.Beams = *s.NumBeams
	}
	r.Search.EarlyStopping, _ = s.early()  // check has seen it
	if form, err := s.form(); err == nil { // check has seen it
		r.Grammar = form
	}
	if s.Logprobs != nil {
		r.Logprobs, r.TopLogprobs = true, *s.Logprobs
	}
	return r
}

func (a *app) generate(ctx context.Context, f *generateFlags) error {
	sequences := 1
	if f.batch != "" {
		sequences = f.parallel
	}
	text := f.prompt
	if f.file != "" {
		data, err := a.ReadAll(f.file)
		if err != nil {
			return err
		}
		text = string(data)
	}
	var ids []int32
	if f.ids != "" {
		var err error
		if ids, err = parseIDs(f.ids); err != nil {
			return err
		}
	}
	s, err := f.open(ctx, f.Log(a.Err), sequences)
	if err != nil {
		return err
	}
	defer s.Close()
	if s.Crossed() {
		if f.settings.crossed = true; !f.limited {
			f.settings.MaxTokens = 0
		}
	} else if f.settings.searches() {
		return errSearch
	}
	if f.batch != "" {
		return a.generateBatch(ctx, s, f)
	}
	var first []int32
	switch {
	case f.settings.translates():
		if ids != nil || f.chat {
			return cli.Usagef("--target-lang: only a text is translated, not --ids nor --chat")
		}
		if ids, first, err = s.translated(ctx, text, &f.settings); err != nil {
			return s.Dead(err)
		}
	case ids == nil:
		if ids, err = s.promptIDs(ctx, text, f.chat); err != nil {
			return s.Dead(err)
		}
	}
	req := f.settings.request(ids, s.Adapters)
	req.ForcedIDs = first
	var stream io.Writer
	if f.output == "text" {
		req.Stream, stream = true, a.Out
	}
	last, err := s.Run(ctx, req, stream)
	if err != nil {
		return s.Dead(err)
	}
	switch f.output {
	case "ids":
		_, err = fmt.Fprintln(a.Out, joinIDs(result(last, req).IDs))
	case "json":
		err = cli.Encoder(a.Out).Encode(withSeed(result(last, req), req.Sampling.Seed, s.Model.Name))
	default:
		if !strings.HasSuffix(last.Choices[0].Text, "\n") {
			_, err = fmt.Fprintln(a.Out)
		}
	}
	return err
}

// translates tells whether languages are named.
func (s *settings) translates() bool { return s.Source != "" || s.Target != "" }

// translated encodes a text that is to be translated; first is what the answer has to begin with.
func (s *session) translated(ctx context.Context, text string, by *settings) (ids, first []int32, err error) {
	in, err := languages.Encode(ctx, s.Tokenizer, &s.Model, &s.Text, text, by.Source, by.Target)
	return in.IDs, in.First, err
}

// promptIDs encodes a text as the model wants it: through its chat template, or as it is with BOS where that is due.
func (s *session) promptIDs(ctx context.Context, text string, chat bool) ([]int32, error) {
	if !chat {
		return s.EncodeOne(ctx, text, tokenizer.Flags{AddSpecial: true})
	}
	if s.Text.ChatTemplate == "" {
		return nil, errors.New("--chat: this model has no chat template")
	}
	messages, err := json.Marshal([]map[string]string{{"role": "user", "content": text}})
	if err != nil {
		return nil, err
	}
	out, err := s.Tokenizer.EncodeChat(ctx, tokenizer.Chat{Messages: messages})
	return out.IDs, err
}

// answer is a generation as JSON. The fields of a batch are fixed; a single one also tells its seed and model.
type answer struct {
	IDs          []int32   `json:"ids"`
	Text         string    `json:"text"`
	FinishReason string    `json:"finish_reason"`
	Score        *number   `json:"score,omitempty"` // of a search with beams
	Usage        usageJSON `json:"usage"`
	Logprobs     *[]step   `json:"logprobs,omitempty"` // nil: not asked for
	Seed         *uint64   `json:"seed,omitempty"`
	Model        string    `json:"model,omitempty"`
}

type usageJSON struct {
	PromptTokens     int `json:"prompt_tokens"`
	CachedTokens     int `json:"cached_tokens"`
	CompletionTokens int `json:"completion_tokens"`
	VirtualTokens    int `json:"virtual_tokens,omitempty"`
}

type step struct {
	ID      int32         `json:"id"`
	Logprob number        `json:"logprob"`
	Top     []alternative `json:"top"`
}

type alternative struct {
	ID      int32  `json:"id"`
	Logprob number `json:"logprob"`
}

// number is a log-probability: JSON has no infinities, and a token that cannot be sampled has minus infinity.
type number float32

// MarshalJSON writes the shortest decimal that reads back as the same float32.
func (n number) MarshalJSON() ([]byte, error) {
	v := float64(n)
	if math.IsInf(v, -1) || math.IsNaN(v) {
		v = -math.MaxFloat32
	}
	return strconv.AppendFloat(nil, v, 'g', -1, 32), nil
}

func result(ev *backend.Event, req backend.Request) answer {
	c := ev.Choices[0]
	out := answer{
		IDs: c.IDs, Text: c.Text, FinishReason: string(c.Finish),
		Usage: usageJSON{ev.Usage.PromptTokens, ev.Usage.CachedTokens, ev.Usage.CompletionTokens, ev.Usage.VirtualTokens},
	}
	if c.End != nil { // of an encoder-decoder: all that the decoder gave
		out.IDs = append(slices.Clone(c.IDs), *c.End)
	}
	if c.Score != nil {
		score := number(*c.Score)
		out.Score = &score
	}
	if out.IDs == nil {
		out.IDs = []int32{}
	}
	if !req.Logprobs {
		return out
	}
	steps := []step{}
	for _, l := range c.Logprobs {
		s := step{ID: l.ID, Logprob: number(l.Logprob), Top: []alternative{}}
		for _, t := range l.Top {
			s.Top = append(s.Top, alternative{t.ID, number(t.Logprob)})
		}
		steps = append(steps, s)
	}
	out.Logprobs = &steps
	return out
}

func withSeed(a answer, seed uint64, model string) answer {
	a.Seed, a.Model = &seed, model
	return a
}
