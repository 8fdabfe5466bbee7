//go:build unix && !linux

package mmap

import "golang.org/x/sys/unix"

func advise(b []byte, a Advice) error {
	switch a {
	case WillNeed, Populate:
		return unix.Madvise(b, unix.MADV_WILLNEED)
	case Sequential:
		return unix.Madvise(b, unix.MADV_SEQUENTIAL)
	case Random:
		return unix.Madvise(b, unix.MADV_RANDOM)
	case DontNeed:
		return unix.Madvise(b, unix.MADV_DONTNEED)
	default:
		return nil
	}
}
