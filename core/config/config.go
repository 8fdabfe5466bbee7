// Package config turns config.toml, EDGED_… environment variables and --set flags into typed, validated settings.
//
// Load starts from Default, lays the file over it, then the environment, then the flags, and refuses what it does not
// know: an unknown key, a value of the wrong type or outside its range. Every refusal names
// where the value stands (file and line, variable, or flag), and an unknown key the nearest one there is.
//
// It must not know what a setting does: it opens no model, asks no broker, and of the file system it reads only the
// configuration file itself and, when asked, a secret. Everything here may be called concurrently; a Config is plain
// data that nobody changes after Load.
package config

import (
	"strings"
	"time"
)

// Config holds all settings. Paths are absolute after Load, except where they are empty.
type Config struct {
	File string `toml:"-"` // the file that was loaded; "" where only defaults and overrides are in force

	Node        Node        `toml:"node"`
	MQTT        MQTT        `toml:"mqtt"`
	Group       Group       `toml:"group"`
	Broker      Broker      `toml:"broker"`
	Model       Model       `toml:"model"`
	Models      Models      `toml:"models"`
	Backend     Backend     `toml:"backend"`
	Adapters    Adapters    `toml:"adapters"`
	Sampling    Sampling    `toml:"sampling"`
	Prompts     Prompts     `toml:"prompts"`
	Queue       Queue       `toml:"queue"`
	PrefixCache PrefixCache `toml:"prefix_cache"`
	Draft       Draft       `toml:"draft"`
	Inbox       Inbox       `toml:"inbox"`
	Plugins     Plugins     `toml:"plugins"`
	State       State       `toml:"state"`
	HTTP        HTTP        `toml:"http"`
	Wyoming     Wyoming     `toml:"wyoming"`
	Home        Home        `toml:"homeassistant"`
	Metrics     Metrics     `toml:"metrics"`
	Log         Log         `toml:"log"`
}

// Node says who this machine is.
type Node struct {
	Name          string        `toml:"name"`           // NODE in topics; Load fills in the host's name where it is empty
	ShutdownGrace time.Duration `toml:"shutdown_grace"` // how long running requests may go on after SIGTERM
}

// MQTT is the way to the broker.
type MQTT struct {
	Broker        string        `toml:"broker"`         // "embedded", or a tcp, tls, ws or wss URL
	Listen        string        `toml:"listen"`         // embedded broker: host:port; port 0: any free one
	Username      string        `toml:"username"`       // "": none
	PasswordFile  string        `toml:"password_file"`  // "": no password
	CAFile        string        `toml:"ca_file"`        // PEM; "": the system's authorities
	CertFile      string        `toml:"cert_file"`      // PEM client certificate; "": none
	KeyFile       string        `toml:"key_file"`       // its PEM key
	Base          string        `toml:"base"`           // what every topic begins with; names, with slashes between
	ShareGroup    string        `toml:"share_group"`    // "": none
	ReplyToAllow  []string      `toml:"reply_to_allow"` // topic filters that reply_to must match; none: reply_to is refused
	MaxPayload    Size          `toml:"max_payload"`    // largest request that is read, and largest answer that is sent
	KeepAlive     time.Duration `toml:"keep_alive"`     // whole seconds
	Version       string        `toml:"version"`        // "auto": MQTT 5, or 3.1.1 where the broker does not speak it; "5", "3.1.1"
	SessionExpiry time.Duration `toml:"session_expiry"` // whole seconds; MQTT 5: how long the broker keeps what waits for the node; 0: without end
	DeltaInterval time.Duration `toml:"delta_interval"` // deltas are coalesced over at least this
	StatsInterval time.Duration `toml:"stats_interval"` // of ROOT/stats; 0: none
}

// Group says how the nodes of mqtt.share_group stand in for one another.
type Group struct {
	Takeover time.Duration `toml:"takeover"` // within which the others take over what a dead node had
}

// Embedded reports whether edged brings its own broker.
func (m *MQTT) Embedded() bool { return m.Broker == BrokerEmbedded }

// BrokerEmbedded is the value of mqtt.broker that starts the broker in edged itself.
const BrokerEmbedded = "embedded"

