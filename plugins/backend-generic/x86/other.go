//go:build !amd64 || purego

package x86

import "edged/quant/kernel"

func best() kernel.Kernels  { return kernel.Portable{} }
func all() []kernel.Kernels { return []kernel.Kernels{kernel.Portable{}} }
