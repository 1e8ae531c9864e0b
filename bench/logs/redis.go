//go:build linux

package main

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"github.com/redis/go-redis/v9"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/redislog"
)

// redisPlace is a place in a server of Redis.
type redisPlace struct{ name, about, fsync string }

var redisPlaces = []redisPlace{
	{"Redis, everysec", "one server of Redis with `appendonly yes`; the file is synced once a second", "everysec"},
	{"Redis, always", "the same with `appendfsync always`: each write is synced to the disk", "always"},
}

// place returns the place, with its files in dir.
func (r redisPlace) place(dir string) *place {
	var addr string
	return &place{
		name: r.name, about: r.about, nodes: true,
		start: func(t *trial, p *place) {
			program, err := exec.LookPath("redis-server")
			if err != nil {
				t.errs = append(t.errs, &missingError{errors.New("there is no redis-server; install it, for example with: apt-get install redis-server")})
				t.FailNow()
			}
			require.NoError(t, os.MkdirAll(dir, 0o755))
			port := strconv.Itoa(freePort(t))
			addr = "127.0.0.1:" + port
			p.server = startServer(t, exec.CommandContext(context.WithoutCancel(t.Context()), program,
				"--port", port, "--bind", "127.0.0.1", "--dir", dir, "--save", "", "--loglevel", "warning",
				"--appendonly", "yes", "--appendfsync", r.fsync, "--auto-aof-rewrite-percentage", "0"), syscall.SIGKILL)
			c := redis.NewClient(&redis.Options{Addr: addr})
			defer c.Close()
			p.server.await(t, func(ctx context.Context) error { return c.Ping(ctx).Err() })
		},
		create: func(t *trial, name string) *source {
			c := redis.NewClient(&redis.Options{Addr: addr})
			t.Cleanup(func() {
				require.NoError(t, errors.Join(c.FlushAll(context.Background()).Err(), c.Close()))
			})
			return &source{open: func(t *trial) hub.Log {
				c := redis.NewClient(&redis.Options{Addr: addr})
				t.Cleanup(func() { _ = c.Close() }) // nothing is lost by an error
				l, err := redislog.Open(t.Context(), c, redislog.Config{Name: name, MaxEvents: -1, MaxBytes: -1, Logger: quiet})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, l.Close()) })
				return l
			}}
		},
	}
}
