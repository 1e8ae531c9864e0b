package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestTailStartsWithTheLastLinesAndFollows(t *testing.T) {
	l := newLog(t, numbered(0, 80))
	s := dial(t, tailOf(t, l)+"/log", "")
	assert.Equal(t, lines(numbered(30, 80)), s.take(tailLines))
	s.quiet()
	for i := 80; i < 90; i++ {
		require.NoError(t, l.append(fmt.Sprintf("line %d", i)))
		ev := s.next()
		assert.Equal(t, fmt.Sprintf("line %d", i), ev.Data)
		size, _ := l.state()
		assert.Equal(t, formatOffset(size), ev.ID)
	}
}

// A client whose id is an offset at which a line starts gets exactly the lines after it. With
// any other id, the client is told and starts again.
func TestTailResumesAtEveryOffset(t *testing.T) {
	text := "first\n\nthird, and longer\nvierte Zeile: äöü €\n5\n"
	url := tailOf(t, newLog(t, text)) + "/log"
	for offset := range len(text) + 3 {
		t.Run(strconv.Itoa(offset), func(t *testing.T) {
			s := dial(t, url, strconv.Itoa(offset))
			defer s.close()
			rest := text[min(offset, len(text)):]
			if offset > len(text) || offset > 0 && text[offset-1] != '\n' {
				ev := s.next()
				assert.Equal(t, "reset", ev.Name)
				assert.Equal(t, "0", ev.ID)
				assert.Contains(t, ev.Data, strconv.Itoa(offset))
				rest = text
			}
			at := len(text) - len(rest)
			for line := range strings.Lines(rest) {
				at += len(line)
				if line == "\n" {
					continue // an event without data sets the id, and clients do not show it
				}
				ev := s.next()
				assert.Equal(t, strings.TrimSuffix(line, "\n"), ev.Data)
				assert.Equal(t, strconv.Itoa(at), ev.ID)
			}
		})
	}
}

func TestTailTellsWhatItCannotResume(t *testing.T) {
	text := numbered(0, 60)
	url := tailOf(t, newLog(t, text)) + "/log"
	for _, id := range []string{
		"x", "-1", "+7", "7.0", "0x7", "1e1", "7 7", "99999999999999999999", "９",
		"9223372036854775807", strings.Repeat("1", 3000), "<img src=x>",
	} {
		t.Run(fmt.Sprintf("%.20s", id), func(t *testing.T) {
			s := dial(t, url, id)
			defer s.close()
			ev := s.next()
			assert.Equal(t, "reset", ev.Name)
			assert.Less(t, len(ev.Data), 200)
			assert.Equal(t, strconv.Itoa(len(numbered(0, 10))), ev.ID)
			assert.Equal(t, lines(numbered(10, 60)), s.take(tailLines))
		})
	}
}

func TestTailTakesTheOffsetFromTheURL(t *testing.T) {
	l := newLog(t, numbered(0, 80))
	url := tailOf(t, l) + "/log?from="
	assert.Equal(t, lines(numbered(0, 80)), dial(t, url+"0", "").take(80))
	// A browser that reconnects by itself sends both. The id in the header is the newer one.
	header := strconv.Itoa(len(numbered(0, 78)))
	assert.Equal(t, lines(numbered(78, 80)), dial(t, url+"0", header).take(2))
}

// A client whose connection breaks before any line came has an id all the same.
func TestTailGivesAnIDBeforeTheFirstLine(t *testing.T) {
	log := newLog(t, "")
	conn := rawGet(t, tailOf(t, log), "/log")
	text := readUntil(t, conn, "id: 0\n\n")
	assert.NotContains(t, text, "data:")
}

func TestTailWhileLinesAreWritten(t *testing.T) {
	const writers, each = 4, 300
	log := newLog(t, "")
	url := tailOf(t, log) + "/log"

	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for i := range each {
				err := log.append(fmt.Sprintf("writer %d line %d", w, i))
				assert.NoError(t, err) //nolint:testifylint // require must not be called here
				time.Sleep(rand.N(time.Millisecond))
			}
		})
	}
	// These readers disconnect and reconnect again and again.
	got := make([][]string, 3)
	for r := range got {
		all.Go(func() {
			last := "0"
			for len(got[r]) < writers*each {
				s := dial(t, url, last)
				for range min(1+rand.IntN(200), writers*each-len(got[r])) {
					ev := <-s.events
					if !assert.Empty(t, ev.Name, ev.Data) || !assert.NotEmpty(t, ev.Data) {
						return
					}
					got[r], last = append(got[r], ev.Data), ev.ID
				}
				s.close()
			}
		})
	}
	all.Wait()
	want := lines(read(t, log.file.Name()))
	for r := range got {
		assert.Equal(t, want, got[r])
	}
}

