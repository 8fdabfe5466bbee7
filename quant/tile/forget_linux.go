package tile

import (
	"os"

	"golang.org/x/sys/unix"
)

// forget drops a file's pages, which have been written to the disk, from the page cache.
func forget(f *os.File) { _ = unix.Fadvise(int(f.Fd()), 0, 0, unix.FADV_DONTNEED) }
