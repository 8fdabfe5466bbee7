package arch

import (
	"reflect"
	"strings"
	"testing"
)

// TestCanonical holds the text of Specs that use the last constant of each enumeration: names of pages on disk are made of it. When an
// example changes, raise pageFormat in package engine in the same commit.
func TestCanonical(t *testing.T) {
	for _, c := range []struct {
		name string
		spec Spec
		want string
	}{
		{"zero", Spec{}, `{}`},
		{
			"decoder",
			Spec{
				Family: "llama", Width: 32, Vocab: 272, Context: 128, Norm: RMS("output_norm", 1e-6), Permuted: true,
				Head: Head{Bias: Absent, Cap: 30},
				Layers: []Layer{{
					{Pre: RMS("attn_norm", 1e-6), Op: Attention{
						Heads: 4, KVHeads: 2, KeyDim: 8, ValueDim: 8, QKVBias: Required, QKNorm: QKNorm{Of: WholeRow, Kind: LayerNorm},
						Position: Rope{Dim: 8, Base: 1e4, Scaling: Scaling{Kind: LongRope, Factor: 1.1, Short: []float32{1, 0.1}}},
					}},
					{Op: GLU{Hidden: 48, Act: Act{Kind: ClampedSiLU, A: 1.702, B: 7}}, Wire: Shared},
					{Op: MoE{Experts: 4, Used: 2, Router: Router{Kind: SparseMixer, Jitter: 0.01}}},
				}, {}},
			},
			`{Context=128 Family="llama" Head={Bias=2 Cap=30} Layers=[[` +
				`{Op=Attention{Heads=4 KVHeads=2 KeyDim=8 Position=Rope{Base=10000 Dim=8 Scaling={Factor=1.1 Kind="longrope" Short=[1 0.1]}}` +
				` QKNorm={Kind=2 Of=3} QKVBias=1 ValueDim=8} Pre={Eps=1e-06 Kind=1 Name="attn_norm"}}` +
				` {Op=GLU{Act={A=1.702 B=7 Kind=7} Hidden=48} Wire=2}` +
				` {Op=MoE{Experts=4 Router={Jitter=0.01 Kind=3} Used=2}}] []]` +
				` Norm={Eps=1e-06 Kind=1 Name="output_norm"} Permuted=true Vocab=272 Width=32}`,
		},
		{
			"encoder-decoder",
			Spec{
				Kind: EncoderDecoder, Fixes: []Fix{AddOne{Of: []string{"a \"b\""}}, Split{Of: "q", Into: []string{"x", "y"}, Groups: 2}},
				Encoder: &Spec{Kind: Encoder, Pool: Pool{Kind: PoolLast, Normalize: true}, Layers: []Layer{{{Op: Attention{Position: ALiBi{Max: 8}}}, {}}}},
			},
			`{Encoder={Kind=1 Layers=[[{Op=Attention{Position=ALiBi{Max=8}}} {}]] Pool={Kind=3 Normalize=true}}` +
				` Fixes=[AddOne{Of=["a \"b\""]} Split{Groups=2 Into=["x" "y"] Of="q"}] Kind=2}`,
		},
	} {
		if got := c.spec.Canonical(); got != c.want {
			t.Errorf("%s:\ngot  %s\nwant %s", c.name, got, c.want)
		}
	}
}

// TestCanonicalTells changes every field of a Spec, with those of every operation, position and fix, one by one: each gives a text of
// its own.
func TestCanonicalTells(t *testing.T) {
	attention := Attention{Position: Rope{}}
	spec := Spec{
		Encoder: &Spec{}, Layers: []Layer{{
			{Op: attention},
			{Op: Attention{Position: ALiBi{}}},
			{Op: Attention{Position: Distances{}}},
			{Op: Latent{}},
			{Op: Cross{}},
			{Op: GLU{}},
			{Op: MLP{}},
			{Op: MoE{}},
			{Op: ShortConv{}},
			{Op: Mamba1{}},
			{Op: Mamba2{}},
			{Op: Delta{}},
			{Op: PerLayer{}},
			{Op: AltUpPredict{}},
			{Op: AltUpCorrect{}},
			{Op: AltUpSpread{}},
			{Op: AltUpGather{}},
			{Op: Laurel{}},
		}},
		Fixes: []Fix{Transpose{}, Split{}, Join{}, AddOne{}, Stack{}, Expand{}},
	}
	seen := map[string]string{spec.Canonical(): "nothing"}
	check := func(path string) {
		text := spec.Canonical()
		if other, twice := seen[text]; twice {
			t.Errorf("%s and %s give one text: %s", path, other, text)
		}
		seen[text] = path
	}
	changeEach(t, reflect.ValueOf(&spec).Elem(), "Spec", check)
	if len(seen) < 150 {
		t.Errorf("only %d changes", len(seen))
	}
	for _, field := range []string{".Encoder.Width", ".Scaling.Long", ".Op.Router.Jitter", ".Fixes[1].Groups", ".Op.Position.Max", ".Op.Scales[4]"} {
		found := false
		for _, path := range seen {
			found = found || strings.HasSuffix(path, field)
		}
		if !found {
			t.Errorf("%s was never changed", field)
		}
	}
}

// changeEach sets every leaf below v to another value, calls check and sets it back.
func changeEach(t *testing.T, v reflect.Value, path string, check func(path string)) {
	t.Helper()
	old := reflect.ValueOf(v.Interface())
	change := func(to any) {
		v.Set(reflect.ValueOf(to).Convert(v.Type()))
		check(path)
		if old.IsValid() {
			v.Set(old)
		} else {
			v.SetZero()
		}
	}
	switch v.Kind() { //nolint:exhaustive // the others have their own failure
	case reflect.Struct:
		for i := range v.NumField() {
			changeEach(t, v.Field(i), path+"."+v.Type().Field(i).Name, check)
		}
	case reflect.Array:
		for i := range v.Len() {
			changeEach(t, v.Index(i), path+"["+string(rune('0'+i))+"]", check)
		}
	case reflect.Slice:
		for i := range v.Len() {
			changeEach(t, v.Index(i), path+"["+string(rune('0'+i))+"]", check)
		}
		v.Set(reflect.Append(v, reflect.Zero(v.Type().Elem())))
		check(path)
		v.Set(old)
	case reflect.Interface:
		if v.IsNil() {
			return
		}
		// What an interface holds cannot be set: a copy is changed and put back.
		inner := reflect.New(v.Elem().Type()).Elem()
		inner.Set(v.Elem())
		changeEach(t, inner, path, func(path string) {
			v.Set(inner)
			check(path)
		})
		v.Set(old)
	case reflect.Pointer:
		if !v.IsNil() {
			changeEach(t, v.Elem(), path, check)
		}
	case reflect.String:
		change("other")
	case reflect.Bool:
		change(!v.Bool())
	case reflect.Int, reflect.Uint8, reflect.Float32, reflect.Float64:
		change(77)
	default:
		t.Errorf("%s is a %s", path, v.Kind())
	}
}
