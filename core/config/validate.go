package config

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"net/url"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// problem is one thing that is wrong with a setting.
type problem struct{ key, why string }

// Validate checks every value against its range and the values against each other. Load has done so already; it is
// for a Config made in code. It does not look at the file system.
func (c *Config) Validate() error {
	problems := c.problems()
	errs := make([]error, 0, len(problems))
	for _, p := range problems {
		errs = append(errs, fmt.Errorf("config: %s: %s", p.key, p.why))
	}
	return errors.Join(errs...)
}

// Servable says what is missing to serve: settings that have no default, and that only `edged run` needs.
func (c *Config) Servable() error {
	if c.Model.Path == "" && c.Models.Default == "" {
		where := c.File
		if where == "" {
			where = "no configuration file"
		}
		return fmt.Errorf(
			"config: %s: model.path: is not set: name a .gguf file or a Hugging Face folder, or set models.default to a model of models.dir",
			where,
		)
	}
	return nil
}

func (c *Config) problems() []problem {
	var v validator
	v.node(&c.Node)
	v.mqtt(&c.MQTT)
	v.broker(&c.Broker)
	v.model(&c.Model)
	v.models(&c.Models)
	v.backend(&c.Backend)
	v.adapters(&c.Adapters, &c.State)
	v.sampling(&c.Sampling)
	v.prompts(&c.Prompts)
	v.queue(&c.Queue)
	v.prefixCache(&c.PrefixCache)
	v.oneOf("inbox.store", c.Inbox.Store, "disk", "memory")
	v.duration("group.takeover", c.Group.Takeover, 2*time.Second, time.Hour)
	v.duration("inbox.dedupe_window", c.Inbox.DedupeWindow, 0, 24*time.Hour)
	v.plugins(&c.Plugins)
	if c.State.Dir == "" {
		v.add("state.dir", "is empty: name a folder that edged may write to")
	}
	v.http(&c.HTTP)
	if c.HTTP.Upload && c.Adapters.Dir == "" {
		v.add("http.upload", "needs adapters.dir, the folder that adapters are put into")
	}
	v.wyoming(&c.Wyoming)
	if p := c.Home.Prefix; p == "" || len(p) > 256 || strings.ContainsAny(p, "+#$") || strings.HasPrefix(p, "/") ||
		strings.HasSuffix(p, "/") ||
		strings.HasPrefix(p, "edged") {
		v.add("homeassistant.prefix", "%q is no beginning of a topic such as homeassistant", oneLine(p))
	}
	v.metrics(&c.Metrics)
	v.oneOf("log.level", c.Log.Level, "debug", "info", "warn", "error")
	v.oneOf("log.format", c.Log.Format, "text", "json")
	if c.Log.Prompts && c.Log.Level != "debug" {
		v.add("log.prompts", "prompts are logged at debug level: set log.level = \"debug\" too")
	}
	return v.problems
}

// validator collects problems.
type validator struct{ problems []problem }

func (v *validator) add(key, format string, args ...any) {
	v.problems = append(v.problems, problem{key, fmt.Sprintf(format, args...)})
}

func (v *validator) node(n *Node) {
	if n.Name != "" && !ValidName(n.Name) {
		v.add("node.name", "%q must match "+NamePattern, oneLine(n.Name))
	}
	v.duration("node.shutdown_grace", n.ShutdownGrace, 0, 10*time.Minute)
}

