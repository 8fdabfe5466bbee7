package weights

import (
	"path/filepath"
	"strings"

	"edged/core/model/arch"
	"edged/core/model/digest"
	"edged/core/model/mmap"
)

// pooling reads what the files of sentence-transformers beside an encoder say about the vector of a text: modules.json lists the steps
// behind the network, each with a folder of its own. A folder without them means the mean of all tokens, as that library takes it.
func (b *builder) pooling(dir string) error {
	p := &b.m.Spec.Pool
	*p = arch.Pool{Kind: arch.PoolMean}
	var modules []struct {
		Path string `json:"path"`
		Type string `json:"type"`
	}
	path := filepath.Join(dir, "modules.json")
	if err := readJSON(path, &modules); err != nil {
		if mmap.Absent(err) {
			return nil
		}
		return err
	}
	b.m.files = append(b.m.files, digest.File{Name: "modules.json", Path: path})
	for i, m := range modules {
		switch kind := m.Type[strings.LastIndexByte(m.Type, '.')+1:]; {
		case kind == "Transformer" && i == 0:
		case kind == "Pooling" && i == 1:
			if !filepath.IsLocal(m.Path) {
				return b.fail(ErrInvalid, "modules.json: the path %.80q of %s leaves the folder", m.Path, kind)
			}
			if err := b.poolingMode(dir, m.Path); err != nil {
				return err
			}
		case kind == "Normalize" && i == 2 && len(modules) == 3:
			p.Normalize = true
		default:
			return b.fail(ErrUnsupported, "modules.json: step %d is %.80q; the supported steps are Transformer, Pooling and Normalize, in this order", i, kind)
		}
	}
	return nil
}

// poolingMode reads the configuration of the step that pools, in both of its spellings.
func (b *builder) poolingMode(dir, sub string) error {
	name := filepath.ToSlash(filepath.Join(sub, configName))
	path := filepath.Join(dir, sub, configName)
	var c struct {
		Mode string `json:"pooling_mode"`
		CLS  bool   `json:"pooling_mode_cls_token"`
		Mean bool   `json:"pooling_mode_mean_tokens"`
		Last bool   `json:"pooling_mode_lasttoken"`
		Max  bool   `json:"pooling_mode_max_tokens"`
		Sqrt bool   `json:"pooling_mode_mean_sqrt_len_tokens"`
		Rise bool   `json:"pooling_mode_weightedmean_tokens"`
	}
	if err := readJSON(path, &c); err != nil {
		return err
	}
	b.m.files = append(b.m.files, digest.File{Name: name, Path: path})
	var modes []string
	for _, m := range []struct {
		name string
		on   bool
	}{
		{c.Mode, c.Mode != ""},
		{"cls", c.CLS},
		{"mean", c.Mean},
		{"lasttoken", c.Last},
		{"max", c.Max},
		{"mean_sqrt_len_tokens", c.Sqrt},
		{"weightedmean", c.Rise},
	} {
		if m.on {
			modes = append(modes, m.name)
		}
	}
	if len(modes) == 1 {
		switch modes[0] {
		case "mean":
			b.m.Spec.Pool.Kind = arch.PoolMean
			return nil
		case "cls":
			b.m.Spec.Pool.Kind = arch.PoolCLS
			return nil
		case "lasttoken":
			b.m.Spec.Pool.Kind = arch.PoolLast
			return nil
		}
	}
	return b.fail(ErrUnsupported, "%s: pooling %.120q; the supported ones are one of mean, cls and lasttoken", name, strings.Join(modes, " and "))
}
