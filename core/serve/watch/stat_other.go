//go:build !linux

package watch

import (
	"io/fs"
	"time"
)

func changeTime(info fs.FileInfo) time.Time { return info.ModTime() }

func inode(fs.FileInfo) uint64 { return 0 }
