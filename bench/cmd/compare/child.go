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

// The roles of the children, which are this program with two arguments.
const (
	serverRole = "-as-server"
	loadRole   = "-as-load"
)

// linkFD is the children's descriptor of the socket between them.
const linkFD = 3

// child is a process of a measurement, as its parent sees it.
type child struct {
	role   string
	cmd    *exec.Cmd
	out    *json.Encoder
	in     *json.Decoder
	stderr stderr
	waited sync.Once
}

// startChild starts a child that is killed when ctx is done.
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

// call has the child carry out an operation, and waits for its result.
func (c *child) call(op string, args, result any) error {
	raw, err := json.Marshal(args)
	if err != nil {
		return err
	}
	var a answer
	if err = c.out.Encode(call{op, raw}); err == nil {
		err = c.in.Decode(&a)
	}
	switch {
	case err != nil:
		c.wait() // all that it had to say is then there
		return &deadChildError{c, op}
	case a.Error != "":
		return fmt.Errorf("%s: %s", c.role, a.Error)
	case result == nil:
		return nil
	}
	return json.Unmarshal(a.Result, result)
}

// end kills the child.
func (c *child) end() {
	_ = c.cmd.Process.Kill() // it may be dead
	c.wait()
}

func (c *child) wait() {
	c.waited.Do(func() { _ = c.cmd.Wait() }) // killed, nearly always
}

// deadChildError says that a child died, and what it said last.
type deadChildError struct {
	c  *child
	op string
}

func (e *deadChildError) Error() string {
	text := fmt.Sprintf("the %s died in %q", e.c.role, e.op)
	if reason := e.c.stderr.crash(); reason != "" {
		text += ": " + reason
	}
	return text
}

// stderr keeps the start of what a child says on its standard error.
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

// crash is the line that says why the child ended itself; empty if it did not.
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

// pair is the two processes of one measurement.
type pair struct {
	ctx          context.Context
	cancel       context.CancelFunc
	server, load *child
	hello        hello
}

// startPair starts a pair whose server fans out.
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

// newPair starts a process for the library and a load generator. Both are killed when
// ctx is done.
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

func (p *pair) end() {
	p.cancel()
	for _, c := range []*child{p.load, p.server} {
		if c != nil {
			c.end()
		}
	}
}

// both calls the two at once. An error of one ends the other, and is the one that is
// returned.
func (p *pair) both(serverOp string, serverArgs, serverResult any, loadOp string, loadArgs, loadResult any) error {
	errs := make(chan error, 2)
	one := func(c *child, op string, args, result any) {
		err := c.call(op, args, result)
		if err != nil {
			time.AfterFunc(2*time.Second, p.cancel) // time for the other to say why
		}
		errs <- err
	}
	go one(p.server, serverOp, serverArgs, serverResult)
	go one(p.load, loadOp, loadArgs, loadResult)
	return worst(<-errs, <-errs)
}

// worst is the error that tells more. A child that crashed says it all; one that just
// ended was often ended because the other one failed.
func worst(a, b error) error {
	if weight(b) > weight(a) {
		return b
	}
	return a
}

func weight(err error) int {
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
