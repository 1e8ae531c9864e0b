//go:build !linux

package socket

import (
	"errors"
	"time"
)

var errUnsupported = errors.ErrUnsupported

func limitUnsent(int) error                      { return errUnsupported }
func setUnackedTimeout(int, time.Duration) error { return errUnsupported }
func unacked(int) (int, error)                   { return 0, errUnsupported }
func progress(int) (uint64, error)               { return 0, errUnsupported }
