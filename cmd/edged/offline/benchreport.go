package offline

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"edged/cmd/edged/cli"
	"edged/core/protocol/backend"
	"edged/core/version"
)

// benchReport is the answer of --json: its names are kept.
type benchReport struct {
	Edged        string       `json:"edged"`
	Time         string       `json:"time"`
	Machine      machineJSON  `json:"machine"`
	Model        benchedModel `json:"model"`
	Threads      int          `json:"threads"` // of decode
	Prefillers   int          `json:"threads_prefill"`
	Precision    string       `json:"precision"`
	KV           string       `json:"kv"`
	Adapters     int          `json:"adapters"`
	PromptTokens int          `json:"prompt_tokens"`
	GenTokens    int          `json:"gen_tokens"`
	Context      int          `json:"context"` // where decode starts
	Transcript   string       `json:"transcript,omitempty"`

	PrefillTPS   []float64 `json:"prefill_tps"`
	DecodeTPS    []float64 `json:"decode_tps"`
	PlainTPS     []float64 `json:"plain_decode_tps,omitempty"`
	SingleTPS    []float64 `json:"single_decode_tps,omitempty"`
	Drafted      int64     `json:"drafted,omitempty"`
	Accepted     int64     `json:"accepted,omitempty"`
	Streams      int       `json:"streams,omitempty"`
	StreamsTPS   []float64 `json:"streams_tps,omitempty"`
	StreamsWait  []float64 `json:"streams_wait,omitempty"`
	PlainStreams []float64 `json:"plain_streams_tps,omitempty"`
	Bandwidth    float64   `json:"bandwidth_gbps"`
	BytesPerStep int64     `json:"weight_bytes_per_token"`
	FirstToken   float64   `json:"first_token_ms"`
	Percent      float64   `json:"decode_percent_of_bandwidth"`
	Load         float64   `json:"load_ms"` // both plugins, from start to ready
}

type machineJSON struct {
	CPU      string   `json:"cpu"`
	Cores    int      `json:"cores"`
	Platform string   `json:"platform"`
	Backend  string   `json:"backend"`
	Kernels  []string `json:"kernels"`
	Features []string `json:"features"`
}

type benchedModel struct {
	Name       string `json:"name"`
	File       string `json:"file"`
	Hash       string `json:"hash"`
	Arch       string `json:"arch"`
	Format     string `json:"format"`
	Bytes      int64  `json:"bytes"`
	Parameters int64  `json:"parameters"`
}

func (out *benchReport) fill(f *benchFlags, m backend.ModelInfo, d backend.Description, r backend.BenchResult) {
	out.Edged, out.Time = version.Version, time.Now().UTC().Format(time.RFC3339)
	out.Machine = machineJSON{
		CPU: cpuName("/proc/cpuinfo", "/proc/device-tree/model"), Cores: runtime.NumCPU(), Platform: runtime.GOOS + "/" + runtime.GOARCH,
		Backend: d.Name, Kernels: d.Kernels, Features: d.Features,
	}
	out.Model = benchedModel{
		Name: m.Name, File: filepath.Base(filepath.Clean(f.Path)), Hash: m.Hash, Arch: m.Arch, Format: m.Format,
		Bytes: m.Plan.Weights + m.Plan.Derived, Parameters: m.Parameters,
	}
	out.Threads, out.Prefillers = m.ThreadsDecode, m.ThreadsPrefill
	out.Precision, out.KV = string(m.Precision), m.KVType
	out.Adapters = len(f.request.Adapters)
	out.PromptTokens, out.GenTokens, out.Context = f.request.PromptTokens, f.request.GenTokens, f.request.Context
	switch {
	case out.GenTokens > 0:
	case len(f.request.Transcript) > 0:
		out.GenTokens = len(f.request.Transcript) - out.Context
	default:
		out.GenTokens = usualGen
	}
	if f.transcript != "" {
		out.Transcript = filepath.Base(f.transcript)
	}
	out.PrefillTPS, out.DecodeTPS, out.PlainTPS = r.PrefillTPS, r.DecodeTPS, r.PlainDecodeTPS
	out.Bandwidth, out.BytesPerStep, out.FirstToken = r.BandwidthGBps, r.WeightBytesPerToken, r.FirstTokenMS
	out.SingleTPS, out.Drafted, out.Accepted = r.SingleDecodeTPS, r.Drafted, r.Accepted
	out.Streams, out.StreamsTPS, out.StreamsWait = f.request.Streams, r.StreamsTPS, r.StreamsWait
	out.PlainStreams = r.PlainStreamsTPS
	if r.BandwidthGBps > 0 {
		out.Percent = 100 * median(out.single()) * float64(r.WeightBytesPerToken) / 1e9 / r.BandwidthGBps
	}
}

