package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const root = "../.."

// TestNotStale compares the checksums of sources, flags and generator, and of what was made of them, with those of kernels.sum.
func TestNotStale(t *testing.T) {
	sums, err := readSums(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, u := range units() {
		if err := u.stale(root, sums[u.out]); err != nil {
			t.Error(err)
		}
	}
	for _, table := range tables() {
		text, err := table.write(root)
		if err != nil {
			t.Fatal(err)
		}
		have, err := os.ReadFile(table.path(root))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(text, have) {
			t.Errorf("%s does not list the kernels that there are: run go run ./tools/kernelgen none", table.path(""))
		}
	}
}

// TestStale: one byte more of an output, or of an input, is seen.
func TestStale(t *testing.T) {
	sums, err := readSums(root)
	if err != nil {
		t.Fatal(err)
	}
	u := units()[0]
	dir := t.TempDir()
	for _, name := range []string{u.asmPath(""), u.declPath(""), u.path()} {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.MkdirAll(filepath.Dir(filepath.Join(dir, name)), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	names, err := u.headers(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, csrc, filepath.Base(name)), text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := u.stale(dir, sums[u.out]); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{u.asmPath(dir), u.declPath(dir), filepath.Join(dir, u.path())} {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		changed := append([]byte{}, text...)
		changed[len(text)/2] ^= 1
		if err := os.WriteFile(name, changed, 0o644); err != nil {
			t.Fatal(err)
		}
		if u.stale(dir, sums[u.out]) == nil {
			t.Errorf("%s: a changed byte was not seen", name)
		}
		if err := os.WriteFile(name, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestPlaces(t *testing.T) {
	for name, want := range map[string]string{
		"gemm4SmallOff": "Gemm[simd.SmallOffsets][2]", "rowsQ6K": "Gemv[quant.Q6_K]", "gemvBnB": "Gemv[quant.NF4] Gemv[quant.FP4]",
		"fewQ4Kx8": "Few[quant.Q4_K][4]", "tilesQ80x3": "FewTiles[quant.Q8_0][2]", "dot4BF16": "Dot[quant.BF16][1]",
		"multiply8Q40": "Multiply[quant.Q4_0][3]", "mix4Q8": "Mix4[kernel.KVQ8]", "funcQuick": "Func[kernel.QuickGELU]",
		"loraDown1": "LoRADown1", "layerNorm": "LayerNorm", "sum": "SumBytes", "weigh4": "Weigh4", "packQ99": "", "fewX1x2": "",
	} {
		at, err := placesOf(name)
		if strings.Join(at, " ") != want || (err != nil) != (want == "") {
			t.Errorf("%s: %v, %v", name, at, err)
		}
	}
}

func TestVerify(t *testing.T) {
	for _, c := range []struct{ arch, insn, want string }{
		{"amd64", "vpaddd zmm0, zmm1, zmm2", "vzeroupper"},
		{"amd64", "push rbx", "contract"},
		{"amd64", "mov rax, qword ptr [rsp + 8]", "contract"},
		{"amd64", "mov ebp, 4", "contract"},
		{"amd64", "call memset", "contract"},
		{"amd64", "add rax, 1", ""},
		{"amd64", "add r14, 1", ""},
		{"arm64", "str q0, [sp, #16]", "contract"},
		{"arm64", "mov x28, x0", "contract"},
		{"arm64", "add w18, w0, #1", "contract"},
		{"arm64", "bl memcpy", "contract"},
		{"arm64", "adrp x0, 0", "contract"},
		{"arm64", "add x26, x27, #1", ""},
	} {
		err := verify(c.arch, []insn{{4, c.insn}, {1, "ret"}})
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s: %q: %v", c.arch, c.insn, err)
		}
	}
	if verify("amd64", []insn{{1, "nop"}}) == nil {
		t.Error("a kernel without ret passed")
	}
}

func TestPrototypes(t *testing.T) {
	got := prototypes("KERNEL NAME(a)(const struct x *p, long n);\nKERNEL NAME(b)(float *y) {\n", "Z")
	if len(got) != 1 || len(got["aZ"]) != 2 || got["aZ"][0] != (param{"p", true}) || got["aZ"][1] != (param{"n", false}) {
		t.Errorf("%v", got)
	}
}
