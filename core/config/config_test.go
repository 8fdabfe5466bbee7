package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"edged/core/config"
)

// defaultLine is a commented default of config.toml.
var defaultLine = regexp.MustCompile(`(?m)^#([a-z][a-z0-9_]* = )`)

// TestExampleIsDefault proves that config.toml shows every key, with the value that is in force without it.
func TestExampleIsDefault(t *testing.T) {
	text, err := os.ReadFile("../../config.toml")
	if err != nil {
		t.Fatal(err)
	}
	// As shipped: nothing is set.
	got, err := config.Parse("", text, []string{"node.name=n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.Node.Name = "n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config.toml as shipped (-default +file):\n%s", diff)
	}
	// With every default taken out of its comment: the same.
	full := defaultLine.ReplaceAll(text, []byte("$1"))
	got, err = config.Parse("", full, []string{"node.name=n"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("config.toml with its defaults set (-default +file):\n%s", diff)
	}
	section := ""
	shown := map[string]int{}
	for line := range strings.SplitSeq(string(full), "\n") {
		if strings.HasPrefix(line, "[") {
			section = strings.Trim(line, "[]")
			continue
		}
		if key, _, ok := strings.Cut(line, " = "); ok && !strings.HasPrefix(line, "#") {
			shown[section+"."+key]++
		}
	}
	for _, key := range config.Keys() {
		if shown[key] != 1 {
			t.Errorf("config.toml shows %s %d times, want once", key, shown[key])
		}
		delete(shown, key)
	}
	if len(shown) > 0 {
		t.Errorf("config.toml shows keys that do not exist: %v", shown)
	}
}

// TestFixedNames holds the names that other programs' files rely on.
func TestFixedNames(t *testing.T) {
	have := map[string]bool{}
	for _, k := range config.Keys() {
		have[k] = true
	}
	for k := range strings.FieldsSeq(`node.name mqtt.broker mqtt.listen mqtt.username mqtt.password_file mqtt.ca_file
		mqtt.cert_file mqtt.key_file mqtt.share_group mqtt.reply_to_allow mqtt.max_payload model.path model.head
		model.quantize backend.name backend.command backend.context backend.kv backend.precision backend.threads_prefill
		backend.threads_decode adapters.dir adapters.default adapters.settle adapters.rescan adapters.public_keys
		inbox.store plugins.dir state.dir metrics.listen log.level log.format log.prompts`) {
		if !have[k] {
			t.Errorf("key %s is missing", k)
		}
	}
}

func TestDemo(t *testing.T) {
	c, err := config.Load("../../demo/config.toml", nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Servable(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(filepath.Join(c.Model.Path, "config.json")); err != nil {
		t.Error(err)
	}
	if !config.Loopback(c.MQTT.Listen) {
		t.Errorf("the demo listens on %s", c.MQTT.Listen)
	}
}

// TestBadFiles: one file for each thing that is refused, and what is said about it.
func TestBadFiles(t *testing.T) {
	tests := []struct{ file, want string }{
		{"unknown_key", "FILE:3: unknown key mqtt.brokr: did you mean mqtt.broker?"},
		{"unknown_key_other_section", "FILE:2: unknown key node.broker: did you mean mqtt.broker?"},
		{"unknown_section", "FILE:1: unknown key mqqt: did you mean [mqtt]?"},
		{"unknown_top_level", "FILE:1: unknown key username: did you mean mqtt.username?"},
		{"section_as_value", "FILE:1: mqtt: is a section: write [mqtt] and its keys below"},
		{"section_as_array", "FILE:1: mqtt: is a section: write [mqtt] and its keys below"},
		{"key_as_table", "FILE:1: mqtt.broker: wants a text in quotes, not a table"},
		{"syntax", "FILE:2: mqtt.broker: there is no value behind the = that TOML knows: texts stand in quotation marks, lists in [ ], truths are true and false"},
		{"unclosed", "FILE:2: mqtt.broker: the text of this line has no closing quotation mark: add it; a text of several lines stands between \"\"\" and \"\"\""},
		{"duplicate", "FILE:3: Key 'mqtt.broker' has already been defined."},
		{"type_text", "FILE:2: mqtt.broker: wants a text in quotes, not the number 1883"},
		{"type_int", "FILE:3: backend.context: wants a whole number, not the text \"4096\""},
		{"type_bool", "FILE:2: log.prompts: wants true or false, not the text \"yes\""},
		{"type_float", "FILE:2: sampling.temperature: wants a number, not the text \"hot\""},
		{"type_list", "FILE:2: mqtt.reply_to_allow: wants a list of texts, such as [\"a\", \"b\"], not the text \"home/#\""},
		{"type_list_element", "FILE:2: mqtt.reply_to_allow: wants a list of texts, such as [\"a\", \"b\"], not one with the number 7 in it"},
		{"type_duration", "FILE:2: node.shutdown_grace: wants a duration in quotes, such as \"1s\", not the number 20"},
		{"duration_no_unit", "FILE:2: node.shutdown_grace: \"20\" is not a duration such as \"1s\", \"50ms\" or \"10m\""},
		{"type_size", "FILE:2: mqtt.max_payload: wants a size in quotes, such as \"64 MiB\", not the number 1048576"},
		{"size_no_unit", "FILE:2: mqtt.max_payload: \"1048576\" has no unit: write it such as \"64 MiB\" (B, kB, MB, GB, KiB, MiB, GiB)"},
		{"int_overflow", "FILE:2: backend.context: 9000000000 is too large a number"},
		{"node_name", "FILE:2: node.name: \"küche/pi\" must match [A-Za-z0-9._-]{1,64}"},
		{"grace_range", "FILE:2: node.shutdown_grace: 1h0m0s is outside 0s to 10m0s"},
		{"broker_word", "FILE:2: mqtt.broker: \"mosquitto\" is neither \"embedded\" nor a URL such as tcp://192.168.1.2:1883"},
		{"broker_scheme", "FILE:2: mqtt.broker: the scheme of \"http://host:1883\" is none of tcp, tls, ws, wss"},
		{"broker_userinfo", "FILE:2: mqtt.broker: holds a user name or a password: set mqtt.username and mqtt.password_file instead"},
		{"broker_port", "FILE:2: mqtt.broker: \"99999\" is not a port"},
		{"broker_path", "FILE:2: mqtt.broker: \"tcp://host:1883/mqtt\" has a path, which only ws and wss URLs have"},
		{"listen_form", "FILE:2: mqtt.listen: \"1883\" is no address to listen on, such as 127.0.0.1:1883"},
		{"listen_open", "FILE:2: mqtt.listen: 0.0.0.0:1883 can be reached from other machines: the embedded broker listens there only with mqtt.username and mqtt.password_file set"},
		{"listen_open_all", "FILE:2: mqtt.listen: :1883 can be reached from other machines: the embedded broker listens there only with mqtt.username and mqtt.password_file set"},
		{"username_alone", "FILE:2: mqtt.username: the embedded broker needs mqtt.password_file beside mqtt.username"},
		{"password_alone", "FILE:3: mqtt.password_file: a password needs mqtt.username beside it"},
		{"cert_alone", "FILE:3: mqtt.cert_file: mqtt.cert_file and mqtt.key_file belong together: set both or none"},
		{"cert_plain", "FILE:3: mqtt.ca_file: certificates are for a tls:// or wss:// broker, and mqtt.broker is \"tcp://host\""},
		{"base", "FILE:2: mqtt.base: \"house//llm\" must be one to eight names that match [A-Za-z0-9._-]{1,64}, with slashes between"},
		{"share_group", "FILE:2: mqtt.share_group: \"@kitchen\" must match [A-Za-z0-9._-]{1,64}"},
		{"group_takeover", "FILE:2: group.takeover: 1s is outside 2s to 1h0m0s"},
		{"reply_to_allow", "FILE:2: mqtt.reply_to_allow: \"home/#/x\" is no topic filter: '#' must stand alone at the end"},
		{"max_payload", "FILE:2: mqtt.max_payload: 1 GiB is outside 1 KiB to 64 MiB"},
		{"keep_alive", "FILE:2: mqtt.keep_alive: 5.5s: MQTT counts it in whole seconds"},
		{"mqtt_version", "FILE:2: mqtt.version: \"4\" is none of \"auto\", \"5\", \"3.1.1\""},
		{"session_expiry", "FILE:2: mqtt.session_expiry: 10s is outside 1m0s to 87600h0m0s"},
		{"delta_interval", "FILE:2: mqtt.delta_interval: 10ms is outside 50ms to 1m0s"},
		{"stats_interval", "FILE:2: mqtt.stats_interval: 10ms is outside 1s to 24h0m0s"},
		{"head", "FILE:2: model.head: \"q5_0\" is none of \"as-is\", \"q8_0\", \"q4_0\""},
		{"quantize", "FILE:2: model.quantize: \"nf4\" is none of \"\", \"q8_0\", \"q4_0\""},
		{"backend_name", "FILE:2: backend.name: \"../evil\" is none of auto, neon, generic, nor the name of another plugin"},
		{"backend_command", "FILE:2: backend.command: word 1 is empty or holds a NUL byte"},
		{"kv", "FILE:2: backend.kv: \"f8\" is none of \"f32\", \"f16\", \"q8_0\""},
		{"kv_exact", "FILE:2: backend.kv: \"f16\" contradicts backend.precision = \"exact\", which keeps K and V in float32: leave backend.kv out or set it to \"f32\""},
		{"precision", "FILE:2: backend.precision: \"best\" is none of \"fast\", \"exact\""},
		{"threads", "FILE:2: backend.threads_decode: -1 is outside 0 to 1024"},
		{"max_sequences", "FILE:2: backend.max_sequences: 0 is outside 1 to 256"},
		{"adapters_default", "FILE:2: adapters.default: \"a b\" must match [A-Za-z0-9._-]{1,64}"},
		{"adapters_default_no_dir", "FILE:3: adapters.default: names an adapter, and adapters.dir is empty"},
		{"adapters_dir", "FILE:2: adapters.dir: /var/lib/edged/adapters/mine lies where edged keeps its own copies: choose a folder outside /var/lib/edged/adapters"},
		{"temperature", "FILE:2: sampling.temperature: -1 is outside 0 to 10"},
		{"temperature_nan", "FILE:2: sampling.temperature: NaN is outside 0 to 10"},
		{"top_p", "FILE:2: sampling.top_p: 1.5 is outside 0 to 1"},
		{"queue_size", "FILE:2: queue.size: 0 is outside 1 to 65536"},
		{"queue_deadline", "FILE:2: queue.deadline: 2h0m0s is later than queue.max_deadline, 1h0m0s"},
		{"plugins_sha256", "FILE:2: plugins.sha256: \"backend-neon=12ab\" is not NAME=SUM, such as \"backend-neon=\" and the 64 digits that sha256sum prints"},
		{"plugins_stall", "FILE:2: plugins.stall_timeout: 10ms is outside 1s to 24h0m0s"},
		{"inbox_store", "FILE:2: inbox.store: \"ram\" is none of \"disk\", \"memory\""},
		{"state_dir", "FILE:2: state.dir: is empty: name a folder that edged may write to"},
		{"http_open", "FILE:2: http.listen: 0.0.0.0:8080 can be reached from other machines: edged listens there only with http.token_file set"},
		{"http_token", "FILE:2: http.token_file: is for http.listen, which is empty"},
		{"http_upload", "FILE:2: http.upload: needs adapters.dir, the folder that adapters are put into"},
		{"http_hosts", "FILE:2: http.hosts: \"pi.lan:8080\" is no host name, such as pi.lan"},
		{"wyoming_open", "FILE:2: wyoming.listen: 0.0.0.0:10500 can be reached from other machines, and the Wyoming protocol has no passwords: name in wyoming.allow who is served there"},
		{"wyoming_allow", "FILE:2: wyoming.allow: \"house\" is neither an address nor a network such as 192.168.1.0/24"},
		{"wyoming_languages", "FILE:2: wyoming.languages: \"English, of course\" is no language such as en or de-CH"},
		{"home_prefix", "FILE:2: homeassistant.prefix: \"home/#\" is no beginning of a topic such as homeassistant"},
		{"metrics_listen", "FILE:2: metrics.listen: \"9090\" is no address to listen on, such as 127.0.0.1:1883"},
		{"metrics_public", "FILE:2: metrics.listen: 0.0.0.0:9109 can be reached from other machines: it must be an address of the loopback interface, such as 127.0.0.1:9109; let a proxy that asks for a password pass it on"},
		{"metrics_pprof", "FILE:2: metrics.pprof: profiles are served on metrics.listen, which is empty"},
		{"log_level", "FILE:2: log.level: \"trace\" is none of \"debug\", \"info\", \"warn\", \"error\""},
		{"log_prompts", "FILE:2: log.prompts: prompts are logged at debug level: set log.level = \"debug\" too"},
		{"adapters_settle", "FILE:2: adapters.settle: 1ms is outside 10ms to 10m0s"},
		{"adapters_keys", "FILE:2: adapters.public_keys: \"RWQ\" is no minisign public key: it is the second line of a .pub file, 56 characters that begin with RW"},
		{"adapters_size", "FILE:2: adapters.max_size: 10 B is outside 1 KiB to 1 TiB"},
		{"multi_line", "FILE:11: unknown key log.levl: did you mean log.level?"},
	}
	files, err := filepath.Glob("testdata/bad/*.toml")
	if err != nil {
		t.Fatal(err)
	}
	if len(files) != len(tests) {
		t.Errorf("%d files in testdata/bad, %d in the table", len(files), len(tests))
	}
	for _, test := range tests {
		t.Run(test.file, func(t *testing.T) {
			path := filepath.Join("testdata", "bad", test.file+".toml")
			_, err := config.Load(path, nil, nil)
			if err == nil {
				t.Fatal("was accepted")
			}
			got, _, _ := strings.Cut(err.Error(), "\n")
			if want := "config: " + strings.ReplaceAll(test.want, "FILE", path); !strings.HasPrefix(got, want) {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestOverrides(t *testing.T) {
	const text = "[mqtt]\nbroker = \"tcp://file:1883\"\nusername = \"from-file\"\n[backend]\ncontext = 1\n"
	got, err := config.Parse("/etc/edged/config.toml", []byte(text),
		[]string{
			"mqtt.broker=tcp://flag:1883", "backend.command=qemu-aarch64-static,-cpu,cortex-a72",
			`mqtt.reply_to_allow=["home/+", "x,y"]`, "model.path=models/m.gguf", "node.shutdown_grace=1s",
			"sampling.temperature=0.5", "mqtt.max_payload=2 MiB", "log.level=debug", "log.prompts=true",
		},
		[]string{
			"EDGED_MQTT_BROKER=tcp://variable:1883", "EDGED_MQTT_USERNAME=from-variable", "EDGED_BACKEND_CONTEXT=2048",
			"EDGED_BACKEND_THREADS_DECODE=3", "EDGED_PREFIX_CACHE_ENABLED=false", "EDGED_PLUGIN=cookie", "HOME=/root", "odd",
			"EDGED_NODE_NAME=attic",
		})
	if err != nil {
		t.Fatal(err)
	}
	want := config.Default()
	want.File = "/etc/edged/config.toml"
	want.Node = config.Node{Name: "attic", ShutdownGrace: time.Second}
	want.MQTT.Broker = "tcp://flag:1883"
	want.MQTT.Username = "from-variable"
	want.MQTT.ReplyToAllow = []string{"home/+", "x,y"}
	want.MQTT.MaxPayload = 2 << 20
	want.Backend.Command = []string{"qemu-aarch64-static", "-cpu", "cortex-a72"}
	want.Backend.Context = 2048
	want.Backend.ThreadsDecode = 3
	want.Model.Path = "/etc/edged/models/m.gguf"
	want.Sampling.Temperature = 0.5
	want.PrefixCache.Enabled = false
	want.Log.Level, want.Log.Prompts = "debug", true
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestBadOverrides(t *testing.T) {
	tests := []struct {
		name           string
		flag, variable string
		want           string
	}{
		{"unknown flag", "mqtt.brokr=x", "", "config: --set mqtt.brokr=x: unknown key mqtt.brokr: did you mean mqtt.broker?"},
		{"no value", "mqtt.broker", "", "config: --set mqtt.broker: wants KEY=VALUE, such as --set mqtt.listen=127.0.0.1:1884"},
		{"section", "mqtt=x", "", "config: --set mqtt=x: mqtt is a section: name one of its keys"},
		{"bad integer", "backend.context=many", "", "config: --set backend.context=many: \"many\" is not a whole number"},
		{"bad bool", "log.prompts=yes", "", "config: --set log.prompts=yes: \"yes\" is neither true nor false"},
		{"bad list", "backend.command=[1]", "", "config: --set backend.command=[1]: wants a list of texts, such as [\"a\", \"b\"], not one with the number 1 in it"},
		{"broken list", `backend.command=["a"`, "", "config: --set backend.command=[\"a\": [\"a\" is not a list such as [\"a\", \"b\"]"},
		{"list injects", "backend.command=[]\nx = 1", "", "config: --set backend.command=[] x = 1: [] x = 1 is not a list such as [\"a\", \"b\"]"},
		{"range", "backend.context=-1", "", "config: --set backend.context: backend.context: -1 is outside 0 to 4194304"},
		{"unknown variable", "", "EDGED_MQTT_BROKR=x", "config: environment variable EDGED_MQTT_BROKR: unknown key mqtt.brokr: did you mean mqtt.broker?"},
		{"bad variable", "", "EDGED_MQTT_MAX_PAYLOAD=much", "config: environment variable EDGED_MQTT_MAX_PAYLOAD: mqtt.max_payload: \"much\" has no unit: write it such as \"64 MiB\" (B, kB, MB, GB, KiB, MiB, GiB)"},
		{"variable's range", "", "EDGED_LOG_LEVEL=loud", "config: environment variable EDGED_LOG_LEVEL: log.level: \"loud\" is none of \"debug\", \"info\", \"warn\", \"error\""},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			var flags, env []string
			if test.flag != "" {
				flags = []string{test.flag}
			}
			if test.variable != "" {
				env = []string{test.variable}
			}
			_, err := config.Parse("", nil, flags, env)
			if err == nil {
				t.Fatal("was accepted")
			}
			if err.Error() != test.want {
				t.Errorf("got  %s\nwant %s", err, test.want)
			}
		})
	}
}

// TestAllProblems: every problem is told at once.
func TestAllProblems(t *testing.T) {
	_, err := config.Parse("c.toml", []byte("[log]\nlevel = 1\nformt = \"json\"\n[queue]\nsize = true\n"), nil, nil)
	if err == nil {
		t.Fatal("was accepted")
	}
	want := "config: c.toml:2: log.level: wants a text in quotes, not the number 1\n" +
		"config: c.toml:3: unknown key log.formt: did you mean log.format?\n" +
		"config: c.toml:5: queue.size: wants a whole number, not true"
	if err.Error() != want {
		t.Errorf("got:\n%s\nwant:\n%s", err, want)
	}
}

func TestExactImpliesF32(t *testing.T) {
	for _, set := range [][]string{{"backend.precision=exact"}, {"backend.precision=exact", "backend.kv=f32"}} {
		c, err := config.Parse("", nil, set, nil)
		if err != nil {
			t.Fatal(err)
		}
		if c.Backend.KV != "f32" {
			t.Errorf("%v: kv is %q", set, c.Backend.KV)
		}
	}
	if _, err := config.Parse("", nil, []string{"backend.precision=exact", "backend.kv=q8_0"}, nil); err == nil {
		t.Error("exact with q8_0 was accepted")
	}
}

func TestGood(t *testing.T) {
	for _, set := range []string{
		"mqtt.broker=tcp://broker", "mqtt.broker=tls://10.0.0.2:8883", "mqtt.broker=ws://h:80/mqtt?x=1", "mqtt.broker=wss://h/mqtt",
		"mqtt.broker=tcp://[fe80::1]:1883", "mqtt.listen=127.0.0.1:0", "mqtt.listen=[::1]:1883", "mqtt.listen=localhost:1883",
		"mqtt.listen=127.9.9.9:1883", "mqtt.stats_interval=0s", "queue.deadline=0s", "adapters.dir=", "sampling.temperature=0",
		"mqtt.max_payload=64 MiB", "mqtt.max_payload=1.5 MiB", "mqtt.max_payload=2MB",
	} {
		if _, err := config.Parse("", nil, []string{set}, nil); err != nil {
			t.Errorf("%s: %v", set, err)
		}
	}
	c, err := config.Parse("", nil, []string{"mqtt.listen=0.0.0.0:1883", "mqtt.username=u", "mqtt.password_file=p"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if !filepath.IsAbs(c.MQTT.PasswordFile) {
		t.Errorf("password_file %q is relative", c.MQTT.PasswordFile)
	}
	if c.Node.Name == "" || !config.ValidName(c.Node.Name) {
		t.Errorf("node.name %q", c.Node.Name)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	if err := c.Servable(); err == nil {
		t.Error("a configuration without a model is servable")
	}
}

func TestMissingFile(t *testing.T) {
	_, err := config.Load("testdata/none.toml", nil, nil)
	if err == nil || err.Error() != "config: testdata/none.toml: no such file or directory" {
		t.Errorf("got %v", err)
	}
	big := filepath.Join(t.TempDir(), "big.toml")
	if err := os.WriteFile(big, make([]byte, 300<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err = config.Load(big, nil, nil); err == nil || !strings.Contains(err.Error(), "larger than 256 KiB") {
		t.Errorf("got %v", err)
	}
}

func TestReadSecret(t *testing.T) {
	dir := t.TempDir()
	for _, test := range []struct{ name, text, want, err string }{
		{"plain", "secret", "secret", ""},
		{"newline", "secret\n", "secret", ""},
		{"crlf", "secret\r\n", "secret", ""},
		{"blanks stay", " secret \n\n", " secret \n", ""},
		{"empty", "\n", "", "is empty"},
		{"large", strings.Repeat("x", 5000), "", "larger than 4 KiB"},
	} {
		t.Run(test.name, func(t *testing.T) {
			path := filepath.Join(dir, test.name)
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			got, err := config.ReadSecret(path)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("got %v, want %s", err, test.err)
				}
				return
			}
			if err != nil || string(got) != test.want {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
	if _, err := config.ReadSecret(filepath.Join(dir, "none")); err == nil {
		t.Error("a missing file was read")
	}
}
