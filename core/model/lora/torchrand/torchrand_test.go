package torchrand_test

import (
	"math"
	"testing"

	"edged/core/model/lora/torchrand"
)

// What torch 2.15.0 draws: torch.randperm(n, generator=g) and torch.empty(n).uniform_(from, to, generator=g).
func TestAsTorchDraws(t *testing.T) {
	p := torchrand.New(777).Perm(131072, 1000)
	for i, want := range map[int]int{0: 63591, 1: 3567, 2: 101283, 3: 71868, 299: 17313, 999: 42458} {
		if p[i] != want {
			t.Errorf("randperm of seed 777: place %d is %d, want %d", i, p[i], want)
		}
	}
	for i, want := range []int{1, 0, 3, 4, 2} {
		if got := torchrand.New(3).Perm(5, 5); got[i] != want {
			t.Errorf("randperm(5) of seed 3 is %v", got)
		}
	}
	u := make([]float32, 1000)
	torchrand.New(11+1<<40).Uniform(u, -0.15309310892394862, 0.15309310892394862)
	for i, want := range map[int]uint32{0: 0xbddc1340, 1: 0xbb86e9f6, 2: 0x3e184590, 623: 0xbdf5d88b, 624: 0x3dce8e6b, 999: 0x3e04bcc1} {
		if got := math.Float32bits(u[i]); got != want {
			t.Errorf("uniform of seed 11: value %d is %#x, want %#x", i, got, want)
		}
	}
	torchrand.New(11).UniformBF16(u, -1.0/16, 1.0/16)
	for _, v := range u {
		if v >= 1.0/16 || torchrand.BF16(v) != v {
			t.Errorf("%v is no bfloat16 below the upper bound", v)
		}
	}
}