// Broker bounds what the embedded broker bears.
type Broker struct {
	MaxClients       int           `toml:"max_clients"`       // connected at once
	MaxSessions      int           `toml:"max_sessions"`      // connected or remembered
	MaxMemory        Size          `toml:"max_memory"`        // bytes of all that is kept; 0: 24 MiB, or eight packets
	MaxClientMemory  Size          `toml:"max_client_memory"` // of what is kept for one client; 0: a quarter of max_memory
	MaxRetained      int           `toml:"max_retained"`      // retained messages
	MaxQueued        int           `toml:"max_queued"`        // messages that wait for one client
	MaxSubscriptions int           `toml:"max_subscriptions"` // of one client
	MaxLevels        int           `toml:"max_levels"`        // of a topic or a filter
	MaxRate          int           `toml:"max_rate"`          // packets of one client in a second
	WriteTimeout     time.Duration `toml:"write_timeout"`     // a client that takes nothing for so long is disconnected
}

// Model says which weights are served.
type Model struct {
	Path     string `toml:"path"`     // GGUF file or Hugging Face folder
	Head     string `toml:"head"`     // "as-is", "q8_0", "q4_0"
	Quantize string `toml:"quantize"` // "": as stored; "q8_0", "q4_0"
}

// Models is the folder of models that requests may name.
type Models struct {
	Dir     string        `toml:"dir"`     // "": model.path alone is served
	Default string        `toml:"default"` // of requests that name none; "": the one of model.path
	Pinned  []string      `toml:"pinned"`  // never unloaded, once they are loaded
	Settle  time.Duration `toml:"settle"`  // a model is complete when nothing changed for this long
	Rescan  time.Duration `toml:"rescan"`  // the folder is re-read at least this often
}

// Backend says how the model is computed.
type Backend struct {
	Name           string   `toml:"name"`            // "auto", "neon", "generic", or another plugin backend-NAME
	Command        []string `toml:"command"`         // prefix to which the plugin's path is appended
	Context        int      `toml:"context"`         // positions per sequence; 0: the model's own, at most 4096
	KV             string   `toml:"kv"`              // "f32", "f16", "q8_0"
	Precision      string   `toml:"precision"`       // "fast", "exact"
	Tiles          string   `toml:"tiles"`           // "auto", "off": a copy of the weights in another order, in the cache directory
	ThreadsPrefill int      `toml:"threads_prefill"` // 0: tuned
	ThreadsDecode  int      `toml:"threads_decode"`  // 0: tuned
	MaxSequences   int      `toml:"max_sequences"`   // running at once
	KVMemory       Size     `toml:"kv_memory"`       // bytes of the KV page pool; 0: max_sequences × context, bounded by free memory
	MemoryLimit    Size     `toml:"memory_limit"`    // bytes; 0: what the machine has free
	IgnorePlan     bool     `toml:"ignore_plan"`     // load even where the memory plan does not fit
}

// Adapters is the folder of LoRA adapters.
type Adapters struct {
	Dir        string        `toml:"dir"`         // "": no adapters
	Default    string        `toml:"default"`     // used by requests that name none; "": the bare model
	Settle     time.Duration `toml:"settle"`      // a drop is complete when nothing changed for this long
	Rescan     time.Duration `toml:"rescan"`      // the folder is re-read at least this often
	PublicKeys []string      `toml:"public_keys"` // minisign keys; none: signatures are not asked for
	MaxCount   int           `toml:"max_count"`   // adapters in the folder
	MaxSize    Size          `toml:"max_size"`    // of the files of one
	MaxMemory  Size          `toml:"max_memory"`  // of those that the backend holds at once
	Gate       string        `toml:"gate"`        // file, or folder of files by adapter; "": none
	GateMargin float32       `toml:"gate_margin"` // relative rise of the perplexity that passes
}

