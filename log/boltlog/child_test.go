//go:build unix

package boltlog

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

// Some tests need a process that may be killed, or limited. It is this test binary, with the
// work and the file in the environment.
const childEnv = "SSE_BOLTLOG_CHILD"

// ctxForever is for processes that have no test.
var ctxForever = context.Background()

func TestMain(m *testing.M) {
	if work := os.Getenv(childEnv); work != "" {
		os.Exit(runChild(work))
	}
	os.Exit(m.Run())
}

// child returns a command that does the work with the file.
func child(t testing.TB, work, path string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), childEnv+"="+work+" "+path)
	cmd.Stderr = os.Stderr
	return cmd
}

// runChild does the work, and returns the process's exit code.
func runChild(env string) int {
	work, path, _ := strings.Cut(env, " ")
	err := map[string]func(path string) error{"publish": publishUntilKilled, "full": fillDisk, "serve": serveUntilKilled}[work](path)
	if err != nil {
		fmt.Fprintln(os.Stderr, "child:", err)
		return 1
	}
	return 0
}

// publishUntilKilled appends from several goroutines, and prints what is acknowledged.
func publishUntilKilled(path string) error {
	l, err := Open(path, quiet(Config{}))
	if err != nil {
		return err
	}
	fmt.Println("open")
	var publishers sync.WaitGroup
	for p := range 8 {
		publishers.Go(func() {
			for n := 0; ; n += 1 + p%3 {
				records := make([]hub.Record, 1+p%3)
				for i := range records {
					records[i] = rec(fmt.Sprint("topic", p), fmt.Sprintf("%d-%d-%d", os.Getpid(), p, n+i))
					records[i].Key = records[i].Event.Data
				}
				positions, err := l.Append(ctxForever, records)
				if err != nil {
					fmt.Fprintln(os.Stderr, "child:", err)
					os.Exit(1)
				}
				var line strings.Builder
				for i, pos := range positions {
					fmt.Fprintf(&line, "%d %s\n", pos.Offset, records[i].Event.Data)
				}
				os.Stdout.WriteString(line.String())
			}
		})
	}
	publishers.Wait()
	return nil
}

// fillDisk appends with a limit on the size of files, which acts as a full disk does.
func fillDisk(path string) error {
	signal.Ignore(syscall.SIGXFSZ)
	l, err := Open(path, quiet(Config{}))
	if err != nil {
		return err
	}
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		return err
	}
	limit := func(size uint64) error {
		return syscall.Setrlimit(syscall.RLIMIT_FSIZE, &syscall.Rlimit{Cur: size, Max: old.Max})
	}
	if err := limit(uint64(info.Size()) + 100_000); err != nil {
		return err
	}
	acknowledged, failures := 0, 0
	for failures < 5 {
		_, err := l.Append(ctxForever, []hub.Record{rec("a", fmt.Sprint(acknowledged, strings.Repeat("x", 5000)))})
		switch full, ok := errors.AsType[*FullError](err); {
		case err == nil && failures > 0:
			return errors.New("an append succeeded on a full disk")
		case err == nil:
			acknowledged++
		case !ok || errors.Is(err, hub.ErrUnknown) || !errors.Is(full, syscall.EFBIG):
			return fmt.Errorf("not a FullError: %w", err)
		default:
			failures++
		}
		if acknowledged > 10_000 {
			return errors.New("the disk is never full")
		}
	}
	if err := checkFilled(l, acknowledged); err != nil {
		return fmt.Errorf("while the disk is full: %w", err)
	}
	if _, err := Open(path+".second", quiet(Config{})); err != nil {
		return fmt.Errorf("a small file fits: %w", err)
	}
	if err := limit(1000); err != nil {
		return err
	}
	if _, err := Open(path+".third", quiet(Config{})); err == nil {
		return errors.New("a file was made on a full disk")
	} else if _, ok := errors.AsType[*FullError](err); !ok {
		return fmt.Errorf("not a FullError: %w", err)
	}
	if err := limit(old.Cur); err != nil {
		return err
	}
	for range 100 {
		if _, err := l.Append(ctxForever, []hub.Record{rec("a", fmt.Sprint(acknowledged, strings.Repeat("x", 5000)))}); err != nil {
			return fmt.Errorf("when there is room again: %w", err)
		}
		acknowledged++
	}
	if err := l.Close(); err != nil {
		return err
	}
	if l, err = Open(path, quiet(Config{})); err != nil {
		return err
	}
	return errors.Join(checkFilled(l, acknowledged), l.Close())
}

// checkFilled checks that l has just the records that fillDisk has appended.
func checkFilled(l *Log, count int) error {
	epoch := l.newest.Load().Epoch
	at, n := hub.Position{Epoch: epoch}, 0
	for at.Offset < l.newest.Load().Last {
		b, err := l.Read(ctxForever, []string{"a"}, at, hub.Position{Epoch: epoch, Offset: none}, 100)
		if err != nil {
			return err
		}
		for _, r := range b.Records {
			if !strings.HasPrefix(r.Event.Data, fmt.Sprint(n, "x")) {
				return fmt.Errorf("record %d begins with %.10s", n, r.Event.Data)
			}
			n++
		}
		at.Offset = b.UpTo
	}
	if n != count {
		return fmt.Errorf("there are %d records and must be %d", n, count)
	}
	return nil
}
