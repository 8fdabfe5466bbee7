package prefix

import (
	"testing"

	"edged/core/model/arch"
	"edged/core/protocol/backend"
)

// TestKey: what a page's bits depend on is in its name, and the name is the same in every process.
func TestKey(t *testing.T) {
	of := func(change func(*Origin)) string {
		o := Origin{
			Build: "v1", Weights: "sum", KVType: "f16", Precision: backend.Fast, Page: 32,
			Spec: &arch.Spec{Family: "llama", Encoder: &arch.Spec{Width: 3}},
		}
		if change != nil {
			change(&o)
		}
		return o.Key()
	}
	const want = "3161020049ad480b30d8c1d25bdfa4a3462dc3fe44b943365329a79358c0c232"
	if got := of(nil); got != want {
		t.Errorf("got %s, want %s: raise Format where names change", got, want)
	}
	seen := map[string]bool{want: true}
	for i, change := range []func(*Origin){
		func(o *Origin) { o.Build = "v2" },
		func(o *Origin) { o.Weights = "another" },
		func(o *Origin) { o.KVType = "q8_0" },
		func(o *Origin) { o.Precision = backend.Exact },
		func(o *Origin) { o.Page = 16 },
		func(o *Origin) { o.Spec = &arch.Spec{Family: "llama", Encoder: &arch.Spec{Width: 4}} },
	} {
		if key := of(change); seen[key] {
			t.Errorf("change %d gives no name of its own", i)
		} else {
			seen[key] = true
		}
	}
}
