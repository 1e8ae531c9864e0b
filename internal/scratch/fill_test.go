package scratch_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/scratch"
)

// encode returns the frame of e with data that is written in pieces, which end at the cuts.
func encode(e event.Event, data string, cuts []byte) ([]byte, error) {
	buf := scratch.Get()
	defer buf.Put()
	frame, err := event.AppendWith(buf.B, e, func(frame []byte) ([]byte, error) {
		buf.B = frame
		err := buf.Fill(0, func(w io.Writer) error {
			rest := data
			for i, cut := range cuts {
				n := min(int(cut), len(rest))
				write := io.WriteString
				if i%2 == 1 { // not all writers call WriteString
					write = func(w io.Writer, s string) (int, error) { return w.Write([]byte(s)) }
				}
				if k, err := write(w, rest[:n]); err != nil || k != n {
					return errors.Join(err, io.ErrShortWrite)
				}
				rest = rest[n:]
			}
			_, err := io.WriteString(w, rest)
			return err
		})
		return buf.B, err
	})
	return bytes.Clone(frame), err
}

// However data is divided into writes, also within a CRLF or a character, its frame is that of
// the whole.
func FuzzFill(f *testing.F) {
	f.Add("name", "a\r\nb\rc\nd", []byte{2, 1, 1, 2})
	f.Add("", "\r\n", []byte{1})
	f.Add("", "", []byte{0})
	f.Add("", "a\n", []byte{1})
	f.Add("", "世界", []byte{1, 1, 2})
	f.Add("", "\xe4\xb8", []byte{1})
	f.Add("", "ok\n\xffno", []byte{3, 1})
	f.Add("", strings.Repeat("\r", 70)+"\n", []byte{69, 1})
	f.Fuzz(func(t *testing.T, name, data string, cuts []byte) {
		e := event.Event{Name: name, ID: "7"}
		got, err := encode(e, data, cuts)

		whole := e
		if whole.Data = data; name == "" && data == "" {
			whole.ID = "" // an event with nothing else is not shown, but a function's always is
		}
		want, wantErr := whole.MarshalText()
		require.Equal(t, wantErr, err)
		switch {
		case err != nil:
		case whole.ID == "":
			require.Equal(t, "data: \nid: 7\n\n", string(got))
		default:
			require.Equal(t, string(want), string(got))
		}
	})
}

func TestFillLimit(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 9, 10, 11, 12} {
		buf := scratch.Get()
		buf.B = append(buf.B, "before"...)
		var writeErr error
		err := buf.Fill(10, func(w io.Writer) error {
			for range n {
				if _, err := io.WriteString(w, "x"); err != nil {
					writeErr = err
				}
			}
			return nil // it drops the error
		})
		require.Equal(t, writeErr, err)
		require.Equal(t, "before"+strings.Repeat("x", min(n, 10)), string(buf.B))
		if n <= 10 {
			require.NoError(t, err)
			continue
		}
		var tooLarge *event.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		require.Equal(t, 10, tooLarge.Limit)
	}
}

// A writer that somebody keeps never writes into the text of another.
func TestFillWriterIsNotLentTwice(t *testing.T) {
	t.Parallel()
	var kept []io.Writer
	for range 200 { // more than a block of writers
		buf := scratch.Get()
		require.PanicsWithValue(t, "stop", func() {
			_ = buf.Fill(0, func(w io.Writer) error {
				kept = append(kept, w)
				panic("stop")
			})
		})
		err := buf.Fill(0, func(w io.Writer) error {
			for _, late := range kept {
				n, err := late.Write([]byte("late"))
				require.Zero(t, n)
				require.Error(t, err)
			}
			kept = append(kept, w)
			_, err := io.WriteString(w, "text")
			return err
		})
		require.NoError(t, err)
		require.Equal(t, "text", string(buf.B))
		buf.Put()
	}
}

// A goroutine that goes on writing, as that of a function that was given up, cannot disturb.
func TestFillGoroutineThatGoesOn(t *testing.T) {
	t.Parallel()
	var wg sync.WaitGroup
	for range 20 {
		buf := scratch.Get()
		started := make(chan struct{})
		require.NoError(t, buf.Fill(0, func(w io.Writer) error {
			wg.Go(func() {
				close(started)
				for {
					if _, err := io.WriteString(w, "x"); err != nil {
						return
					}
				}
			})
			<-started
			return nil
		}))
		require.Equal(t, strings.Repeat("x", len(buf.B)), string(buf.B))
		buf.Put()
	}
	wg.Wait()
}
