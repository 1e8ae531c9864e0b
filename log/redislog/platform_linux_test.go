package redislog

import "syscall"

// dieWithParent makes the system kill a process when the test ends without having done so.
func dieWithParent() *syscall.SysProcAttr { return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL} }
