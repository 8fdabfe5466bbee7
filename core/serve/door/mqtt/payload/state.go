package payload

// The structs of this file are edged's messages about itself. Fields that do not apply stay empty.

// States of a node.
const (
	StateStarting = "starting" // the model is being loaded
	StateReady    = "ready"
	StateDegraded = "degraded" // requests are answered with errors; Reason says why
	StateStopping = "stopping" // nothing new is taken; what runs may end
	StateStopped  = "stopped"  // it was asked to end, and has; a node that was killed keeps its last state, and is "offline"
)

// Status is the retained state of a node.
type Status struct {
	API      int             `json:"api"` // 1; the Door sets it
	Node     string          `json:"node"`
	State    string          `json:"state"`
	Reason   string          `json:"reason,omitempty"`
	Version  string          `json:"version"`
	Model    *StatusModel    `json:"model,omitempty"`
	Backend  *StatusBackend  `json:"backend,omitempty"`
	Adapters []StatusAdapter `json:"adapters"`
	Prompts  []StatusPrompt  `json:"prompts,omitempty"`
	Default  string          `json:"default_adapter,omitempty"` // of requests that name none; "": the bare model
	Queue    StatusQueue     `json:"queue"`
	Group    *StatusGroup    `json:"group,omitempty"` // that it is in; the Door sets it
	Power    *StatusPower    `json:"power,omitempty"` // while the processor's clock is held down
	Since    string          `json:"since"`           // RFC 3339: when the state began, by the machine's clock
}

// StatusGroup is the group that a node is in.
type StatusGroup struct {
	Name   string `json:"name"`
	Reason string `json:"reason,omitempty"` // why it takes nothing of the group's requests; "": it does
}

// StatusModel is the model that is served.
type StatusModel struct {
	Name    string `json:"name"`            // by which requests name it
	Title   string `json:"title,omitempty"` // what its files call it
	Arch    string `json:"arch"`
	Format  string `json:"format"`
	Hash    string `json:"hash,omitempty"`
	Context int    `json:"context"` // tokens
}

// StatusBackend is the plugin that computes.
type StatusBackend struct {
	Name      string `json:"name"`
	Version   string `json:"version,omitempty"`
	Kernels   string `json:"kernels,omitempty"`
	Precision string `json:"precision,omitempty"`
}

// StatusAdapter is one adapter that is served.
type StatusAdapter struct {
	Name       string `json:"name"`
	Generation int    `json:"generation"`
	SHA256     string `json:"sha256"`
}

// StatusPrompt is one prompt that requests may name.
type StatusPrompt struct {
	Name        string   `json:"name"`
	Description string   `json:"description,omitempty"`
	Variables   []string `json:"variables,omitempty"`
	Optional    []string `json:"optional,omitempty"` // those of them that have a default
	SHA256      string   `json:"sha256,omitempty"`   // of the file that is served; "": none is
	Error       string   `json:"error,omitempty"`    // why the file as it is now is not served
}

// StatusPower says what holds the processor's clock down, and what the backend makes of it.
type StatusPower struct {
	Reasons       []string `json:"reasons"`
	ThreadsDecode int      `json:"threads_decode,omitempty"` // now
	ThreadsTuned  int      `json:"threads_tuned,omitempty"`  // otherwise
}

// StatusQueue is how much may wait, not how much does: that is in Stats, which is not retained.
type StatusQueue struct {
	Size    int `json:"size"`
	Running int `json:"running"` // at the same time
}

// Adapter states. Each is about the latest drop; while it settles, is verified or was rejected, an earlier generation may be
// served.
const (
	AdapterSettling  = "settling"  // it changes, waits for its turn, or is not whole: Error says what is missing
	AdapterVerifying = "verifying" // it is being copied and proved
	AdapterActive    = "active"
	AdapterRejected  = "rejected" // Error says why
	AdapterDraining  = "draining" // it was removed, and requests that were admitted before still use it
)

// Adapter is the retained state of one adapter. Generation to Bytes are those of what is served.
type Adapter struct {
	State      string   `json:"state"`
	Generation int      `json:"generation"` // 0: none is served
	SHA256     string   `json:"sha256,omitempty"`
	Kind       string   `json:"kind,omitempty"` // "lora", "dora", "soft_prompt" or a peft_type in small letters
	Rank       int      `json:"rank,omitempty"` // of a soft prompt there is none
	Virtual    int      `json:"virtual_tokens,omitempty"`
	Targets    []string `json:"targets,omitempty"` // modules, such as "q_proj"
	Bytes      int64    `json:"bytes,omitempty"`   // in the backend's memory
	Error      string   `json:"error,omitempty"`
}

