package testkit

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Network is a network of its own, in three network namespaces of the kernel: a server and a
// client, with a router between them that can drop what they send each other. The rest of
// the machine, and of the process, does not see it.
type Network struct {
	Server, Client *Namespace

	router *Namespace
	hosts  atomic.Int32
}

// Namespace is a network namespace.
type Namespace struct {
	t    testing.TB
	name string
}

var networks atomic.Int32

// NewNetwork returns a network that lasts until the test ends. If the machine cannot have
// one, the test calls [Missing].
func NewNetwork(t testing.TB) *Network {
	t.Helper()
	switch _, err := exec.LookPath("ip"); {
	case setns[runtime.GOARCH] == 0:
		Missing(t, "no network namespaces: the number of setns(2) is not known for "+runtime.GOARCH)
	case os.Geteuid() != 0:
		Missing(t, "no network namespaces: they need root")
	case err != nil:
		Missing(t, "no network namespaces: ip is not on the PATH; install it, such as with apt-get install iproute2")
	}
	prefix := fmt.Sprintf("sse-test-%d-%d-", os.Getpid(), networks.Add(1))
	var ns [3]*Namespace
	for i, role := range [...]string{"server", "router", "client"} {
		ns[i] = &Namespace{t, prefix + role}
		if out, err := exec.CommandContext(t.Context(), "ip", "netns", "add", ns[i].name).CombinedOutput(); err != nil {
			Missing(t, "no network namespaces: "+strings.TrimSpace(string(out)))
		}
		t.Cleanup(func() {
			assert.NoError(t, exec.CommandContext(context.Background(), "ip", "netns", "delete", ns[i].name).Run())
		})
	}
	n := &Network{Server: ns[0], router: ns[1], Client: ns[2]}
	// A side has all addresses of its prefix: 10.1 is the server's, 10.2 the client's.
	for i, side := range []*Namespace{n.Server, n.Client} {
		side.ip(fmt.Sprintf("link add wire type veth peer name side%d netns %s", i+1, n.router.name))
		side.ip(fmt.Sprintf("address add 10.0.%d.2/24 dev wire", i+1))
		side.ip("link set lo up")
		side.ip("link set wire up")
		side.ip(fmt.Sprintf("route add default via 10.0.%d.1", i+1))
		side.ip(fmt.Sprintf("route add local 10.%d.0.0/16 dev lo", i+1))
		n.router.ip(fmt.Sprintf("address add 10.0.%d.1/24 dev side%[1]d", i+1))
		n.router.ip(fmt.Sprintf("link set side%d up", i+1))
		n.router.ip(fmt.Sprintf("route add 10.%d.0.0/16 via 10.0.%[1]d.2", i+1))
	}
	require.NoError(t, n.router.Do(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0)
	}))
	return n
}

// Path is a path between two addresses of a network.
type Path struct {
	Server, Client string // the addresses
	router         *Namespace
}

// Path returns a path between addresses that no other path has.
func (n *Network) Path() Path {
	host := n.hosts.Add(1)
	return Path{
		Server: fmt.Sprintf("10.1.%d.%d", host/256, host%256),
		Client: fmt.Sprintf("10.2.%d.%d", host/256, host%256),
		router: n.router,
	}
}

// Cut makes the router drop all packets of the path, in both directions. It tells nobody.
func (p Path) Cut() {
	p.router.ip("route add blackhole " + p.Client)
	p.router.ip("route add blackhole " + p.Server)
}

// Restore undoes Cut.
func (p Path) Restore() {
	p.router.ip("route delete blackhole " + p.Client)
	p.router.ip("route delete blackhole " + p.Server)
}

// ip runs ip(8) in the namespace.
func (n *Namespace) ip(args string) {
	n.t.Helper()
	out, err := exec.CommandContext(n.t.Context(), "ip", append([]string{"-n", n.name}, strings.Fields(args)...)...).CombinedOutput()
	require.NoError(n.t, err, "ip %s: %s", args, out)
}

// Do calls f on a thread that is in the namespace. A socket stays in the namespace in which it
// was made, and so do the connections that a listener accepts. So f listens or dials, and the
// test uses what it gets as usual. f must make its sockets in its own goroutine. To dial an IP
// address is right; to dial a name is not.
func (n *Namespace) Do(f func() error) error {
	done := make(chan error)
	go func() {
		runtime.LockOSThread() // and no unlock: the thread ends with the goroutine
		done <- func() error {
			file, err := os.Open("/var/run/netns/" + n.name)
			if err != nil {
				return err
			}
			defer file.Close()
			const cloneNewNet = 0x40000000
			if _, _, errno := syscall.Syscall(setns[runtime.GOARCH], file.Fd(), cloneNewNet, 0); errno != 0 {
				return os.NewSyscallError("setns", errno)
			}
			return f()
		}()
	}()
	return <-done
}

// setns is the number of the system call, which package syscall has not on all systems.
var setns = map[string]uintptr{
	"386": 346, "amd64": 308, "arm": 375, "arm64": 268, "loong64": 268, "ppc64le": 350, "riscv64": 268, "s390x": 339,
}
