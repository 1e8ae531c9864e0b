package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/chi-sse/sse/example/internal/elapsed"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

// names are the nodes' names.
var names = []string{"n1", "n2", "n3"}

// nodes are the processes of the nodes.
type nodes struct {
	restart time.Duration
	dir     string // of the sockets
	configs []nodeConfig

	mu   sync.Mutex
	out  io.Writer
	pids []int
}

// newNodes makes the configurations of the nodes. Their files are in dir.
func newNodes(ctx context.Context, dir string, restart time.Duration, out io.Writer) (*nodes, error) {
	addresses, err := freeAddresses(ctx, len(names))
	if err != nil {
		return nil, err
	}
	sockets, err := os.MkdirTemp("", "sse-cluster-")
	if err != nil {
		return nil, err
	}
	n := &nodes{restart: restart, dir: sockets, out: out, pids: make([]int, len(names))}
	secret := rand.Text()
	for i, name := range names {
		n.configs = append(n.configs, nodeConfig{
			Dir:     filepath.Join(dir, name),
			Socket:  filepath.Join(sockets, name),
			Cluster: embedded.Cluster{Listen: addresses[i], Peers: addresses, Secret: secret},
		})
	}
	return n, nil
}

// freeAddresses returns n addresses on which nobody listens.
func freeAddresses(ctx context.Context, n int) (all []string, err error) {
	if n == 0 {
		return nil, nil
	}
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	defer l.Close() // after the others, so that each is another one
	all, err = freeAddresses(ctx, n-1)
	return append(all, l.Addr().String()), err
}

func (n *nodes) close() error { return os.RemoveAll(n.dir) }

// sockets returns the sockets on which the nodes listen.
func (n *nodes) sockets() (all []string) {
	for _, cfg := range n.configs {
		all = append(all, cfg.Socket)
	}
	return all
}

// String returns a line for each node, with its process.
func (n *nodes) String() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	var text strings.Builder
	for i, pid := range n.pids {
		fmt.Fprintf(&text, "%s    process %d\n", names[i], pid)
	}
	return text.String()
}

func (n *nodes) print(format string, values ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	_, _ = fmt.Fprintf(n.out, format+"\n", values...)
}

// run runs the nodes until ctx ends, and calls started when all of them take requests. It
// returns an error if one of them ends before it has ever done that.
func (n *nodes) run(ctx context.Context, started func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	up := make(chan struct{}, len(names))
	var running sync.WaitGroup
	for i, name := range names {
		running.Go(func() {
			isUp := false
			for ctx.Err() == nil {
				err := n.runOnce(ctx, i, func(took time.Duration) {
					if !isUp {
						isUp = true
						up <- struct{}{}
						return
					}
					n.print("%s    process %d, which was ready after %s", name, n.pid(i), elapsed.Text(took))
				})
				switch {
				case ctx.Err() != nil:
					return
				case !isUp:
					cancel(fmt.Errorf("the node %s could not be started: %w", name, err))
					return
				}
				n.print("%s    has ended (%v), and starts again in %v", name, err, n.restart)
				select {
				case <-ctx.Done():
				case <-time.After(n.restart):
				}
			}
		})
	}
	running.Go(func() {
		for range names {
			select {
			case <-up:
			case <-ctx.Done():
				return
			}
		}
		started()
	})
	running.Wait()
	if err := context.Cause(ctx); !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func (n *nodes) pid(i int) int {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pids[i]
}

// runOnce runs a node until its process ends, and calls isReady when it takes requests. When
// ctx ends, it ends the process.
func (n *nodes) runOnce(ctx context.Context, i int, isReady func(took time.Duration)) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	began := time.Now()
	cmd := exec.Command(program, "-node", names[i]) //nolint:noctx // it is ended below
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	n.mu.Lock()
	n.pids[i] = cmd.Process.Pid
	n.mu.Unlock()
	_ = json.NewEncoder(in).Encode(n.configs[i]) // if this fails, the process has ended
	ended := make(chan struct{})
	go func() {
		defer in.Close()
		select {
		case <-ended:
			return
		case <-ctx.Done():
		}
		_ = in.Close() // which tells it to end
		select {
		case <-ended:
		case <-time.After(3 * maxEnd):
			_ = cmd.Process.Kill()
		}
	}()
	for lines := bufio.NewScanner(out); lines.Scan(); {
		if lines.Text() == ready {
			isReady(time.Since(began))
		}
	}
	err = cmd.Wait()
	close(ended)
	if err == nil {
		return errors.New("exit status 0")
	}
	return err
}
