//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// missingError reports a program that is not installed.
type missingError struct{ error }

// server is a process of a server, with its children.
type server struct {
	pid    int
	name   string
	output bytes.Buffer
}

// startServer starts a server that the end of the trial ends by the signal. It dies with this process.
func startServer(t *trial, cmd *exec.Cmd, end syscall.Signal) *server {
	s := &server{name: filepath.Base(cmd.Path)}
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Pdeathsig = end
	if cmd.Stdout == nil {
		cmd.Stdout = &s.output
	}
	cmd.Stderr = &s.output
	cmd.WaitDelay = time.Second
	require.NoError(t, cmd.Start())
	s.pid = cmd.Process.Pid
	t.Cleanup(func() {
		_ = cmd.Process.Signal(end)
		_ = cmd.Wait() // it was killed
	})
	return s
}

// await waits until f succeeds.
func (s *server) await(t *trial, f func(ctx context.Context) error) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		err := f(ctx)
		cancel()
		if err == nil {
			return
		}
		if time.Now().After(deadline) || t.Context().Err() != nil {
			require.NoError(t, err, "%s does not answer", s.name)
		}
	}
}

// cpu returns the processor time that the process and its children have used so far.
func (s *server) cpu() (sum time.Duration) {
	for _, pid := range family(s.pid) {
		tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid)) // the pattern is valid
		for _, task := range tasks {
			text, _ := os.ReadFile(task) // it may have ended
			first, _, _ := strings.Cut(string(text), " ")
			n, _ := strconv.ParseInt(first, 10, 64)
			sum += time.Duration(n)
		}
	}
	return sum
}

// family returns the id of a process, and those of its children.
func family(parent int) []int {
	all := []int{parent}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // the pattern is valid
	for _, stat := range stats {
		text, _ := os.ReadFile(stat)                 // it may have ended
		end := bytes.LastIndexByte(text, ')')        // the name may have spaces and parentheses
		fields := bytes.Fields(text[max(0, end+1):]) // the state, the parent, ...
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(parent) {
			pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			all = append(all, pid)
		}
	}
	return all
}

// freePort returns a port that is free.
func freePort(t *trial) int {
	var cfg net.ListenConfig
	l, err := cfg.Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().(*net.TCPAddr).Port
}

// ownCPU returns the processor time that this process has used so far.
func ownCPU() time.Duration {
	var r unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &r) // it cannot fail with these arguments
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}

// machineCPU returns the processor time that the whole machine has used so far, and that it has had.
func machineCPU() (used, had time.Duration) {
	f, err := os.Open("/proc/stat")
	if err != nil {
		return 0, 0
	}
	defer f.Close()
	line, _ := bufio.NewReader(f).ReadString('\n')
	const tick = 10 * time.Millisecond
	for i, text := range strings.Fields(line) { // cpu, user, nice, system, idle, iowait, irq, softirq, steal; then parts of user and nice
		n, err := strconv.ParseInt(text, 10, 64)
		if err != nil || i > 8 {
			continue
		}
		had += time.Duration(n) * tick
		if i != 4 && i != 5 {
			used += time.Duration(n) * tick
		}
	}
	return used, had
}
