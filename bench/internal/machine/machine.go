//go:build linux

// Package machine describes the machine that a benchmark runs on.
package machine

import (
	"fmt"
	"os"
	"runtime"
	"strings"

	"golang.org/x/sys/unix"
)

// Describe describes the machine by its processor, memory and kernel, without its name.
func Describe() string {
	model := "an unknown processor"
	text, _ := os.ReadFile("/proc/cpuinfo") // if it cannot be read, the model stays unknown
	if _, rest, ok := strings.Cut(string(text), "model name"); ok {
		line, _, _ := strings.Cut(rest, "\n")
		model = strings.TrimSpace(strings.TrimLeft(line, " \t:"))
	}
	var info unix.Sysinfo_t
	_ = unix.Sysinfo(&info) // cannot fail with this argument
	var name unix.Utsname
	_ = unix.Uname(&name) // cannot fail either
	memory := float64(info.Totalram) * float64(info.Unit) / (1 << 30)
	return fmt.Sprintf("%d cores of %s, %.0f GiB, Linux %s, %s.", runtime.NumCPU(), model, memory, unix.ByteSliceToString(name.Release[:]), runtime.Version())
}