// Model states.
const (
	ModelSettling  = "settling"  // it is being copied, or is not whole: Error says what is missing
	ModelAvailable = "available" // a request that names it has it loaded
	ModelLoading   = "loading"
	ModelLoaded    = "loaded"
	ModelUnloading = "unloading"
	ModelRejected  = "rejected" // Error says why
)

// Model is the retained state of one model. Kind to NeedsBytes come from its files.
type Model struct {
	State      string `json:"state"`
	Default    bool   `json:"default,omitempty"` // of requests that name none
	Kind       string `json:"kind,omitempty"`    // "decoder", "encoder", "encoder-decoder"
	Family     string `json:"family,omitempty"`
	Title      string `json:"title,omitempty"`  // what its files call it
	Format     string `json:"format,omitempty"` // of most weights
	Context    int    `json:"context,omitempty"`
	Parameters int64  `json:"parameters,omitempty"`
	Bytes      int64  `json:"bytes,omitempty"`        // of its weights
	Needs      int64  `json:"needs_bytes,omitempty"`  // of memory, at least
	Memory     int64  `json:"memory_bytes,omitempty"` // that is set aside for it while it is loaded
	Error      string `json:"error,omitempty"`
	Note       string `json:"note,omitempty"` // what somebody should know of it though it is served
}

// Stats are figures of the moment.
type Stats struct {
	Node         string   `json:"node"`
	UptimeS      int64    `json:"uptime_s"`
	Waiting      int      `json:"waiting"`
	Running      int      `json:"running"`
	Accepted     uint64   `json:"accepted"` // since the start, as all counters
	Finished     uint64   `json:"finished"`
	Failed       uint64   `json:"failed"`
	Cancelled    uint64   `json:"cancelled"`
	PromptTokens uint64   `json:"prompt_tokens"`
	Tokens       uint64   `json:"tokens"`
	FirstTokenMS float64  `json:"first_token_ms"` // of the latest answer
	DecodeTPS    float64  `json:"decode_tps"`     // of the latest answer
	TokensPerS   float64  `json:"tokens_per_s"`   // written for all answers together, since the stats before
	MemoryBytes  int64    `json:"memory_bytes"`   // resident, daemon and plugins
	CPUTempC     *float64 `json:"cpu_temp_c,omitempty"`
	Throttled    *bool    `json:"throttled,omitempty"`     // the processor's clock is held down, for whatever reason
	UnderVoltage *bool    `json:"under_voltage,omitempty"` // now

	FirstToken StatsHistogram `json:"first_token"`
	Adapters   StatsAdapters  `json:"adapters"`
	Backend    *StatsBackend  `json:"backend,omitempty"` // while it answers
}

// StatsHistogram counts the answers since the start by the time of their first token.
type StatsHistogram struct {
	BoundsMS []float64 `json:"bounds_ms"`
	Counts   []uint64  `json:"counts"` // up to each bound and above the one before; last: above all
	SumMS    float64   `json:"sum_ms"`
}

// StatsBackend are the backend's figures; counters since it has loaded the model.
type StatsBackend struct {
	KVPages       int    `json:"kv_pages"`
	KVPagesUsed   int    `json:"kv_pages_used"`
	KVPagesCached int    `json:"kv_pages_cached"`
	PrefixHits    uint64 `json:"prefix_hits"`
	PrefixTokens  uint64 `json:"prefix_tokens"`
	DiskTokens    uint64 `json:"prefix_disk_tokens"` // read from disk instead of computed
	DiskBytes     int64  `json:"prefix_disk_bytes"`
	Drafted       uint64 `json:"drafted_tokens"`
	Accepted      uint64 `json:"accepted_tokens"` // of those
	Adapters      int    `json:"adapters"`
	AdapterBytes  int64  `json:"adapter_bytes"`
	Steps         uint64 `json:"steps"`
	ThreadsDecode int    `json:"threads_decode,omitempty"`
}

// StatsAdapters counts adapters.
type StatsAdapters struct {
	Served   int    `json:"served"`   // names
	Rejected int    `json:"rejected"` // names whose latest drop was
	Draining int    `json:"draining"` // earlier generations that requests still use
	Swaps    uint64 `json:"swaps"`    // generations that came into service, since the start
	Loaded   int    `json:"loaded"`   // in the backend's memory; the others come when they are asked for
	Bytes    int64  `json:"bytes"`    // of those
}
