//go:build unix && !linux

package tile

import "os"

// forget does nothing: other systems choose the size of pages by themselves.
func forget(*os.File) {}
