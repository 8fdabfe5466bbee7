package mqtt

// The structs of this file are the JSON forms of what edged publishes about itself. Whoever publishes them fills in what
// applies; docs/mqtt.schema.json describes them.

// States of a node.
const (
	StateStarting = "starting" // the model is being loaded
	StateReady    = "ready"
	StateDegraded = "degraded" // requests are answered with errors; Reason says why
	StateStopping = "stopping"
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
	Queue    StatusQueue     `json:"queue"`
	Since    string          `json:"since"` // RFC 3339: when the state began, by the machine's clock
}

// StatusModel is the model that is served.
type StatusModel struct {
	Name    string `json:"name"`
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

// StatusQueue is how much may wait, not how much does: that is in Stats, which is not retained.
type StatusQueue struct {
	Size    int `json:"size"`
	Running int `json:"running"` // at the same time
}

// Adapter states.
const (
	AdapterReady    = "ready"
	AdapterLoading  = "loading"
	AdapterRejected = "rejected" // Error says why; an earlier generation may still be served
)

// Adapter is the retained state of one adapter.
type Adapter struct {
	State      string `json:"state"`
	Generation int    `json:"generation"` // 0: none is served
	SHA256     string `json:"sha256,omitempty"`
	Rank       int    `json:"rank,omitempty"`
	Error      string `json:"error,omitempty"`
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
	MemoryBytes  int64    `json:"memory_bytes"`   // resident, daemon and plugins
	CPUTempC     *float64 `json:"cpu_temp_c,omitempty"`
	Throttled    *bool    `json:"throttled,omitempty"`
}
