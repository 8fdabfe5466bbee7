package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"strings"

	"github.com/BurntSushi/toml"
)

// maxFile is the largest configuration file that is read. The one that teaches every key has about 12 KiB; the TOML
// parser descends once per nesting level, so this also bounds its stack.
const maxFile = 256 << 10

// maxDropIns bounds the files of a config.d folder.
const maxDropIns = 64

// source is one file of settings.
type source struct {
	path string
	text []byte
}

// Load reads the file at path ("": none), then the files config.d/*.toml beside it in the order of their
// names, then the EDGED_… variables of environ (in os.Environ's form), then overrides
// ("mqtt.broker=tcp://127.0.0.1:1883"), each over what came before, and validates the result. Relative paths,
// also those of config.d and of overrides, become absolute by the folder of the file at path, or by the
// working directory where there is no file.
//
// The error joins everything that was found, one sentence a line.
func Load(path string, overrides, environ []string) (*Config, error) {
	s, err := load(path, overrides, environ)
	if err != nil {
		return nil, err
	}
	return s.c, nil
}

// Parse is Load with the file's text in hand and without config.d; path is for messages and for relative paths.
func Parse(path string, text []byte, overrides, environ []string) (*Config, error) {
	s, err := parse(path, []source{{path, text}}, overrides, environ)
	if err != nil {
		return nil, err
	}
	return s.c, nil
}

func load(path string, overrides, environ []string) (*settings, error) {
	if path == "" {
		return parse("", nil, overrides, environ)
	}
	text, err := readFile(path)
	if err != nil {
		return nil, err
	}
	sources := []source{{path, text}}
	dropIns, err := dropIns(path)
	if err != nil {
		return nil, err
	}
	for _, file := range dropIns {
		if text, err = readFile(file); err != nil {
			return nil, err
		}
		sources = append(sources, source{file, text})
	}
	return parse(path, sources, overrides, environ)
}

// dropIns lists config.d/*.toml beside a configuration file, sorted by name. Names that begin with a dot are
// an editor's.
func dropIns(path string) ([]string, error) {
	dir := filepath.Join(filepath.Dir(path), "config.d")
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("config: %w", err)
	}
	var files []string
	for _, e := range entries {
		if name := e.Name(); strings.HasSuffix(name, ".toml") && !strings.HasPrefix(name, ".") && !e.IsDir() {
			files = append(files, filepath.Join(dir, name))
		}
	}
	if len(files) > maxDropIns {
		return nil, fmt.Errorf("config: %s: holds %d files of settings: at most %d are read, join some", dir, len(files), maxDropIns)
	}
	return files, nil
}

func parse(path string, sources []source, overrides, environ []string) (*settings, error) {
	c := Default()
	c.File = path
	s := newSettings(c)
	var errs []error
	for _, src := range sources {
		errs = append(errs, s.file(src.path, src.text)...)
	}
	errs = append(errs, s.environ(environ)...)
	errs = append(errs, s.overrides(overrides)...)
	if len(errs) == 0 {
		s.derive()
		errs = append(errs, s.resolvePaths(path)...)
		errs = append(errs, s.explain(c.problems())...)
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	return s, nil
}

// readFile reads the configuration file within maxFile.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		if pe, ok := errors.AsType[*os.PathError](err); ok {
			err = pe.Err
		}
		return nil, fmt.Errorf("config: %s: %w", path, err)
	}
	defer f.Close() //nolint:errcheck // read only: nothing is lost
	text, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("config: %s: %w", path, err)
	}
	if len(text) > maxFile {
		return nil, fmt.Errorf("config: %s: larger than %v: this is no configuration file", path, Size(maxFile))
	}
	return text, nil
}

