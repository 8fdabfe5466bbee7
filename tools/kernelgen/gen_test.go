package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

const root = "../.."

// TestNotStale compares the checksum of sources, flags and generator with the one in each generated file.
func TestNotStale(t *testing.T) {
	for _, u := range units() {
		sum, err := u.checksum(root)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(u.asmPath(root))
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Contains(text, []byte("// inputs sha256 "+sum+"\n")) {
			t.Errorf("%s is older than csrc/%s, its headers or its flags: run go run ./tools/kernelgen %s", u.asmPath(""), u.src, u.out)
		}
	}
}

// TestReproducible generates anew where the very compiler that a file names is installed.
func TestReproducible(t *testing.T) {
	if testing.Short() {
		t.Skip("short")
	}
	for _, u := range units() {
		t.Run(u.out, func(t *testing.T) {
			have, err := os.ReadFile(u.asmPath(root))
			if err != nil {
				t.Fatal(err)
			}
			version, err := compilerVersion(u.cc)
			if err != nil || !bytes.Contains(have, []byte("// compiler "+u.cc+": "+version+"\n")) {
				t.Skipf("%s is not the compiler that made %s", u.cc, u.asmPath(""))
			}
			asm, decl, err := generate(u, root)
			if err != nil {
				t.Fatal(err)
			}
			haveDecl, err := os.ReadFile(u.declPath(root))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(asm, have) || !bytes.Equal(decl, haveDecl) {
				t.Error("generating it again gives something else")
			}
		})
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
