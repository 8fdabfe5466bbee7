// Command backend-generic is the compute backend for every processor: the engine on the best of portable Go, AVX2 and
// AVX-512 kernels. edged starts it.
package main

import (
	"fmt"
	"os"

	"edged/core/infer/engine"
	"edged/core/machine"
	"edged/core/version"
	"edged/plugins/backend-generic/x86"
)

func main() {
	err := engine.Serve(engine.Options{Name: "generic", Version: version.Version, Kernels: x86.Best(), Limited: machine.Limited})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
