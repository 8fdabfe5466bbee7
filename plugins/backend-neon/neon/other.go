//go:build !arm64 || purego

package neon

import "edged/quant/kernel"

func best() kernel.Kernels  { return kernel.Portable{} }
func all() []kernel.Kernels { return []kernel.Kernels{kernel.Portable{}} }
