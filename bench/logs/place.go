//go:build linux

package main

import (
	"fmt"
	"path/filepath"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/log/boltlog"
)

// place is where the events of hubs can be.
type place struct {
	name   string
	about  string // what it is, for the page
	nodes  bool   // whether several processes can have the same log
	server *server
	start  func(t *trial, p *place) // starts the server; nil if there is none

	// create makes a new log, which the end of the trial removes. It returns a function that opens
	// it, as a process does; a nil hub.Log is the hub's own memory.
	create func(t *trial, name string) *source
}

// source is a new log.
type source struct {
	open     func(t *trial) hub.Log
	postgres *database // nil for another log
}

// The names of the places that are named elsewhere.
const (
	memoryName   = "memory"
	postgresName = "Postgres"
)

// places returns all places. Those that have files have them in dir.
func places(dir string) []*place {
	all := []*place{
		{
			name: memoryName, about: "a hub without `Config.Log`",
			create: func(*trial, string) *source {
				return &source{open: func(*trial) hub.Log { return nil }}
			},
		}, {
			name: "bolt", about: "a file; each append is synced to the disk",
			create: func(t *trial, name string) *source {
				l, err := boltlog.Open(filepath.Join(dir, name+".db"), boltlog.Config{Logger: quiet})
				require.NoError(t, err)
				t.Cleanup(func() { require.NoError(t, l.Close()) })
				return &source{open: func(*trial) hub.Log { return l }}
			},
		},
	}
	for i, n := range natsPlaces {
		all = append(all, n.place(filepath.Join(dir, fmt.Sprint("nats", i))))
	}
	for i, r := range redisPlaces {
		all = append(all, r.place(filepath.Join(dir, fmt.Sprint("redis", i))))
	}
	return append(all, postgresPlace(dir))
}