func (v *validator) mqtt(m *MQTT) {
	secure := false
	if m.Embedded() {
		v.embedded(m)
	} else {
		secure = v.brokerURL(m.Broker)
	}
	if m.PasswordFile != "" && m.Username == "" {
		v.add("mqtt.password_file", "a password needs mqtt.username beside it")
	}
	if (m.CertFile == "") != (m.KeyFile == "") {
		key := "mqtt.cert_file"
		if m.CertFile == "" {
			key = "mqtt.key_file"
		}
		v.add(key, "mqtt.cert_file and mqtt.key_file belong together: set both or none")
	}
	for _, f := range []struct{ key, value string }{
		{"mqtt.ca_file", m.CAFile}, {"mqtt.cert_file", m.CertFile}, {"mqtt.key_file", m.KeyFile},
	} {
		if f.value != "" && !secure {
			v.add(f.key, "certificates are for a tls:// or wss:// broker, and mqtt.broker is %q", oneLine(m.Broker))
			break
		}
	}
	if !ValidBase(m.Base) {
		v.add("mqtt.base", "%q must be one to eight names that match "+NamePattern+", with slashes between", oneLine(m.Base))
	}
	if m.ShareGroup != "" && !ValidName(m.ShareGroup) {
		v.add("mqtt.share_group", "%q must match "+NamePattern, oneLine(m.ShareGroup))
	}
	if len(m.ReplyToAllow) > 64 {
		v.add("mqtt.reply_to_allow", "%d filters are more than 64", len(m.ReplyToAllow))
	}
	for _, f := range m.ReplyToAllow {
		if why := filterProblem(f); why != "" {
			v.add("mqtt.reply_to_allow", "%q is no topic filter: %s", oneLine(f), why)
		}
	}
	v.size("mqtt.max_payload", m.MaxPayload, 1<<10, 64<<20)
	v.duration("mqtt.keep_alive", m.KeepAlive, 5*time.Second, 18*time.Hour)
	if m.KeepAlive%time.Second != 0 {
		v.add("mqtt.keep_alive", "%v: MQTT counts it in whole seconds", m.KeepAlive)
	}
	v.oneOf("mqtt.version", m.Version, "auto", "5", "3.1.1")
	if m.SessionExpiry != 0 {
		v.duration("mqtt.session_expiry", m.SessionExpiry, time.Minute, 10*365*24*time.Hour)
	}
	if m.SessionExpiry%time.Second != 0 {
		v.add("mqtt.session_expiry", "%v: MQTT counts it in whole seconds", m.SessionExpiry)
	}
	v.duration("mqtt.delta_interval", m.DeltaInterval, 50*time.Millisecond, time.Minute)
	if m.StatsInterval != 0 {
		v.duration("mqtt.stats_interval", m.StatsInterval, time.Second, 24*time.Hour)
	}
}

// broker checks what the embedded broker bears.
func (v *validator) broker(b *Broker) {
	v.integer("broker.max_clients", b.MaxClients, 1, 10_000)
	v.integer("broker.max_sessions", b.MaxSessions, 1, 100_000)
	if b.MaxMemory != 0 {
		v.size("broker.max_memory", b.MaxMemory, 1<<20, 4<<30)
	}
	if b.MaxClientMemory != 0 {
		v.size("broker.max_client_memory", b.MaxClientMemory, 64<<10, 4<<30)
	}
	v.integer("broker.max_retained", b.MaxRetained, 4, 1_000_000)
	v.integer("broker.max_queued", b.MaxQueued, 2, 1<<16)
	v.integer("broker.max_subscriptions", b.MaxSubscriptions, 1, 1<<16)
	v.integer("broker.max_levels", b.MaxLevels, 1, 1024)
	v.integer("broker.max_rate", b.MaxRate, 10, 1_000_000)
	v.duration("broker.write_timeout", b.WriteTimeout, time.Second, 10*time.Minute)
}

// embedded checks the settings of edged's own broker: beyond loopback only with credentials.
func (v *validator) embedded(m *MQTT) {
	if !v.listen("mqtt.listen", m.Listen) {
		return
	}
	switch {
	case m.Username != "" && m.PasswordFile == "":
		v.add("mqtt.username", "the embedded broker needs mqtt.password_file beside mqtt.username")
	case !Loopback(m.Listen) && m.Username == "":
		v.add(
			"mqtt.listen",
			"%s can be reached from other machines: the embedded broker listens there only with mqtt.username and mqtt.password_file set",
			m.Listen,
		)
	}
}

// brokerURL checks the URL of an outside broker and reports whether it is encrypted.
func (v *validator) brokerURL(broker string) (secure bool) {
	const key = "mqtt.broker"
	u, err := url.Parse(broker)
	if err != nil || u.Host == "" || u.Opaque != "" {
		v.add(key, "%q is neither \"embedded\" nor a URL such as tcp://192.168.1.2:1883", oneLine(broker))
		return false
	}
	switch u.Scheme {
	case "tcp", "ws":
	case "tls", "wss":
		secure = true
	default:
		v.add(key, "the scheme of %q is none of tcp, tls, ws, wss", oneLine(u.Redacted()))
		return false
	}
	switch port := u.Port(); {
	case u.User != nil:
		v.add(key, "holds a user name or a password: set mqtt.username and mqtt.password_file instead")
	case u.Hostname() == "":
		v.add(key, "%q names no host", oneLine(broker))
	case port != "" && !validPort(port, 1):
		v.add(key, "%q is not a port", port)
	case port == "" && strings.HasSuffix(u.Host, ":"):
		v.add(key, "%q has a colon but no port", oneLine(broker))
	case (u.Scheme == "tcp" || u.Scheme == "tls") && (u.Path != "" && u.Path != "/" || u.RawQuery != ""):
		v.add(key, "%q has a path, which only ws and wss URLs have", oneLine(broker))
	case u.Fragment != "":
		v.add(key, "%q has a fragment, which a broker's URL has not", oneLine(broker))
	}
	return secure
}