// file lays the values of a TOML text over the settings.
func (s *settings) file(path string, text []byte) []error {
	if len(text) > maxFile {
		return []error{fmt.Errorf("config: %s: larger than %v: this is no configuration file", path, Size(maxFile))}
	}
	var tree map[string]any
	meta, err := toml.Decode(string(text), &tree)
	if err != nil {
		line, why := ExplainTOML(string(text), err)
		return []error{fmt.Errorf("config: %s:%d: %s", path, line, why)}
	}
	lines := keyLines(string(text))
	at := func(key string) string {
		if n := lines[key]; n > 0 {
			return fmt.Sprintf("%s:%d", path, n)
		}
		return path
	}
	var errs []error
	seen := map[string]bool{}
	for _, k := range meta.Keys() {
		key := strings.Join(k, ".")
		if seen[key] { // a key inside an array of tables comes once per table
			continue
		}
		seen[key] = true
		f := s.byKey[key]
		switch {
		case f != nil:
			if err := f.setTOML(lookUp(tree, k)); err != nil {
				errs = append(errs, fmt.Errorf("config: %s: %s: %w", at(key), key, err))
			}
			f.origin = at(key)
		case s.sections[key]:
			if _, ok := lookUp(tree, k).(map[string]any); !ok {
				errs = append(errs, fmt.Errorf("config: %s: %s: is a section: write [%s] and its keys below", at(key), key, key))
			}
		case len(k) > 1 && !s.sections[k[0]] && seen[k[0]]:
			// The unknown section has been named already; each of its keys again would say nothing new.
		case len(k) > 2:
			// Likewise below an unknown or a plain key.
		default:
			errs = append(errs, fmt.Errorf("config: %s: %s", at(key), s.unknown(key)))
		}
	}
	return errs
}

// lookUp finds the value at a key path; nil where there is none (inside an array of tables).
func lookUp(tree map[string]any, key toml.Key) any {
	var v any = tree
	for _, k := range key {
		t, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = t[k]
	}
	return v
}

// environ lays EDGED_SECTION_KEY variables over the settings. A variable with a known section and an unknown key is
// refused; others that begin with EDGED_ belong to something else.
func (s *settings) environ(environ []string) []error {
	var errs []error
	for _, kv := range environ {
		name, value, _ := strings.Cut(kv, "=")
		rest, ok := strings.CutPrefix(name, "EDGED_")
		if !ok {
			continue
		}
		section := s.sectionOfVariable(rest)
		if section == "" {
			continue
		}
		key := section + "." + strings.ToLower(rest[len(section)+1:])
		f := s.byKey[key]
		if f == nil {
			errs = append(errs, fmt.Errorf("config: environment variable %s: %s", name, s.unknown(key)))
			continue
		}
		if err := f.setText(value); err != nil {
			errs = append(errs, fmt.Errorf("config: environment variable %s: %s: %w", name, key, err))
		}
		f.origin = "environment variable " + name
	}
	return errs
}

// sectionOfVariable finds the section that the part of a variable's name after EDGED_ begins with; "": none.
func (s *settings) sectionOfVariable(rest string) string {
	best := ""
	for section := range s.sections {
		if strings.HasPrefix(rest, strings.ToUpper(section)+"_") && len(section) > len(best) {
			best = section
		}
	}
	return best
}

// overrides lays "key=value" texts over the settings.
func (s *settings) overrides(overrides []string) []error {
	var errs []error
	for _, kv := range overrides {
		key, value, ok := strings.Cut(kv, "=")
		key = strings.TrimSpace(key)
		if !ok {
			errs = append(errs, fmt.Errorf("config: --set %s: wants KEY=VALUE, such as --set mqtt.listen=127.0.0.1:1884", oneLine(kv)))
			continue
		}
		f := s.byKey[key]
		if f == nil {
			errs = append(errs, fmt.Errorf("config: --set %s: %s", oneLine(kv), s.unknown(key)))
			continue
		}
		if err := f.setText(value); err != nil {
			errs = append(errs, fmt.Errorf("config: --set %s: %w", oneLine(kv), err))
		}
		f.origin = "--set " + key
	}
	return errs
}

