package families

import (
	"slices"
	"strings"
	"sync"

	"edged/core/model/arch/families/decoders"
	"edged/core/model/arch/families/encoders"
	"edged/core/model/arch/families/mixtures"
	"edged/core/model/arch/families/recurrent"
	"edged/core/model/arch/family"
)

// ModelType is the model_type of a config.json: that of the text part, where it has one that is in the table.
func ModelType(config map[string]any) string {
	outer, _ := config["model_type"].(string)
	if text, ok := config["text_config"].(map[string]any); ok {
		if inner, _ := text["model_type"].(string); Find(inner) != nil {
			return inner
		}
	}
	return outer
}

// HFName is ToHF for a model of which only the architecture's name is known.
func HFName(architecture, module string) string {
	f := Find(architecture)
	if f == nil {
		f = &family.Family{Modules: family.DecoderModules()}
	}
	return f.ToHF(nil, module)
}

// table is families, made once.
var table = sync.OnceValue(families) //nolint:gochecknoglobals // a table

// families lists them all.
func families() []family.Family {
	return slices.Concat(decoders.All(), mixtures.All(), recurrent.All(), encoders.All())
}

// Find returns the family of a name, nil where there is none.
func Find(name string) *family.Family {
	all := table()
	for i := range all {
		if slices.Contains(all[i].Names, name) {
			return &all[i]
		}
	}
	return nil
}

// Names lists the families that are served, for messages.
func Names() string {
	var names []string
	for _, f := range table() {
		names = append(names, f.Names[0])
	}
	return strings.Join(names, ", ")
}

// Stored is the architecture under which llama.cpp's converter writes a family's models and adapters; a name
// that is not in the table stands for itself.
func Stored(name string) string {
	if f := Find(name); f != nil && f.GGUF != "" {
		return f.GGUF
	}
	return name
}