// Sampling holds what a request gets that does not say otherwise.
type Sampling struct {
	MaxTokens        int     `toml:"max_tokens"`
	Temperature      float32 `toml:"temperature"`
	TopK             int     `toml:"top_k"`
	TopP             float32 `toml:"top_p"`
	MinP             float32 `toml:"min_p"`
	TypicalP         float32 `toml:"typical_p"`
	RepeatPenalty    float32 `toml:"repeat_penalty"`
	PresencePenalty  float32 `toml:"presence_penalty"`
	FrequencyPenalty float32 `toml:"frequency_penalty"`
	PenaltyLastN     int     `toml:"penalty_last_n"`  // tokens looked back at; -1: all
	Thinking         string  `toml:"thinking"`        // "off", "on", or "template": as the model's template does it
	ThinkingBudget   int     `toml:"thinking_budget"` // tokens; 0: any number
}

// Prompts is the folder of prompts with a name.
type Prompts struct {
	Dir    string        `toml:"dir"` // empty: there are none
	Rescan time.Duration `toml:"rescan"`
}

// Queue bounds what waits.
type Queue struct {
	Size        int           `toml:"size"`         // waiting requests
	PerClient   int           `toml:"per_client"`   // of one client, waiting and running
	Deadline    time.Duration `toml:"deadline"`     // of requests that name none; 0: none
	MaxDeadline time.Duration `toml:"max_deadline"` // a request's own deadline is cut to this
}

// PrefixCache keeps computed prompt prefixes.
type PrefixCache struct {
	Enabled          bool     `toml:"enabled"`
	DiskSize         Size     `toml:"disk_size"`           // of state.dir; 0: nothing outlives the process
	DiskWritesPerDay Size     `toml:"disk_writes_per_day"` // in any 24 hours; 0: what is there is only read
	DiskTokens       int      `toml:"disk_tokens"`         // of a prompt that is worth a write before anybody came back to it
	Pinned           []string `toml:"pinned"`              // files of prompts' beginnings that are always warm
}

// Draft guesses next tokens, so that several can be computed at once.
type Draft struct {
	Lookup bool   `toml:"lookup"` // from what the prompt and the answer repeat
	Model  string `toml:"model"`  // a smaller model of the same vocabulary; "": none
}

// Inbox is the store of accepted requests and their last events.
type Inbox struct {
	Store        string        `toml:"store"`         // "disk", "memory"
	DedupeWindow time.Duration `toml:"dedupe_window"` // a repeated id gets the stored last event for this long
}

// Plugins says where the plugin binaries are.
type Plugins struct {
	Dir           string        `toml:"dir"`            // "": beside edged's own binary, then /usr/lib/edged/plugins
	SHA256        []string      `toml:"sha256"`         // "NAME=SUM" of every plugin that may be started; none: any
	HealthTimeout time.Duration `toml:"health_timeout"` // a plugin that does not say for so long that it lives is killed
	StallTimeout  time.Duration `toml:"stall_timeout"`  // and one that has work and makes no progress for so long
}

// Pins are the sums of SHA256 by file name; nil: there are none.
func (p *Plugins) Pins() map[string]string {
	if len(p.SHA256) == 0 {
		return nil
	}
	pins := make(map[string]string, len(p.SHA256))
	for _, entry := range p.SHA256 {
		file, sum, _ := strings.Cut(entry, "=")
		pins[file] = strings.ToLower(sum)
	}
	return pins
}

// State says where edged writes.
type State struct {
	Dir string `toml:"dir"`
}

// HTTP is the listener for programs that talk to OpenAI's or Ollama's servers.
type HTTP struct {
	Listen         string        `toml:"listen"`          // host:port; "": none
	TokenFile      string        `toml:"token_file"`      // "": no credential is asked for
	Page           bool          `toml:"page"`            // a page for people at /
	Upload         bool          `toml:"upload"`          // adapters are taken at /edged/adapters/NAME
	Hosts          []string      `toml:"hosts"`           // names of this node, beside its addresses, localhost and node.name
	MaxBody        Size          `toml:"max_body"`        // largest request that is read
	MaxConnections int           `toml:"max_connections"` // at once
	ReadTimeout    time.Duration `toml:"read_timeout"`    // of a request's headers, and of its body
	WriteTimeout   time.Duration `toml:"write_timeout"`   // of a piece of an answer
	IdleTimeout    time.Duration `toml:"idle_timeout"`    // between two requests of a connection
}

