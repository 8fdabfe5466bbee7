// Command backend-neon is the compute backend for arm64 boards: the engine on Advanced SIMD kernels. edged starts it.
package main

import (
	"fmt"
	"os"

	"edged/core/infer/engine"
	"edged/core/machine"
	"edged/core/version"
	"edged/plugins/backend-neon/neon"
)

func main() {
	err := engine.Serve(engine.Options{Name: "neon", Version: version.Version, Kernels: neon.Best(), Limited: machine.Limited})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