func (v *validator) model(m *Model) {
	v.oneOf("model.head", m.Head, "as-is", "q8_0", "q4_0")
	v.oneOf("model.quantize", m.Quantize, "", "q8_0", "q4_0")
}

func (v *validator) models(m *Models) {
	if m.Default != "" && !ValidFileName(m.Default) {
		v.add("models.default", "%q must match "+NamePattern, oneLine(m.Default))
	}
	if m.Default != "" && m.Dir == "" {
		v.add("models.default", "names a model, and models.dir is empty")
	}
	if len(m.Pinned) > 64 {
		v.add("models.pinned", "%d names are more than 64", len(m.Pinned))
	}
	for _, name := range m.Pinned {
		if !ValidFileName(name) {
			v.add("models.pinned", "%q must match "+NamePattern, oneLine(name))
		}
	}
	v.duration("models.settle", m.Settle, 10*time.Millisecond, 10*time.Minute)
	v.duration("models.rescan", m.Rescan, 100*time.Millisecond, 24*time.Hour)
}

func (v *validator) backend(b *Backend) {
	if !ValidName(b.Name) {
		v.add("backend.name", "%q is none of auto, neon, generic, nor the name of another plugin", oneLine(b.Name))
	}
	if len(b.Command) > 32 {
		v.add("backend.command", "%d words are more than 32", len(b.Command))
	}
	for i, w := range b.Command {
		if w == "" && i == 0 || strings.ContainsRune(w, 0) {
			v.add("backend.command", "word %d is empty or holds a NUL byte", i+1)
		}
	}
	v.integer("backend.context", b.Context, 0, 1<<22)
	v.oneOf("backend.kv", b.KV, "f32", "f16", "q8_0")
	v.oneOf("backend.precision", b.Precision, "fast", "exact")
	v.oneOf("backend.tiles", b.Tiles, "auto", "off")
	if b.Precision == "exact" && b.KV != "f32" {
		v.add(
			"backend.kv",
			"%q contradicts backend.precision = \"exact\", which keeps K and V in float32: leave backend.kv out or set it to \"f32\"",
			oneLine(b.KV),
		)
	}
	v.integer("backend.threads_prefill", b.ThreadsPrefill, 0, 1024)
	v.integer("backend.threads_decode", b.ThreadsDecode, 0, 1024)
	v.integer("backend.max_sequences", b.MaxSequences, 1, 256)
	v.size("backend.kv_memory", b.KVMemory, 0, 1<<50)
	v.size("backend.memory_limit", b.MemoryLimit, 0, 1<<50)
}

func (v *validator) adapters(a *Adapters, s *State) {
	if a.Default != "" && !ValidName(a.Default) {
		v.add("adapters.default", "%q must match "+NamePattern, oneLine(a.Default))
	}
	if a.Default != "" && a.Dir == "" {
		v.add("adapters.default", "names an adapter, and adapters.dir is empty")
	}
	v.duration("adapters.settle", a.Settle, 10*time.Millisecond, 10*time.Minute)
	v.duration("adapters.rescan", a.Rescan, 100*time.Millisecond, 24*time.Hour)
	if a.Dir != "" && s.Dir != "" && within(a.Dir, filepath.Join(s.Dir, "adapters")) {
		v.add(
			"adapters.dir",
			"%s lies where edged keeps its own copies: choose a folder outside %s",
			a.Dir,
			filepath.Join(s.Dir, "adapters"),
		)
	}
	if len(a.PublicKeys) > 64 {
		v.add("adapters.public_keys", "%d keys are more than 64", len(a.PublicKeys))
	}
	for _, k := range a.PublicKeys {
		if raw, err := base64.StdEncoding.DecodeString(k); err != nil || len(raw) != 42 || string(raw[:2]) != "Ed" {
			v.add(
				"adapters.public_keys",
				"%q is no minisign public key: it is the second line of a .pub file, 56 characters that begin with RW",
				oneLine(k),
			)
		}
	}
	v.integer("adapters.max_count", a.MaxCount, 1, 1024)
	v.size("adapters.max_size", a.MaxSize, 1<<10, 1<<40)
	v.size("adapters.max_memory", a.MaxMemory, 1<<10, 1<<50)
	v.number("adapters.gate_margin", a.GateMargin, 0, 100)
}

