package hub

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Choice is the part of a repository that is fetched: one GGUF file, the parts of one, or a folder.
type Choice struct {
	Name   string // of the model: the file's, or the repository's
	Folder bool
	Files  []File
}

// Bytes is the size of all files.
func (c Choice) Bytes() (n int64) {
	for _, f := range c.Files {
		n += f.Size
	}
	return n
}

var (
	splitPart = regexp.MustCompile(`-(\d{5})-of-(\d{5})\.gguf$`)
	beside    = regexp.MustCompile(`(?i)(^|[-._/])(mmproj|imatrix)`) // GGUF files that are no models
)

// defaults are the formats that are taken where a repository has several and nobody names one.
var defaults = []string{"Q4_K_M", "Q4_0"} //nolint:gochecknoglobals // a table

// Choose finds the files of a model.
func Choose(l Listing, r Ref) (Choice, error) {
	sets := map[string][]File{} // GGUF files by the name without the part's number
	var names []string
	for _, f := range l.Files {
		if !strings.HasSuffix(f.Name, ".gguf") || beside.MatchString(f.Name) {
			continue
		}
		name := splitPart.ReplaceAllString(f.Name, ".gguf")
		if sets[name] == nil {
			names = append(names, name)
		}
		sets[name] = append(sets[name], f)
	}
	slices.Sort(names)
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("hub: %w: %s: %s", ErrRefused, l.Repo, fmt.Sprintf(format, args...))
	}
	take := func(name string) (Choice, error) {
		files := sets[name]
		slices.SortFunc(files, func(a, b File) int { return strings.Compare(a.Name, b.Name) })
		if m := splitPart.FindStringSubmatch(files[0].Name); m != nil && fmt.Sprintf("%05d", len(files)) != m[2] {
			return Choice{}, refuse("%d of the parts of %s are there, and there should be %s", len(files), name, strings.TrimLeft(m[2], "0"))
		}
		return Choice{Name: strings.TrimSuffix(path.Base(name), ".gguf"), Files: files}, nil
	}
	switch {
	case r.File != "":
		name := splitPart.ReplaceAllString(r.File, ".gguf")
		if sets[name] == nil {
			return Choice{}, refuse("there is no GGUF model %s; there are: %s", r.File, listed(names))
		}
		return take(name)
	case r.Tag != "":
		var fits []string
		for _, name := range names {
			if tagged(name, r.Tag) {
				fits = append(fits, name)
			}
		}
		if len(fits) == 1 {
			return take(fits[0])
		}
		if len(fits) > 1 {
			return Choice{}, refuse("%s fits several files: name one of %s", r.Tag, listed(fits))
		}
		return Choice{}, refuse("no GGUF file is %s; there are: %s", r.Tag, listed(names))
	case len(names) == 1:
		return take(names[0])
	case len(names) > 1:
		for _, tag := range defaults {
			for _, name := range names {
				if tagged(name, tag) {
					return take(name)
				}
			}
		}
		return Choice{}, refuse("it has several models: name one of %s", listed(names))
	}
	c := Choice{Name: path.Base(l.Repo), Folder: true}
	weights := false
	for _, f := range l.Files {
		if !inFolder(f.Name) {
			continue
		}
		weights = weights || strings.HasSuffix(f.Name, ".safetensors")
		c.Files = append(c.Files, f)
	}
	if !weights {
		return Choice{}, refuse("it has neither a .gguf file nor .safetensors files, which are what is served")
	}
	return c, nil
}

func listed(names []string) string {
	const most = 20
	if len(names) == 0 {
		return "none"
	}
	if len(names) > most {
		names = append(slices.Clip(names[:most]), "…")
	}
	return strings.Join(names, ", ")
}

// tagged tells whether a file's name ends with a format.
func tagged(name, tag string) bool {
	base, tag := strings.ToLower(strings.TrimSuffix(path.Base(name), ".gguf")), strings.ToLower(tag)
	rest, ok := strings.CutSuffix(base, tag)
	return ok && (rest == "" || strings.ContainsAny(rest[len(rest)-1:], "-._"))
}

var (
	small     = regexp.MustCompile(`^([0-9]_[A-Za-z]+/)?[A-Za-z0-9._-]+\.(json|txt|jinja|model)$`)
	tensors   = regexp.MustCompile(`^([0-9]_[A-Za-z]+/)?(model|adapter_model)?[A-Za-z0-9._-]*\.safetensors$`)
	elsewhere = regexp.MustCompile(`^(consolidated|adapter_|training_args|README)`) // another's form of the same weights, and notes
)

// inFolder tells whether a file of a repository belongs to what is served of a folder.
func inFolder(name string) bool {
	return (small.MatchString(name) || tensors.MatchString(name)) && !elsewhere.MatchString(path.Base(name))
}
