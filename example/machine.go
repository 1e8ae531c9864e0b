package main

import (
	"net"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shirou/gopsutil/v4/cpu"
	"github.com/shirou/gopsutil/v4/disk"
	"github.com/shirou/gopsutil/v4/host"
	"github.com/shirou/gopsutil/v4/mem"
	psnet "github.com/shirou/gopsutil/v4/net"
)

// reading is the values of the machine's counters at one moment. A part that cannot be
// read, on this system or by this user, is nil.
type reading struct {
	time    time.Time
	cores   []coreTime
	memory  *usage
	network *traffic
	disk    *traffic
	space   *usage
}

// usage is how much of the memory or of a file system is used, in bytes.
type usage struct{ used, total uint64 }

// traffic is how much has gone in and out since the machine started, in bytes.
type traffic struct{ in, out uint64 }

// readMachine reads the counters of this machine. The space is that of the file system
// that path is on.
func readMachine(path string) reading {
	r := reading{time: time.Now()}
	if cores, err := cpu.Times(true); err == nil {
		for _, c := range cores {
			idle := c.Idle + c.Iowait
			// User and Nice already include guest time.
			busy := c.User + c.Nice + c.System + c.Irq + c.Softirq + c.Steal
			r.cores = append(r.cores, coreTime{busy: busy, total: busy + idle})
		}
	}
	if m, err := mem.VirtualMemory(); err == nil {
		r.memory = &usage{used: m.Used, total: m.Total}
	}
	if counters, err := psnet.IOCounters(true); err == nil {
		loopback := loopbacks()
		r.network = &traffic{}
		for _, c := range counters {
			if !slices.Contains(loopback, c.Name) {
				r.network.in += c.BytesRecv
				r.network.out += c.BytesSent
			}
		}
	}
	if counters, err := disk.IOCounters(); err == nil {
		r.disk = &traffic{}
		for name, c := range counters {
			if isDisk(name, counters) {
				r.disk.in += c.ReadBytes
				r.disk.out += c.WriteBytes
			}
		}
	}
	if u, err := disk.Usage(path); err == nil {
		r.space = &usage{used: u.Used, total: u.Total}
	}
	return r
}

// loopbacks returns the names of the loopback interfaces.
func loopbacks() (names []string) {
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		if i.Flags&net.FlagLoopback != 0 {
			names = append(names, i.Name)
		}
	}
	return names
}

// isDisk reports whether name is a whole disk. It is not if it is a partition, such as
// sda1 or nvme0n1p1, or a virtual device on top of disks, such as dm-0. The traffic of
// both is also counted for the disk.
func isDisk[T any](name string, counters map[string]T) bool {
	for _, virtual := range []string{"dm-", "md", "loop", "ram", "zram"} {
		if strings.HasPrefix(name, virtual) {
			return false
		}
	}
	// The name of a partition is the name of its disk and a number. If the disk's name
	// ends in a digit, there is a letter between the two.
	trunk := strings.TrimRight(name, "0123456789")
	if _, whole := counters[trunk]; whole && trunk != name {
		return false
	}
	if n := len(trunk) - 1; n > 0 && trunk != name {
		if _, whole := counters[trunk[:n]]; whole && (trunk[n] == 'p' || trunk[n] == 's') {
			return false
		}
	}
	return true
}

// Host describes the machine: what does not change while the program runs.
type Host struct {
	System string `json:"system"`
	CPU    string `json:"cpu,omitempty"`
	Cores  int    `json:"cores"`
	// Retry is how long a client waits before it reconnects, in milliseconds. A browser
	// obeys the stream's own retry field but does not show it to the page.
	Retry int64 `json:"retry"`
}

// theHost returns the description of this machine. It reads it only once, because it
// stays the same and takes far longer to read than a sample.
var theHost = sync.OnceValue(func() Host {
	h := Host{System: runtime.GOOS, Cores: runtime.NumCPU(), Retry: retry.Milliseconds()}
	if info, err := host.Info(); err == nil {
		h.System = strings.Join(strings.Fields(info.Platform+" "+info.PlatformVersion+" "+info.KernelArch), " ")
	}
	if info, err := cpu.Info(); err == nil && len(info) > 0 {
		h.CPU = info[0].ModelName
	}
	return h
})
