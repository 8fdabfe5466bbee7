package pluginhost

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/cpu"

	"edged/core/config"
	"edged/core/protocol"
)

// ErrNotFound means that no plugin of that name is installed.
var ErrNotFound = errors.New("plugin not found")

// SystemDir is the folder into which packages install plugins.
const SystemDir = "/usr/lib/edged/plugins"

// Auto is the backend name that stands for the best one for this machine.
const Auto = "auto"

// Dirs lists where plugins are looked for, in order: dir alone where it is set (plugins.dir of the configuration), else
// the folder "plugins" beside this program's own file, then SystemDir.
func Dirs(dir string) []string {
	if dir != "" {
		return []string{dir}
	}
	var dirs []string
	if exe, err := os.Executable(); err == nil {
		if real, err := filepath.EvalSymlinks(exe); err == nil {
			exe = real
		}
		dirs = append(dirs, filepath.Join(filepath.Dir(exe), "plugins"))
	}
	return append(dirs, SystemDir)
}

// fileName is the file name of a plugin: "backend-neon" for protocol.PluginBackend and "neon".
func fileName(kind, name string) string { return kind + "-" + name }

// Find returns the absolute path of the plugin file called name ("backend-generic") in Dirs(dir). Its error
// is ErrNotFound, and says where it looked and which plugins are there.
func Find(dir, name string) (string, error) {
	if !validName(name) {
		return "", fmt.Errorf(
			"pluginhost: %w: %q is not a name of letters, digits, '.', '_' and '-', at most %d long",
			ErrNotFound,
			name,
			config.MaxName,
		)
	}
	dirs := Dirs(dir)
	var why []string
	for _, d := range dirs {
		path, err := filepath.Abs(filepath.Join(d, name))
		if err != nil {
			return "", fmt.Errorf("pluginhost: %s: %w", d, err)
		}
		err = executable(path)
		if err == nil {
			return path, nil
		}
		why = append(why, looked(d, err))
	}
	return "", fmt.Errorf(
		"pluginhost: %w: %s: looked in %s; set plugins.dir to the folder that holds it",
		ErrNotFound,
		name,
		strings.Join(why, " and "),
	)
}

// looked says what is in a folder that has not what was asked for.
func looked(dir string, err error) string {
	if !errors.Is(err, os.ErrNotExist) {
		return fmt.Sprintf("%s (%v)", dir, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return dir + " (no such folder)"
	}
	var have []string
	for _, e := range entries {
		if isPlugin(e.Name()) && executable(filepath.Join(dir, e.Name())) == nil {
			have = append(have, e.Name())
		}
	}
	if len(have) == 0 {
		return dir + " (no plugins in it)"
	}
	slices.Sort(have)
	const most = 16
	if len(have) > most {
		have = append(have[:most], "…")
	}
	return fmt.Sprintf("%s (which has %s)", dir, strings.Join(have, ", "))
}

func isPlugin(file string) bool {
	return strings.HasPrefix(file, protocol.PluginBackend+"-") || strings.HasPrefix(file, protocol.PluginTokenizer+"-")
}

// executable tells why path cannot be started, as far as its mode shows.
func executable(path string) error {
	st, err := os.Stat(path)
	switch {
	case err != nil:
		return err
	case !st.Mode().IsRegular():
		return fmt.Errorf("%s is not a file", filepath.Base(path))
	case st.Mode().Perm()&0o111 == 0:
		return fmt.Errorf("%s is not executable", filepath.Base(path))
	}
	return nil
}

// validName is the rule of all names, but for hidden files: a folder of plugins may hold some.
func validName(name string) bool { return config.ValidName(name) && name[0] != '.' }

// ResolveBackend turns backend.name into the name of a backend plugin: Auto and "" are "neon" on arm64 with
// Advanced SIMD, "generic" elsewhere; any other name is itself.
func ResolveBackend(name string) string {
	if name != Auto && name != "" {
		return name
	}
	if runtime.GOARCH == "arm64" && cpu.ARM64.HasASIMD {
		return "neon"
	}
	return "generic"
}