// Wyoming is the listener for voice assistants.
type Wyoming struct {
	Listen    string   `toml:"listen"`    // host:port; "": none
	Allow     []string `toml:"allow"`     // addresses, or networks such as 192.168.1.0/24, that are served beside loopback
	System    string   `toml:"system"`    // what the model is told before each question; "": nothing
	Languages []string `toml:"languages"` // that are told to who asks
}

// Home says what Home Assistant is told, over MQTT.
type Home struct {
	Discovery bool   `toml:"discovery"` // the node appears there as a device
	Prefix    string `toml:"prefix"`    // of its discovery topics
}

// Metrics is the listener for Prometheus and health checks.
type Metrics struct {
	Listen string `toml:"listen"` // host:port of the loopback interface; "": none
	PProf  bool   `toml:"pprof"`  // Go's profiles on it too
}

// Log says what is logged.
type Log struct {
	Level   string `toml:"level"`   // "debug", "info", "warn", "error"
	Format  string `toml:"format"`  // "text", "json"
	Prompts bool   `toml:"prompts"` // prompts and answers too, at debug level
}

// Default returns the settings that are in force where nothing else is said. config.toml in the repository's root shows
// the same values; a test compares the two.
func Default() *Config {
	return &Config{
		Node: Node{ShutdownGrace: 20 * time.Second},
		MQTT: MQTT{
			Broker:        BrokerEmbedded,
			Listen:        "127.0.0.1:1883",
			MaxPayload:    1 << 20,
			KeepAlive:     30 * time.Second,
			Base:          "edged",
			Version:       "auto",
			SessionExpiry: 7 * 24 * time.Hour,
			DeltaInterval: 50 * time.Millisecond,
			StatsInterval: 30 * time.Second,
		},
		Broker: Broker{
			MaxClients:       128,
			MaxSessions:      512,
			MaxRetained:      4096,
			MaxQueued:        2048,
			MaxSubscriptions: 256,
			MaxLevels:        32,
			MaxRate:          2000,
			WriteTimeout:     20 * time.Second,
		},
		Model:   Model{Head: "as-is"},
		Models:  Models{Dir: "/srv/edged/models", Settle: 2 * time.Second, Rescan: 30 * time.Second},
		Backend: Backend{Name: "auto", KV: "f16", Precision: "fast", Tiles: "auto", MaxSequences: 8},
		Adapters: Adapters{
			Dir:        "/srv/edged/adapters",
			Settle:     time.Second,
			Rescan:     30 * time.Second,
			MaxCount:   256,
			MaxSize:    1 << 30,
			MaxMemory:  1 << 30,
			GateMargin: 0.05,
		},
		Sampling: Sampling{
			MaxTokens:     512,
			Temperature:   0.7,
			TopK:          40,
			TopP:          0.95,
			MinP:          0.05,
			TypicalP:      1,
			RepeatPenalty: 1,
			PenaltyLastN:  64,
			Thinking:      "off",
		},
		Prompts: Prompts{Rescan: 30 * time.Second},
		Queue: Queue{
			Size:        64,
			PerClient:   16,
			Deadline:    10 * time.Minute,
			MaxDeadline: time.Hour,
		},
		PrefixCache: PrefixCache{Enabled: true, DiskSize: 1 << 30, DiskWritesPerDay: 2 << 30, DiskTokens: 256},
		Draft:       Draft{Lookup: true},
		Group:       Group{Takeover: 10 * time.Second},
		Inbox:       Inbox{Store: "disk", DedupeWindow: 10 * time.Minute},
		Plugins:     Plugins{HealthTimeout: 15 * time.Second, StallTimeout: 5 * time.Minute},
		HTTP: HTTP{
			Page:           true,
			MaxBody:        1 << 20,
			MaxConnections: 256,
			ReadTimeout:    20 * time.Second,
			WriteTimeout:   30 * time.Second,
			IdleTimeout:    2 * time.Minute,
		},
		State: State{Dir: "/var/lib/edged"},
		Wyoming: Wyoming{
			System:    "Answer in one or two short sentences, which are spoken aloud: no lists, no marks.",
			Languages: []string{"en"},
		},
		Home: Home{Prefix: "homeassistant"},
		Log:  Log{Level: "info", Format: "text"},
	}
}
