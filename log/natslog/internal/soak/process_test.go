//go:build unix

package soak

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/chi-sse/sse/hub"
)

// process is a node as the test sees it. Only the test's own goroutine starts and ends it.
type process struct {
	s      *soak
	index  int
	cfg    nodeConfig
	logDir string

	cmd      *exec.Cmd     // nil if it is not running
	stdin    io.Closer     // its end ends the process
	ended    chan struct{} // closed when the process has ended and all that it has said is read
	open     atomic.Bool   // it serves
	frozen   bool
	isBusy   bool      // there is trouble
	stopping bool      // it was asked to stop
	lives    int       // how often it was started
	started  time.Time // the last time

	mu   sync.Mutex
	exit error // of the process that has ended last
}

// lastWords returns the last lines that the node has logged.
func (p *process) lastWords() string {
	text, err := os.ReadFile(p.logFile())
	if err != nil {
		return err.Error()
	}
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return strings.Join(lines[max(0, len(lines)-3):], "; ")
}

// start starts the node, which must not run.
func (p *process) start() error {
	config, err := json.Marshal(p.cfg)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	p.lives++
	logFile, err := os.OpenFile(p.logFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer logFile.Close()
	fmt.Fprintf(logFile, "life %d at %v\n", p.lives, p.s.elapsed())
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), nodeEnv+"="+string(config), "GOMAXPROCS=2")
	cmd.Stderr = logFile
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for the test, which ends it
	stdin, err := cmd.StdinPipe()
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
	ended := make(chan struct{})
	p.cmd, p.stdin, p.ended, p.frozen, p.started = cmd, stdin, ended, false, time.Now()
	go func() {
		defer close(ended)
		p.listen(out)
		p.open.Store(false)
		err := cmd.Wait()
		p.mu.Lock()
		defer p.mu.Unlock()
		p.exit = err
	}()
	return nil
}

// listen reads what the node says. The rest of a line counts for nothing.
func (p *process) listen(out io.Reader) {
	in := bufio.NewReader(out)
	for {
		line, err := in.ReadString('\n')
		if err != nil {
			return
		}
		words := strings.Fields(line)
		switch {
		case len(words) == 1 && words[0] == "open":
			p.open.Store(true)
		case len(words) == 3 && words[0] == "admitted":
			if pos, err := hub.ParsePosition(words[2]); err == nil {
				p.s.noteAdmitted(words[1], pos)
				continue
			}
			fallthrough
		default:
			p.s.fail("%s says %q", p.cfg.Name, line)
		}
	}
}

func (p *process) logFile() string { return filepath.Join(p.logDir, p.cfg.Name+".log") }

// restart starts the node again.
func (p *process) restart() {
	if err := p.start(); err != nil {
		p.s.fail("start %s: %v", p.cfg.Name, err)
	}
}

// checkRunning finds a process that has ended by itself.
func (p *process) checkRunning() {
	if !p.stopping && !p.isBusy {
		p.running()
	}
}

// running reports whether the process is there. One that has ended by itself is a fault.
func (p *process) running() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		p.mu.Lock()
		defer p.mu.Unlock()
		p.s.fail("%s has ended by itself: %v: %s", p.cfg.Name, p.exit, p.lastWords())
		p.cmd = nil
		return false
	default:
		return true
	}
}

// signal sends a signal to the process.
func (p *process) signal(sig os.Signal) {
	if err := p.cmd.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		p.s.fail("%s: %v: %v", p.cfg.Name, sig, err)
	}
}

// kill kills the process, and waits until it has ended.
func (p *process) kill() {
	if p.cmd == nil {
		return
	}
	p.signal(syscall.SIGKILL)
	<-p.ended
	_ = p.stdin.Close()
	p.cmd = nil
}

// maxStop is how long a process may take to stop when it is asked to. It has four steps.
const maxStop = 4*stopPatience + 20*time.Second

// stopped reports whether the process, which was asked to stop at a time, has done so. It must
// do so in time, and without an error.
func (p *process) stopped(asked time.Time) bool {
	select {
	case <-p.ended:
	default:
		if time.Since(asked) < maxStop {
			return false
		}
		p.signal(syscall.SIGQUIT) // it prints its stacks
		<-p.ended
		p.s.fail("%s has not stopped within %v", p.cfg.Name, maxStop)
	}
	_ = p.stdin.Close()
	p.cmd = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.exit != nil {
		p.s.fail("%s was asked to stop: %v", p.cfg.Name, p.exit)
	}
	return true
}

// freeze stops the process from running, or lets it go on.
func (p *process) freeze(frozen bool) {
	if p.cmd == nil || p.frozen == frozen {
		return
	}
	p.frozen = frozen
	sig := syscall.SIGCONT
	if frozen {
		sig = syscall.SIGSTOP
	}
	p.signal(sig)
}

// ask asks the node for its state. The query says what it is to tell in addition.
func (p *process) ask(query string, patience time.Duration) (st state, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	err = p.s.call(ctx, http.MethodGet, p.url("/state", query), nil, &st)
	return st, err
}

func (p *process) url(path, query string) string {
	return (&url.URL{Scheme: "http", Host: p.cfg.HTTP, Path: path, RawQuery: query}).String()
}

// healthy reports why the node is not well; nil if it is.
func (p *process) healthy() error {
	switch {
	case !p.running():
		return errors.New("it does not run")
	case !p.open.Load():
		return errors.New("it does not serve yet")
	}
	st, err := p.ask("", 2*time.Second)
	if err == nil && st.Trouble != "" {
		err = errors.New(st.Trouble)
	}
	return err
}
