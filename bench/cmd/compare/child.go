//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The roles of the children. A child is this program with two arguments, of which the first
// is its role.
const (
	serverRole = "-as-server"
	loadRole   = "-as-load"
)

// linkFD is the descriptor, in each child, of the socket between the two children.
const linkFD = 3

// child is a process of a measurement, as the parent sees it.
type child struct {
	role   string
	cmd    *exec.Cmd
	out    *json.Encoder
	in     *json.Decoder
	stderr stderr
	waited sync.Once
}

// startChild starts a child in a role, with an argument and its end of the link. The child
// is killed when ctx is done.
func startChild(ctx context.Context, role, arg string, link *os.File) (*child, error) {
	exe, err := os.Executable()
	if err != nil {
		return nil, err
	}
	c := &child{role: strings.TrimPrefix(role, "-as-"), cmd: exec.CommandContext(ctx, exe, role, arg)}
	c.cmd.Stderr = &c.stderr
	c.cmd.Env = profileOf(ctx)
	c.cmd.ExtraFiles = []*os.File{link}
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	c.cmd.WaitDelay = time.Second
	stdin, err := c.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := c.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	c.out, c.in = json.NewEncoder(stdin), json.NewDecoder(bufio.NewReader(stdout))
	return c, nil
}

// call asks the child to carry out an operation, waits, and stores its result in result,
// unless that is nil. It returns the operation's error, or a deadChildError if the child
// died.
func (c *child) call(op string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	var a reply
	if err = c.out.Encode(call{op, raw}); err == nil {
		err = c.in.Decode(&a)
	}
	switch {
	case err != nil:
		c.wait() // after it, all of the child's standard error has arrived
		return &deadChildError{c, op}
	case a.Error != "":
		return fmt.Errorf("%s: %s", c.role, a.Error)
	case result == nil:
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

// end kills the child and waits for its end.
func (c *child) end() {
	_ = c.cmd.Process.Kill() // it may be dead already
	c.wait()
}

// wait waits for the child's end.
func (c *child) wait() {
	c.waited.Do(func() { _ = c.cmd.Wait() }) // nearly always an error: the child was killed
}

// deadChildError reports that a child died during an operation.
type deadChildError struct {
	c  *child
	op string
}

func (e *deadChildError) Error() string {
	text := fmt.Sprintf("the %s died during %q", e.c.role, e.op)
	if reason := e.c.stderr.crash(); reason != "" {
		text += ": " + reason
	}
	return text
}

// stderr keeps the first 4 KiB or so that a child writes to its standard error.
type stderr struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (t *stderr) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.buf.Len() < 4<<10 {
		t.buf.Write(p)
	}
	return len(p), nil
}

// crash returns the line that says why the child ended by itself. It returns an empty
// string if there is none, as when the child was killed.
func (t *stderr) crash() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	for line := range strings.SplitSeq(t.buf.String(), "\n") {
		for _, start := range []string{"panic: ", "fatal error: ", "compare: "} {
			if strings.HasPrefix(line, start) {
				return line
			}
		}
	}
	return ""
}

// pair holds the two processes of one measurement.
type pair struct {
	ctx          context.Context
	cancel       context.CancelFunc
	server, load *child
	hello        hello // where the server's streams are
}

// startPair starts a pair whose server sends each event to all subscribers. A subscriber
// may be backlog events behind.
func startPair(ctx context.Context, lib string, backlog int) (*pair, error) {
	p, err := newPair(ctx, lib)
	if err != nil {
		return nil, err
	}
	if err := p.server.call("start", startArgs{Backlog: backlog}, &p.hello); err != nil {
		p.end()
		return nil, err
	}
	return p, nil
}

// newPair starts a process for the library and a process for the load generator. Both are
// killed when ctx is done.
func newPair(ctx context.Context, lib string) (p *pair, err error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("socketpair: %w", err)
	}
	ends := [2]*os.File{os.NewFile(uintptr(fds[0]), "link"), os.NewFile(uintptr(fds[1]), "link")}
	defer ends[0].Close()
	defer ends[1].Close()

	p = &pair{}
	p.ctx, p.cancel = context.WithCancel(ctx)
	defer func() {
		if err != nil {
			p.end()
		}
	}()
	if p.server, err = startChild(p.ctx, serverRole, lib, ends[0]); err != nil {
		return nil, err
	}
	p.load, err = startChild(p.ctx, loadRole, "", ends[1])
	return p, err
}

// end kills both processes and waits for their end.
func (p *pair) end() {
	p.cancel()
	for _, c := range []*child{p.load, p.server} {
		if c != nil {
			c.end()
		}
	}
}

// both calls an operation of the server and one of the load generator at the same time and
// waits for both. If one fails, the other gets two seconds and is then killed. both returns
// the error that tells more.
func (p *pair) both(serverOp string, serverArgs, serverResult any, loadOp string, loadArgs, loadResult any) error {
	errs := make(chan error, 2)
	one := func(c *child, op string, args, result any) {
		err := c.call(op, args, result)
		if err != nil {
			time.AfterFunc(2*time.Second, p.cancel) // until then, the other may report the cause
		}
		errs <- err
	}
	go one(p.server, serverOp, serverArgs, serverResult)
	go one(p.load, loadOp, loadArgs, loadResult)
	return moreTelling(<-errs, <-errs)
}

// moreTelling returns the error that tells more about the cause. The crash of a child tells
// most, then an error that an operation returned. A child that died without a message was
// often killed because the other one failed.
func moreTelling(a, b error) error {
	if detail(b) > detail(a) {
		return b
	}
	return a
}

// detail ranks err for moreTelling.
func detail(err error) int {
	dead, ok := errors.AsType[*deadChildError](err)
	switch {
	case err == nil:
		return 0
	case !ok:
		return 2
	case dead.c.stderr.crash() == "":
		return 1
	}
	return 3
}
