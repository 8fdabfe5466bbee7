package mmap

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

func advise(b []byte, a Advice) error {
	advice := unix.MADV_NORMAL
	switch a {
	case WillNeed:
		advice = unix.MADV_WILLNEED
	case Sequential:
		advice = unix.MADV_SEQUENTIAL
	case Random:
		advice = unix.MADV_RANDOM
	case DontNeed:
		advice = unix.MADV_DONTNEED
	case HugePage:
		advice = unix.MADV_HUGEPAGE
	case Populate:
		advice = unix.MADV_POPULATE_READ
	}
	err := unix.Madvise(b, advice)
	if a == Populate && errors.Is(err, unix.EINVAL) {
		err = unix.Madvise(b, unix.MADV_WILLNEED)
	}
	if errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOSYS) {
		// A kernel without transparent huge pages, or qemu-user.
		return fmt.Errorf("%w: %w", errors.ErrUnsupported, err)
	}
	return err
}
