//go:build linux

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	natsserver "github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/natslog"
	"github.com/chi-sse/sse/log/natslog/embedded"
)

var quiet = slog.New(slog.DiscardHandler)

// natsPlace is a place in JetStream.
type natsPlace struct {
	name, about string
	servers     int
	slowSync    bool
}

var natsPlaces = []natsPlace{
	{"NATS, synced", "one server of NATS " + natsserver.VERSION + "; each message is synced to the disk (the default of package embedded)", 1, false},
	{"NATS", "the same; the server syncs every two minutes (the default of NATS)", 1, true},
	{"NATS, three servers", "a cluster, and a stream with three replicas, which sync every two minutes; all three servers are on this machine, in one process", 3, true},
}

// place returns the place, with its files in dir.
func (n natsPlace) place(dir string) *place {
	var js jetstream.JetStream
	var urls string
	return &place{
		name: n.name, about: n.about, nodes: true,
		start: func(t *trial, p *place) {
			p.server, urls = n.start(t, dir)
			_, js = connectNATS(t, urls)
		},
		create: func(t *trial, name string) *source {
			t.Cleanup(func() {
				ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
				defer cancel()
				require.NoError(t, js.DeleteStream(ctx, name))
			})
			return &source{open: func(t *trial) hub.Log {
				_, js := connectNATS(t, urls)
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				l, err := natslog.Open(ctx, js, natslog.Config{
					Stream: name, Logger: quiet,
					Create: &jetstream.StreamConfig{Replicas: n.servers, MaxBytes: -1},
				})
				require.NoError(t, err)
				return l
			}}
		},
	}
}

// connectNATS connects to servers.
func connectNATS(t *trial, urls string) (*nats.Conn, jetstream.JetStream) {
	nc, err := nats.Connect(urls, nats.DontRandomize(), nats.MaxReconnects(-1))
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	js, err := jetstream.New(nc)
	require.NoError(t, err)
	return nc, js
}

// childArg is the first argument of this program when it runs the servers. The second one is a
// natsChild.
const childArg = "-as-nats-server"

// natsChild says which servers a child runs.
type natsChild struct {
	Dir      string
	SlowSync bool
	Ports    []int // of the servers to each other; empty for one server without others
}

// start starts the servers in another process, and returns their addresses.
func (n natsPlace) start(t *trial, dir string) (s *server, urls string) {
	child := natsChild{Dir: dir, SlowSync: n.slowSync}
	if n.servers > 1 {
		for range n.servers {
			child.Ports = append(child.Ports, freePort(t))
		}
	}
	arg, err := json.Marshal(child)
	require.NoError(t, err)
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), exe, childArg, string(arg))
	_, err = cmd.StdinPipe() // it is closed when this process ends
	require.NoError(t, err)
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	s = startServer(t, cmd, syscall.SIGKILL)
	urls, err = bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err, "%s", &s.output)
	return s, strings.TrimSpace(urls)
}

// isChild reports whether this process is to run servers.
func isChild() bool { return len(os.Args) == 3 && os.Args[1] == childArg }

// runChild runs servers until the standard input ends.
func runChild() {
	if err := serveNATS(os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// serveNATS starts servers, and prints their addresses.
func serveNATS(arg string) error {
	var child natsChild
	if err := json.Unmarshal([]byte(arg), &child); err != nil {
		return err
	}
	peers := make([]string, len(child.Ports))
	for i, port := range child.Ports {
		peers[i] = fmt.Sprint("127.0.0.1:", port)
	}
	n := max(1, len(peers))
	urls, errs := make([]string, n), make([]error, n)
	var all sync.WaitGroup
	for i := range n {
		all.Go(func() {
			cfg := embedded.Config{Dir: filepath.Join(child.Dir, fmt.Sprint(i)), Listen: "127.0.0.1:0", SlowSync: child.SlowSync, Logger: quiet}
			if len(peers) > 0 {
				cfg.Name, cfg.Cluster = fmt.Sprint("n", i), &embedded.Cluster{Listen: peers[i], Peers: peers}
			}
			s, err := embedded.Start(context.Background(), cfg)
			if errs[i] = err; err == nil {
				urls[i] = s.URL()
			}
		})
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err := fmt.Println(strings.Join(urls, ","))
	return err
}