func TestTailOverARestart(t *testing.T) {
	path := t.TempDir() + "/access.log"
	p := runProgram(t, "127.0.0.1:0", path)
	addr := strings.TrimPrefix(p.url, "http://")
	s := dial(t, p.url+"/log", "")
	for range 5 {
		get(t, p.url+"/hello")
	}
	var seen []string
	last := ""
	for range 3 { // of five
		ev := s.next()
		seen, last = append(seen, ev.Data), ev.ID
	}
	s.close()
	require.NoError(t, p.stop())

	// A crash may leave a part of a line.
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	_, err = f.WriteString("half a li")
	require.NoError(t, err)
	require.NoError(t, f.Close())

	p = runProgram(t, addr, path)
	require.Equal(t, "http://"+addr, p.url)
	s = dial(t, p.url+"/log", last)
	get(t, p.url+"/hello?after")
	for {
		ev := s.next()
		require.Empty(t, ev.Name, ev.Data)
		seen = append(seen, ev.Data)
		if strings.Contains(ev.Data, "after") {
			break
		}
	}
	assert.Equal(t, lines(read(t, path)), seen)
	assert.Contains(t, seen, "half a li (cut off here)")
}

func TestTailShowsAnyFile(t *testing.T) {
	long := strings.Repeat("x", maxLine)
	text := "dos\r\n\xff\xfe\n" + long + "yyy\n" + long + long + "\nend\n"
	log := newLog(t, text)
	s := dial(t, tailOf(t, log)+"/log", "0")
	assert.Equal(t, []string{"dos", "\uFFFD", long + "…", long + "…", "end"}, s.take(5))

	// A line that another program has not written to its end is not sent yet.
	f, err := os.OpenFile(log.file.Name(), os.O_APPEND|os.O_WRONLY, 0)
	require.NoError(t, err)
	defer f.Close()
	write := func(text string) {
		_, err := f.WriteString(text)
		require.NoError(t, err)
		wake(t, log)
	}
	write("ha")
	s.quiet()
	write("lf\n")
	assert.Equal(t, []string{"half"}, s.take(1))
}

func TestTailOfAFileThatIsCut(t *testing.T) {
	log := newLog(t, numbered(0, 60))
	s := dial(t, tailOf(t, log)+"/log", "0")
	s.take(60)

	require.NoError(t, os.Truncate(log.file.Name(), 0))
	require.NoError(t, log.append("shorter"))
	ev := s.next()
	assert.Equal(t, "reset", ev.Name)
	assert.Contains(t, ev.Data, "beyond the end")
	assert.Equal(t, []string{"shorter"}, s.take(1))

	// The file is truncated and grows past the client's offset before tail looks at it.
	require.NoError(t, os.Truncate(log.file.Name(), 0))
	require.NoError(t, os.WriteFile(log.file.Name(), []byte(numbered(100, 103)), 0o600))
	wake(t, log)
	ev = s.next()
	assert.Equal(t, "reset", ev.Name)
	assert.Contains(t, ev.Data, "middle of a line")
	assert.Equal(t, lines(numbered(100, 103)), s.take(3))
}

// A client that stops reading delays neither the writers nor the other readers.
func TestTailOfASlowClient(t *testing.T) {
	log := newLog(t, "")
	url := tailOf(t, log)
	slow := rawGet(t, url, "/log")
	readUntil(t, slow, "\r\n\r\n")
	quick := dial(t, url+"/log", "0")

	const n = 2000
	line := strings.Repeat("x", 8000) // n of these are far more than socket buffers hold
	go func() {
		for range n {
			assert.NoError(t, log.append(line))
		}
	}()
	for range n {
		require.Equal(t, line, quick.next().Data)
	}
}

// wake wakes the readers as append does.
func wake(t *testing.T, l *logFile) {
	t.Helper()
	l.mu.Lock()
	defer l.mu.Unlock()
	info, err := l.file.Stat()
	require.NoError(t, err)
	l.size = info.Size()
	close(l.grown)
	l.grown = make(chan struct{})
}

// numbered returns the lines "line N" for each N from from to to-1.
func numbered(from, to int) string {
	var text strings.Builder
	for i := from; i < to; i++ {
		fmt.Fprintf(&text, "line %d\n", i)
	}
	return text.String()
}
