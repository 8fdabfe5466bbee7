package prefix

import (
	"crypto/sha256"
	"fmt"

	"edged/core/model/arch"
	"edged/core/protocol/backend"
)

// Format names what a page's bytes mean on disk and how its name is made: to be raised with the layout of the
// arena, with Origin.Key and Prompt.Set, with what arch.Spec.Canonical tells, and with every change of the
// arithmetic that changes a bit of a key or a value, where the version of the build does not tell. Format 1
// had names made of a Go struct as Go prints it.
const Format = "edged pages 2"

// Origin holds everything that the bits of a page depend on beside adapters and tokens. Kernels are not in
// it: all of them give the same bits.
type Origin struct {
	Build     string // version of the plugin
	Weights   string // hash of the model with what was requantised
	KVType    string
	Precision backend.Precision
	Page      int // positions of a page
	Spec      *arch.Spec
}

// Key names an origin: a line for each part, the Spec with RoPE's settings in its canonical text. It is given
// as a hash, since that text is long and every request's names begin with the key.
func (o Origin) Key() string {
	text := fmt.Sprintf("%s\nbuild %q\nweights %q\nkv %q\nprecision %q\npositions %d\nspec %s\n",
		Format, o.Build, o.Weights, o.KVType, o.Precision, o.Page, o.Spec.Canonical())
	return fmt.Sprintf("%x", sha256.Sum256([]byte(text)))
}