func (v *validator) sampling(s *Sampling) {
	v.integer("sampling.max_tokens", s.MaxTokens, 1, 1<<22)
	v.number("sampling.temperature", s.Temperature, 0, 10)
	v.integer("sampling.top_k", s.TopK, 0, 1<<20)
	v.number("sampling.top_p", s.TopP, 0, 1)
	v.number("sampling.min_p", s.MinP, 0, 1)
	v.number("sampling.typical_p", s.TypicalP, 0, 1)
	v.number("sampling.repeat_penalty", s.RepeatPenalty, 0, 10)
	v.number("sampling.presence_penalty", s.PresencePenalty, -10, 10)
	v.number("sampling.frequency_penalty", s.FrequencyPenalty, -10, 10)
	v.integer("sampling.penalty_last_n", s.PenaltyLastN, -1, 1<<22)
	v.oneOf("sampling.thinking", s.Thinking, "off", "on", "template")
	v.integer("sampling.thinking_budget", s.ThinkingBudget, 0, 1<<22)
}

func (v *validator) prompts(p *Prompts) {
	v.duration("prompts.rescan", p.Rescan, 100*time.Millisecond, 24*time.Hour)
}

func (v *validator) queue(q *Queue) {
	v.integer("queue.size", q.Size, 1, 1<<16)
	v.integer("queue.per_client", q.PerClient, 1, 1<<16)
	if q.Deadline != 0 {
		v.duration("queue.deadline", q.Deadline, time.Second, 7*24*time.Hour)
	}
	v.duration("queue.max_deadline", q.MaxDeadline, time.Second, 7*24*time.Hour)
	if q.Deadline > q.MaxDeadline {
		v.add("queue.deadline", "%v is later than queue.max_deadline, %v", q.Deadline, q.MaxDeadline)
	}
}

func (v *validator) plugins(p *Plugins) {
	v.duration("plugins.health_timeout", p.HealthTimeout, time.Second, 10*time.Minute)
	v.duration("plugins.stall_timeout", p.StallTimeout, time.Second, 24*time.Hour)
	if len(p.SHA256) > 64 {
		v.add("plugins.sha256", "%d sums are more than 64", len(p.SHA256))
		return
	}
	seen := map[string]bool{}
	for _, entry := range p.SHA256 {
		file, sum, _ := strings.Cut(entry, "=")
		raw, err := hex.DecodeString(sum)
		switch {
		case !ValidName(file) || err != nil || len(raw) != 32:
			v.add("plugins.sha256", "%q is not NAME=SUM, such as \"backend-neon=\" and the 64 digits that sha256sum prints", oneLine(entry))
		case seen[file]:
			v.add("plugins.sha256", "%s is pinned twice", file)
		}
		seen[file] = true
	}
}

func (v *validator) prefixCache(p *PrefixCache) {
	v.size("prefix_cache.disk_size", p.DiskSize, 0, 1<<40)
	v.size("prefix_cache.disk_writes_per_day", p.DiskWritesPerDay, 0, 1<<40)
	v.integer("prefix_cache.disk_tokens", p.DiskTokens, 1, 1<<22)
	if len(p.Pinned) > 64 {
		v.add("prefix_cache.pinned", "%d files are more than 64", len(p.Pinned))
	}
	for _, f := range p.Pinned {
		if f == "" {
			v.add("prefix_cache.pinned", "names an empty path")
		}
	}
	if len(p.Pinned) > 0 && !p.Enabled {
		v.add("prefix_cache.pinned", "needs prefix_cache.enabled = true")
	}
}

// http checks the listener: beyond loopback only with a credential.
func (v *validator) http(h *HTTP) {
	switch {
	case h.Listen == "" && h.TokenFile != "":
		v.add("http.token_file", "is for http.listen, which is empty")
	case h.Listen == "":
	case v.listen("http.listen", h.Listen) && !Loopback(h.Listen) && h.TokenFile == "":
		v.add("http.listen", "%s can be reached from other machines: edged listens there only with http.token_file set", h.Listen)
	}
	if len(h.Hosts) > 64 {
		v.add("http.hosts", "%d names are more than 64", len(h.Hosts))
	}
	for _, name := range h.Hosts {
		if strings.ContainsAny(name, ":/ ") || name == "" || len(name) > 253 {
			v.add("http.hosts", "%q is no host name, such as pi.lan", oneLine(name))
		}
	}
	v.size("http.max_body", h.MaxBody, 1<<10, 64<<20)
	v.integer("http.max_connections", h.MaxConnections, 1, 1<<16)
	v.duration("http.read_timeout", h.ReadTimeout, 100*time.Millisecond, 10*time.Minute)
	v.duration("http.write_timeout", h.WriteTimeout, 100*time.Millisecond, 10*time.Minute)
	v.duration("http.idle_timeout", h.IdleTimeout, time.Second, 24*time.Hour)
}