// single is decoding one token at a time.
func (out *benchReport) single() []float64 {
	if len(out.SingleTPS) > 0 {
		return out.SingleTPS
	}
	return out.DecodeTPS
}

// picture draws the report: a bar for each speed, as long as its share of the greatest one, and the limit of decode.
func (out *benchReport) picture() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s, %s, %.0f MB, %s threads, %s\n%s\n\n", out.Model.Name, out.Model.Format, float64(out.Model.Bytes)/1e6,
		threadsText(out.Prefillers, out.Threads), strings.Join(out.Machine.Kernels, " "), out.Machine.CPU)
	most := max(median(out.PrefillTPS), median(out.DecodeTPS))
	if out.Streams > 0 {
		most = max(most, median(out.StreamsTPS))
	}
	if len(out.PlainStreams) > 0 {
		most = max(most, median(out.PlainStreams))
	}
	line := func(name string, tps []float64) {
		m := median(tps)
		fmt.Fprintf(&b, "  %-16s %s %8.1f tokens/s   (%.1f to %.1f)\n", name, cells(m/most), m, slices.Min(tps), slices.Max(tps))
	}
	line(fmt.Sprintf("prefill %d", out.PromptTokens), out.PrefillTPS)
	line(fmt.Sprintf("decode %d", out.GenTokens), out.DecodeTPS)
	if len(out.PlainTPS) > 0 {
		line("without adapter", out.PlainTPS)
	}
	if len(out.SingleTPS) > 0 {
		line("without guesses", out.SingleTPS)
	}
	if out.Streams > 0 {
		line(fmt.Sprintf("%d streams", out.Streams), out.StreamsTPS)
		if len(out.PlainStreams) > 0 {
			line("without adapters", out.PlainStreams)
		}
	}
	fmt.Fprintf(&b, "  %-16s %8.0f ms\n", "first token", out.FirstToken)
	if len(out.SingleTPS) > 0 {
		fmt.Fprintf(
			&b,
			"  %-16s %8.2f × as fast; %d guessed, %d of them right\n",
			"with guesses",
			median(out.DecodeTPS)/median(out.SingleTPS),
			out.Drafted,
			out.Accepted,
		)
	}
	if out.Streams > 0 {
		fmt.Fprintf(&b, "  %-16s %8.2f × one stream; while a prompt is read, a token waits %.1f usual gaps at most\n", "streams",
			median(out.StreamsTPS)/median(out.single()), slices.Max(out.StreamsWait))
	}
	if out.Bandwidth > 0 {
		fmt.Fprintf(&b, "\n  %-16s %s %8.1f %% of what reading alone allows\n", "decode", cells(out.Percent/100), out.Percent)
		fmt.Fprintf(&b, "  a token reads %.1f MB of weights; this machine reads %.1f GB/s: at most %.1f tokens/s\n",
			float64(out.BytesPerStep)/1e6, out.Bandwidth, out.Bandwidth*1e9/float64(max(out.BytesPerStep, 1)))
	}
	return b.String()
}

// threadsText is "2", or "4 and 2" where prefill and decode differ.
func threadsText(prefill, decode int) string {
	if prefill == decode {
		return strconv.Itoa(decode)
	}
	return fmt.Sprintf("%d and %d", prefill, decode)
}

// cells is a bar that is filled to a share of 0 to 1.
func cells(share float64) string {
	n := 0
	if share > 0 {
		n = int(min(share, 1)*cli.BarWidth + 0.5)
	}
	return "[" + strings.Repeat("#", n) + strings.Repeat(".", cli.BarWidth-n) + "]"
}

// cpuName is how the system names its processor, and the board where there is a name of one.
func cpuName(cpuinfo, board string) string {
	text, _ := os.ReadFile(cpuinfo) // without it the name is not known, which is no error
	fields := map[string]string{}
	for line := range strings.Lines(string(text)) {
		k, v, ok := strings.Cut(line, ":")
		if k = strings.TrimSpace(k); ok && fields[k] == "" {
			fields[k] = strings.TrimSpace(v)
		}
	}
	name := fields["model name"]
	switch {
	case name != "" && fields["cpu family"] != "":
		name += " (family " + fields["cpu family"] + " model " + fields["model"] + ")"
	case name == "" && fields["CPU part"] != "":
		name = "CPU part " + fields["CPU part"] + " of implementer " + fields["CPU implementer"]
	case name == "":
		name = runtime.GOARCH
	}
	if model, err := os.ReadFile(board); err == nil {
		name = strings.TrimRight(string(model), "\x00\n") + ", " + name
	}
	return name
}

// median of x, which is not empty.
func median(x []float64) float64 {
	x = slices.Sorted(slices.Values(x))
	return (x[(len(x)-1)/2] + x[len(x)/2]) / 2
}
