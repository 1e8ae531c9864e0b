//go:build !unix || solaris || aix || android

package boltlog

import (
	"os"
	"syscall"
	"time"
)

const errQuota = syscall.ENOSPC // a quota has no error of its own here

// lock leaves locking to bbolt, which does it when it opens the file.
func lock(*os.File, time.Duration) (bool, error) { return true, nil }

func unlock(*os.File) error { return nil }

func syncDir(string) error { return nil }
