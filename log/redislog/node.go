package redislog

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"
)

const (
	callTimeout = 3 * time.Second // how long an answer may take
	closeAfter  = 10 * time.Second
)

//go:embed script/look.lua
var lookScript string

//go:embed script/settle.lua
var settleScript string

//go:embed script/append.lua
var appendScript string

var (
	look     = redis.NewScript(lookScript)
	settle   = redis.NewScript(settleScript)
	appendTo = redis.NewScript(appendScript)
)

// node is the connections to the server that has the log. They have the options of the
// application's client, but a command is sent once: an append that was sent twice would be there
// twice.
type node struct {
	source redis.UniversalClient // of the application
	key    string                // of the log
	wait   time.Duration         // how long the server may wait before it answers

	mu     sync.Mutex
	client *redis.Client // nil before the first call, and after reset
	closed bool
}

// get returns the client for the server that has the log. Its connections may be those to a
// server that no longer is it; see reset.
func (n *node) get(ctx context.Context) (*redis.Client, error) {
	n.mu.Lock()
	client, closed := n.client, n.closed
	n.mu.Unlock()
	switch {
	case closed:
		return nil, errClosed
	case client != nil:
		return client, nil
	}
	opts, err := n.options(ctx)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.closed {
		return nil, errClosed
	}
	if n.client == nil {
		n.client = redis.NewClient(opts)
	}
	return n.client, nil
}

// options returns the options of a client for the server that has the log now.
func (n *node) options(ctx context.Context) (*redis.Options, error) {
	var opts redis.Options
	switch source := n.source.(type) {
	case *redis.Client:
		opts = *source.Options()
	case *redis.ClusterClient:
		master, err := source.MasterForKey(ctx, n.key)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errTryAgain, err)
		}
		opts = *master.Options()
	default:
		return nil, fmt.Errorf("the client is a %T; it must be a *redis.Client or a *redis.ClusterClient", n.source)
	}
	opts.MaxRetries = -1
	opts.DialerRetries = 1
	opts.ReadTimeout, opts.WriteTimeout = callTimeout+n.wait, callTimeout
	opts.ContextTimeoutEnabled = false
	opts.MinIdleConns = 0
	opts.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	return &opts, nil
}

// follower returns a client with a connection of its own, for commands that block.
func (n *node) follower(ctx context.Context) (*redis.Client, error) {
	n.mu.Lock()
	closed := n.closed
	n.mu.Unlock()
	if closed {
		return nil, errClosed
	}
	opts, err := n.options(ctx)
	if err != nil {
		return nil, err
	}
	opts.PoolSize, opts.MaxActiveConns = 1, 0
	opts.ReadTimeout = followBlock + callTimeout
	return redis.NewClient(opts), nil
}

// reset makes the next call connect anew, after err of client if that says that its server is not,
// or may not be, the one that has the log.
func (n *node) reset(ctx context.Context, client *redis.Client, err error) {
	if !hasCode(err, "MOVED", "ASK", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN") && !isNetwork(err) {
		return
	}
	if cluster, ok := n.source.(*redis.ClusterClient); ok {
		cluster.ReloadState(context.WithoutCancel(ctx))
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if client != nil && n.client == client {
		n.client = nil
		time.AfterFunc(closeAfter, func() { _ = client.Close() }) // others may use it still
	}
}

func (n *node) close() error {
	n.mu.Lock()
	defer n.mu.Unlock()
	client := n.client
	n.client, n.closed = nil, true
	if client == nil {
		return nil
	}
	return client.Close()
}

// isNetwork reports whether err is one of the connection, not of the server.
func isNetwork(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	var netErr net.Error
	return errors.As(err, &netErr) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, redis.ErrClosed)
}

// unsent reports whether err says that there was no connection, so that nothing was sent.
func unsent(err error) bool {
	var opErr *net.OpError
	return errors.As(err, &opErr) && opErr.Op == "dial" || errors.Is(err, redis.ErrPoolTimeout) || errors.Is(err, errTryAgain)
}

// refusals are the codes of errors after which the server has done nothing, and may do it later, or
// another server may.
var refusals = []string{"MOVED", "ASK", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "LOADING", "BUSY", "NOREPLICAS"}

// temporary reports whether what has failed may succeed later.
func temporary(err error) bool {
	return hasCode(err, refusals...) || unsent(err) || isNetwork(err)
}

// do calls f, which may go on in the background when ctx ends before.
func (n *node) do(ctx context.Context, f func(ctx context.Context, c *redis.Client) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() {
		client, err := n.get(ctx)
		if err == nil {
			err = f(ctx, client)
		}
		n.reset(ctx, client, err)
		done <- err
	}()
	select {
	case err := <-done:
		if err != nil && ctx.Err() != nil {
			return fmt.Errorf("%w: %w", ctx.Err(), err)
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	}
}
