//go:build !linux

package redislog

import "syscall"

func dieWithParent() *syscall.SysProcAttr { return nil }
