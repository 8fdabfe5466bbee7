package kerneltest

import (
	"fmt"
	"math/rand/v2"
	"reflect"
	"sort"
	"testing"

	"edged/quant"
	"edged/quant/kernel"
	"edged/quant/kernel/simd"
)

// Census runs what production runs, with a counter in place of every kernel of a set, and fails for those
// that nothing has reached: they would be compiled, tested and shipped for nobody. Weights come in tiles only
// where the set wants them, which is where a model's loader makes them.
func Census(t *testing.T, set simd.Set) {
	t.Helper()
	reached := map[string]bool{}
	count(reflect.ValueOf(&set).Elem(), "", reached)
	drive(simd.New(set))
	var idle []string
	for name, hit := range reached {
		if !hit {
			idle = append(idle, name)
		}
	}
	sort.Strings(idle)
	for _, name := range idle {
		t.Errorf("%s: nothing reaches %s", set.Name, name)
	}
}

// count puts a function that notes its name around every function below v.
func count(v reflect.Value, name string, reached map[string]bool) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			count(v.Field(i), name+v.Type().Field(i).Name, reached)
		}
	case reflect.Array:
		for i := range v.Len() {
			count(v.Index(i), fmt.Sprintf("%s[%d]", name, i), reached)
		}
	case reflect.Func:
		if v.IsNil() {
			return
		}
		real := reflect.ValueOf(v.Interface())
		reached[name] = false
		v.Set(reflect.MakeFunc(v.Type(), func(args []reflect.Value) []reflect.Value {
			reached[name] = true
			return real.Call(args)
		}))
	default:
	}
}

// drive calls everything with the sizes that models and batches have.
func drive(k *simd.Kernels) {
	r := rand.New(rand.NewPCG(16, 1))
	const rows, cols, most = 16, 256, 40
	y := make([]float32, most*rows)
	x := Activation(r, most, cols, false, false)
	for _, f := range Formats() {
		// bitsandbytes' scales are nested or not: as chance will have it, so more than once.
		for range 1 + 3*btoi(f.IsBnB()) {
			w := Matrix(r, f, rows, cols, false)
			for _, tiles := range []bool{false, true} {
				if tiles && (!k.WantsTiles() || !Tile(k, w)) {
					continue
				}
				for _, n := range []int{1, 2, 3, 4, 5, 7, 8, 9, 10, 12, 33, 34, 36, most} {
					a := activations(k, kernel.Fast, x[:n*cols], n, cols)
					k.MatMul(y, rows, w, a, kernel.Fast, 0, rows)
					if n < 5 && f.BlockSize() == 1 {
						a = activations(k, kernel.Exact, x[:n*cols], n, cols)
						k.MatMul(y, rows, w, a, kernel.Exact, 0, rows)
					}
				}
			}
		}
	}
	for _, kv := range []kernel.KVType{kernel.KVF32, kernel.KVF16, kernel.KVQ8} {
		for _, group := range []int{1, 2, 4, 5, 8} {
			a := Arena(r, k, kv, group, 64, 100, false)
			a.SoftCap = 50
			dst, other := newPartial(group, 64), newPartial(group, 64)
			k.Attend(dst, a)
			k.Attend(other, a)
			k.Combine(dst, other)
		}
	}
	v, w := Floats(r, 64, false), Floats(r, 64, false)
	k.RMSNorm(v, v, w, 1e-5)
	k.LayerNorm(v, v, w, w, 1e-5)
	k.Rotate(v[:64], w[:32], w[:32], true)
	k.Rotate(v[:64], w[:32], w[:32], false)
	for _, f := range Funcs() {
		k.Gate(v, w, f)
	}
	b := make([]byte, 4096)
	k.Sum(b)
	f := &kernel.Factors{Rank: 8, In: 64, Out: 64}
	na, nb, _ := kernel.LoRASizes(f.Rank, f.In, f.Out)
	f.A, f.B = make([]byte, na), make([]byte, nb)
	kernel.PackLoRA(f, Matrix(r, quant.F32, 8, 64, false), Matrix(r, quant.F32, 64, 8, false), 1, 1)
	k.LoRADown(y, 8, f, x, 5, 0, f.Groups())
	k.LoRAUp(v, f, y, 1, 0, 64)
	k.Conv(Conv(r, 5, 64, 4), 0, 64)
	k.Scan(Scan(r, 5, 2, 64, 64, 1, false), 0, 2)
	k.Delta(Delta(r, 5, 1, 2, 64, 64, false), 0, 2)
}

func btoi(b bool) int {
	if b {
		return 1
	}
	return 0
}