// BrokerURL writes a broker's URL with the schemes that edged uses: mqtt:// is tcp://, and mqtts:// and
// ssl:// are tls://, as other programs name them.
func BrokerURL(broker string) string {
	for _, alias := range [][2]string{{"mqtt://", "tcp://"}, {"mqtts://", "tls://"}, {"ssl://", "tls://"}} {
		if len(broker) > len(alias[0]) && strings.EqualFold(broker[:len(alias[0])], alias[0]) {
			return alias[1] + broker[len(alias[0]):]
		}
	}
	return broker
}

// derive fills in what follows from other settings.
func (s *settings) derive() {
	s.c.MQTT.Broker = BrokerURL(s.c.MQTT.Broker)
	if s.c.Node.Name == "" {
		host, err := os.Hostname()
		if err != nil {
			host = ""
		}
		s.c.Node.Name = nodeName(host)
	}
	// exact implies f32; only a kv that somebody wrote down contradicts it.
	if s.c.Backend.Precision == "exact" && s.byKey["backend.kv"].origin == "" {
		s.c.Backend.KV = "f32"
	}
}

// nodeName reduces a host name to the characters and length of a node's name: what stands before the first dot, with
// anything else turned into '-'.
func nodeName(host string) string {
	host, _, _ = strings.Cut(host, ".")
	b := []byte(host)
	if len(b) > MaxName {
		b = b[:MaxName]
	}
	for i, ch := range b {
		if !nameByte(ch) {
			b[i] = '-'
		}
	}
	if len(b) == 0 {
		return "edged"
	}
	return string(b)
}

// resolvePaths makes paths absolute by the folder of the configuration file.
func (s *settings) resolvePaths(file string) []error {
	base, err := filepath.Abs(file)
	if err != nil {
		return []error{fmt.Errorf("config: %s: %w", file, err)}
	}
	if file != "" {
		base = filepath.Dir(base)
	}
	for _, f := range s.fields {
		if !pathKey(f.key) {
			continue
		}
		if list, ok := reflect.TypeAssert[[]string](f.value); ok {
			out := make([]string, len(list)) // the list may be somebody else's
			for i, p := range list {
				out[i] = absolute(base, p)
			}
			f.value.Set(reflect.ValueOf(nonEmpty(out)))
			continue
		}
		f.value.SetString(absolute(base, f.value.String()))
	}
	return nil
}

// absolute is a path seen from a folder; "" stays.
func absolute(base, p string) string {
	switch {
	case p == "":
		return ""
	case filepath.IsAbs(p):
		return filepath.Clean(p)
	}
	return filepath.Join(base, p)
}

// pathKey reports whether a key's value is a path.
func pathKey(key string) bool {
	switch key {
	case "mqtt.password_file", "mqtt.ca_file", "mqtt.cert_file", "mqtt.key_file",
		"http.token_file",
		"model.path", "models.dir", "draft.model", "adapters.dir", "adapters.gate", "prompts.dir", "plugins.dir", "state.dir", "prefix_cache.pinned":
		return true
	}
	return false
}

// explain puts the origin of a value before what is wrong with it.
func (s *settings) explain(problems []problem) []error {
	errs := make([]error, 0, len(problems))
	for _, p := range problems {
		origin := ""
		if f := s.byKey[p.key]; f != nil {
			origin = f.origin
		}
		switch {
		case origin != "":
			errs = append(errs, fmt.Errorf("config: %s: %s: %s", origin, p.key, p.why))
		case s.c.File != "":
			errs = append(errs, fmt.Errorf("config: %s: %s: %s", s.c.File, p.key, p.why))
		default:
			errs = append(errs, fmt.Errorf("config: %s: %s", p.key, p.why))
		}
	}
	return errs
}

// oneLine keeps a message on one line, whatever a file put into it.
func oneLine(s string) string {
	if strings.ContainsAny(s, "\n\r") {
		s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' }), " ")
	}
	const most = 400
	if len(s) > most {
		s = strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}