// wyoming checks the listener: the protocol has no credentials, so beyond loopback it serves named addresses only.
func (v *validator) wyoming(w *Wyoming) {
	if w.Listen != "" && v.listen("wyoming.listen", w.Listen) && !Loopback(w.Listen) && len(w.Allow) == 0 {
		v.add(
			"wyoming.listen",
			"%s can be reached from other machines, and the Wyoming protocol has no passwords: name in wyoming.allow who is served there",
			w.Listen,
		)
	}
	if len(w.Allow) > 64 {
		v.add("wyoming.allow", "%d addresses are more than 64", len(w.Allow))
	}
	for _, a := range w.Allow {
		if _, err := ParsePrefix(a); err != nil {
			v.add("wyoming.allow", "%q is neither an address nor a network such as 192.168.1.0/24", oneLine(a))
		}
	}
	if len(w.System) > 16<<10 {
		v.add("wyoming.system", "%d bytes are more than %d", len(w.System), 16<<10)
	}
	if len(w.Languages) > 256 {
		v.add("wyoming.languages", "%d are more than 256", len(w.Languages))
	}
	for _, l := range w.Languages {
		if !ValidName(l) {
			v.add("wyoming.languages", "%q is no language such as en or de-CH", oneLine(l))
		}
	}
}

// ParsePrefix reads an address, or a network such as 192.168.1.0/24.
func ParsePrefix(s string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(s); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err == nil {
		p = p.Masked()
	}
	return p, err
}

// metrics keeps the listener on this machine: it knows no passwords.
func (v *validator) metrics(m *Metrics) {
	switch {
	case m.Listen == "" && m.PProf:
		v.add("metrics.pprof", "profiles are served on metrics.listen, which is empty")
	case m.Listen == "":
	case v.listen("metrics.listen", m.Listen) && !Loopback(m.Listen):
		v.add(
			"metrics.listen",
			"%s can be reached from other machines: it must be an address of the loopback interface, such as 127.0.0.1:9109; let a proxy that asks for a password pass it on",
			m.Listen,
		)
	}
}

func (v *validator) oneOf(key, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	quoted := make([]string, len(allowed))
	for i, a := range allowed {
		quoted[i] = strconv.Quote(a)
	}
	v.add(key, "%q is none of %s", oneLine(value), strings.Join(quoted, ", "))
}

func (v *validator) integer(key string, value, least, most int) {
	if value < least || value > most {
		v.add(key, "%d is outside %d to %d", value, least, most)
	}
}

func (v *validator) number(key string, value, least, most float32) {
	if math.IsNaN(float64(value)) || value < least || value > most {
		v.add(key, "%v is outside %v to %v", value, least, most)
	}
}

func (v *validator) duration(key string, value, least, most time.Duration) {
	if value < least || value > most {
		v.add(key, "%v is outside %v to %v", value, least, most)
	}
}

func (v *validator) size(key string, value, least, most Size) {
	if value < least || value > most {
		v.add(key, "%v is outside %v to %v", value, least, most)
	}
}

// listen checks a host:port to listen on; port 0 takes any free one.
func (v *validator) listen(key, address string) bool {
	_, port, err := net.SplitHostPort(address)
	if err != nil || !validPort(port, 0) {
		v.add(key, "%q is no address to listen on, such as 127.0.0.1:1883", oneLine(address))
		return false
	}
	return true
}

// Loopback reports whether a host:port can be reached from this machine only.
func Loopback(address string) bool {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return false
	}
	if host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

func validPort(s string, least int) bool {
	n, err := strconv.Atoi(s)
	return err == nil && n >= least && n <= 65535
}

// filterProblem says what is wrong with an MQTT topic filter (MQTT 3.1.1, section 4.7); "": nothing.
func filterProblem(f string) string {
	if f == "" {
		return "it is empty"
	}
	if len(f) > 1024 {
		return "it is longer than 1024 bytes"
	}
	if strings.ContainsRune(f, 0) {
		return "it holds a NUL byte"
	}
	levels := strings.Split(f, "/")
	for i, l := range levels {
		if strings.Contains(l, "+") && l != "+" {
			return "'+' must stand alone between two slashes"
		}
		if strings.Contains(l, "#") && (l != "#" || i != len(levels)-1) {
			return "'#' must stand alone at the end"
		}
	}
	if strings.HasPrefix(f, "$") {
		return "topics that begin with '$' are the broker's own"
	}
	return ""
}

// within reports whether path is dir or lies in it. Both are clean.
func within(path, dir string) bool {
	rel, err := filepath.Rel(dir, path)
	return err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator))
}
