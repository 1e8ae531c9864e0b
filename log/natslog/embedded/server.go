package embedded

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
)

// Server is a NATS server with JetStream in this program. [Start] starts one.
type Server struct {
	server *server.Server
	public bool   // others may connect
	token  string // the password of the server's port, or ""
	lock   *os.File
	log    *logger
	stop   sync.Once
	err    error // of closing lock
}

// LockedError reports that another server uses the folder.
type LockedError struct{ Dir string }

func (e *LockedError) Error() string {
	return fmt.Sprintf("embedded: another server uses the folder %s; each needs its own", e.Dir)
}

// StartError reports that the server could not start, for example because its address is in
// use, or because its files cannot be read.
type StartError struct{ Reason string }

func (e *StartError) Error() string {
	return "embedded: the server cannot start: " + e.Reason
}

// Start starts a server. It returns when the server takes connections, or with a
// [*LockedError], a [*StartError], an error about cfg, or the error of ctx. A server of a
// cluster takes connections before it has found the others; natslog.Open waits for them.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	opts, err := cfg.options()
	if err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	s := &Server{log: newLogger(cfg.Logger), public: cfg.Listen != "", token: opts.Authorization}
	if err := s.lockDir(opts.StoreDir); err != nil {
		return nil, err
	}
	if s.server, err = server.NewServer(opts); err != nil {
		return nil, errors.Join(&StartError{err.Error()}, s.lock.Close())
	}
	s.server.SetLogger(s.log, false, false)
	if err := s.start(ctx); err != nil {
		s.server.Shutdown()
		s.server.WaitForShutdown()
		return nil, errors.Join(err, s.lock.Close())
	}
	return s, nil
}

// lockDir makes the folder, and locks it for this process.
func (s *Server) lockDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "sse.lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("embedded: %w", err)
	}
	mine, err := lock(f)
	switch {
	case err != nil:
		return errors.Join(fmt.Errorf("embedded: %w", err), f.Close())
	case !mine:
		return errors.Join(&LockedError{dir}, f.Close())
	}
	s.lock = f
	return nil
}

// start starts the server, and waits until it is ready.
func (s *Server) start(ctx context.Context) error {
	started := make(chan struct{})
	go func() {
		defer close(started)
		s.server.Start() // returns when it is up, or has called Fatalf
	}()
	for {
		select {
		case reason := <-s.log.fatal:
			return &StartError{reason}
		case <-ctx.Done():
			return fmt.Errorf("embedded: %w", ctx.Err())
		case <-started:
			if s.server.ReadyForConnections(50 * time.Millisecond) {
				return nil
			}
		}
	}
}

// Connect connects to the server within the program, without a network. opts can add
// credentials, and handlers. The connection ends with the server.
func (s *Server) Connect(opts ...nats.Option) (*nats.Conn, error) {
	all := []nats.Option{nats.InProcessServer(s.server)}
	if s.token != "" {
		all = append(all, nats.Token(s.token))
	}
	nc, err := nats.Connect("", append(all, opts...)...)
	if err != nil {
		return nil, fmt.Errorf("embedded: connect: %w", err)
	}
	return nc, nil
}

// URL returns the URL for clients that are not in this program. It is "" without
// Config.Listen.
func (s *Server) URL() string {
	if !s.public {
		return ""
	}
	return s.server.ClientURL()
}

// Unwrap returns the server, for what this package does not offer.
func (s *Server) Unwrap() *server.Server { return s.server }

// Shutdown stops the server. It returns when all is in its files and they are closed, or with
// the error of ctx; it goes on stopping then. Shut down the hubs first, and close their
// connections. Before the next server of a cluster is stopped, the one before it should be
// back: a cluster needs more than half of its servers.
func (s *Server) Shutdown(ctx context.Context) error {
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.stop.Do(func() {
			s.server.Shutdown()
			s.server.WaitForShutdown()
			s.err = s.lock.Close()
		})
	}()
	select {
	case <-done:
		return s.err
	case <-ctx.Done():
		return fmt.Errorf("embedded: shutdown: %w", ctx.Err())
	}
}
