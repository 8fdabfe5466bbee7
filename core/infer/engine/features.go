package engine

import "golang.org/x/sys/cpu"

// features are the CPU features that kernels are chosen by, as far as this processor has them. On another architecture
// none of them is set.
func features() []string {
	var out []string
	for _, f := range []struct {
		name string
		has  bool
	}{
		{"avx2", cpu.X86.HasAVX2},
		{"fma", cpu.X86.HasFMA},
		{"avx512f", cpu.X86.HasAVX512F},
		{"avx512bw", cpu.X86.HasAVX512BW},
		{"avx512vl", cpu.X86.HasAVX512VL},
		{"avx512vnni", cpu.X86.HasAVX512VNNI},
		{"asimd", cpu.ARM64.HasASIMD},
		{"asimddp", cpu.ARM64.HasASIMDDP},
		{"asimdhp", cpu.ARM64.HasASIMDHP},
		{"fphp", cpu.ARM64.HasFPHP},
		{"sve", cpu.ARM64.HasSVE},
		{"neon", cpu.ARM.HasNEON},
		{"vfpv4", cpu.ARM.HasVFPv4},
	} {
		if f.has {
			out = append(out, f.name)
		}
	}
	return out
}
