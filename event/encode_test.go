package event_test

// This file tests what the encoder writes, and how it deals with the errors of callbacks
// and writers. Which fields it refuses is tested in validate_test.go.

import (
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/event"
)

func TestAppendText(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event event.Event
		want  string
	}{
		{"data alone", event.Event{Data: "hello"}, "data: hello\n\n"},
		{
			"fields in their order",
			event.Event{ID: "1", Name: "n", Data: "d", Comment: "c", Retry: time.Second},
			"event: n\ndata: d\nid: 1\nretry: 1000\n: c\n\n",
		},
		{
			"fields in their order, an id reset",
			event.Event{ResetID: true, Name: "n", Data: "d", Comment: "c", Retry: event.RetryImmediately},
			"event: n\ndata: d\nid:\nretry: 0\n: c\n\n",
		},

		// Browsers dispatch an event only if it has a data line.
		{"nothing set is a message with empty data", event.Event{}, "data: \n\n"},
		{"a name alone gets a data line", event.Event{Name: "n"}, "event: n\ndata: \n\n"},
		{"a name gets one beside silent fields", event.Event{Name: "n", ID: "1"}, "event: n\ndata: \nid: 1\n\n"},
		{"ID is silent", event.Event{ID: "1"}, "id: 1\n\n"},
		{"ResetID is silent", event.Event{ResetID: true}, "id:\n\n"},
		{"Retry is silent", event.Event{Retry: 5 * time.Millisecond}, "retry: 5\n\n"},
		{"RetryImmediately is silent", event.Event{Retry: event.RetryImmediately}, "retry: 0\n\n"},
		{"Comment is silent", event.Event{Comment: "c"}, ": c\n\n"},
		{"all of them are", event.Event{ID: "1", Retry: time.Hour, Comment: "c"}, "id: 1\nretry: 3600000\n: c\n\n"},

		{"LF parts lines", event.Event{Data: "a\nb"}, "data: a\ndata: b\n\n"},
		{"CR parts lines", event.Event{Data: "a\rb"}, "data: a\ndata: b\n\n"},
		{"CRLF parts lines once", event.Event{Data: "a\r\nb"}, "data: a\ndata: b\n\n"},
		{"LF CR parts them twice", event.Event{Data: "a\n\rb"}, "data: a\ndata: \ndata: b\n\n"},
		{"any mix", event.Event{Data: "a\r\r\nb\n\n\rc\r\n\nd"}, "data: a\ndata: \ndata: b\ndata: \ndata: \ndata: c\ndata: \ndata: d\n\n"},
		{"a last line break opens a line", event.Event{Data: "a\r\n"}, "data: a\ndata: \n\n"},
		{"a break alone is two lines", event.Event{Data: "\r"}, "data: \ndata: \n\n"},
		{"other breaks of Unicode part nothing", event.Event{Data: "a\v\f\u0085\u2028b"}, "data: a\v\f\u0085\u2028b\n\n"},
		{"comments of several lines", event.Event{Comment: "a\r\nb\r\n"}, ": a\n: b\n: \n\n"},
		{"what looks like a field stays text", event.Event{Data: "id: 1", Comment: "\ndata: x"}, "data: id: 1\n: \n: data: x\n\n"},

		{"spaces kept", event.Event{Name: " n ", Data: " d ", Comment: " c "}, "event:  n \ndata:  d \n:  c \n\n"},
		{"controls in a name, but those three", event.Event{Name: "\x01\t\x1B\x7F"}, "event: \x01\t\x1B\x7F\ndata: \n\n"},
		{"NUL in data and comment", event.Event{Data: "\x00", Comment: "\x00"}, "data: \x00\n: \x00\n\n"},
		{"space and tab inside an id", event.Event{ID: "a \tb"}, "id: a \tb\n\n"},
		{"a colon in an id", event.Event{ID: ":"}, "id: :\n\n"},
		{"text", event.Event{ID: "é", Name: "è", Data: "世界\n🌍", Comment: "ü"}, "event: è\ndata: 世界\ndata: 🌍\nid: é\n: ü\n\n"},
		{
			"U+FFFD is text",
			event.Event{ID: "\uFFFD", Name: "\uFFFD", Data: "\uFFFD", Comment: "\uFFFD"},
			"event: \uFFFD\ndata: \uFFFD\nid: \uFFFD\n: \uFFFD\n\n",
		},
		{"and so is a byte order mark", event.Event{Data: "\uFEFFa"}, "data: \uFEFFa\n\n"},

		{"a millisecond is the least", event.Event{Retry: time.Millisecond}, "retry: 1\n\n"},
		{"fractions of one are cut off", event.Event{Retry: 2*time.Millisecond - 1}, "retry: 1\n\n"},
		{"the longest", event.Event{Retry: math.MaxInt64}, "retry: 9223372036854\n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.event.AppendText(nil)
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))

			got, err = tt.event.AppendText([]byte("before\n\n"))
			require.NoError(t, err)
			require.Equal(t, "before\n\n"+tt.want, string(got))

			got, err = tt.event.MarshalText()
			require.NoError(t, err)
			require.Equal(t, tt.want, string(got))

			var w writer
			n, err := tt.event.WriteTo(&w)
			require.NoError(t, err)
			require.Equal(t, []string{tt.want}, w.writes, "WriteTo must write the event in one Write")
			require.EqualValues(t, len(tt.want), n)

			if !strings.Contains(tt.want, "data:") {
				return
			}
			got, err = event.AppendWith([]byte("before\n\n"), tt.event, appending(tt.event.Data))
			require.NoError(t, err)
			require.Equal(t, "before\n\n"+tt.want, string(got), "AppendWith")
		})
	}
}

// writer records each Write. If err is set, each Write takes at most max bytes and returns
// err.
type writer struct {
	writes []string
	max    int
	err    error
}

func (w *writer) Write(p []byte) (int, error) {
	w.writes = append(w.writes, string(p))
	if w.err != nil {
		return min(w.max, len(p)), w.err
	}
	return len(p), nil
}

// appending returns a callback for AppendWith that appends s.
func appending(s string) func([]byte) ([]byte, error) {
	return func(frame []byte) ([]byte, error) { return append(frame, s...), nil }
}

// TestEncodeLines encodes every text of up to five pieces: line ends in any order, next to
// and between text of each kind. The long piece is longer than the 32 bytes that the
// encoder looks at together.
func TestEncodeLines(t *testing.T) {
	texts := []string{""}
	for shorter, n := texts, 1; n <= 5; n++ {
		var longer []string
		for _, head := range shorter {
			for _, piece := range []string{"a", "ü", "\r", "\n", "\x00", strings.Repeat("x", 65)} {
				longer = append(longer, head+piece)
			}
		}
		texts, shorter = append(texts, longer...), longer
	}
	lineEnds := strings.NewReplacer("\r\n", "\n", "\r", "\n")
	for _, text := range texts {
		var data, comment string
		for line := range strings.SplitSeq(lineEnds.Replace(text), "\n") {
			data += "data: " + line + "\n"
			comment += ": " + line + "\n"
		}

		got, err := event.Event{Data: text}.AppendText(nil)
		require.NoError(t, err)
		require.Equal(t, data+"\n", string(got), "data %q", text)
		got, err = event.AppendWith(nil, event.Event{}, appending(text))
		require.NoError(t, err)
		require.Equal(t, data+"\n", string(got), "data %q by AppendWith", text)

		got, err = event.AppendComment(nil, text)
		require.NoError(t, err)
		require.Equal(t, comment+"\n", string(got), "comment %q", text)
		if text != "" {
			got, err = event.Event{Comment: text}.AppendText(nil)
			require.NoError(t, err)
			require.Equal(t, comment+"\n", string(got), "comment %q of an event", text)
		}
	}
}

func TestAppendComment(t *testing.T) {
	for _, tt := range []struct{ text, want string }{
		{"", ": \n\n"},
		{"ping", ": ping\n\n"},
		{"a\nb\rc\r\nd", ": a\n: b\n: c\n: d\n\n"},
		{"\n", ": \n: \n\n"},
		{"a\n", ": a\n: \n\n"},
		{" :ü", ":  :ü\n\n"},
	} {
		got, err := event.AppendComment([]byte("before\n\n"), tt.text)
		require.NoError(t, err)
		require.Equal(t, "before\n\n"+tt.want, string(got), "%q", tt.text)
	}
}

// AppendWith writes the callback's data in the place of Data.
func TestAppendWith(t *testing.T) {
	for _, tt := range []struct {
		name  string
		event event.Event
		data  string
		want  string
	}{
		{"Data is not used", event.Event{Data: "not this"}, "this", "data: this\n\n"},
		{"nor looked at", event.Event{Data: "\xFF"}, "this", "data: this\n\n"},
		{"among the other fields", event.Event{ID: "1", Name: "n", Comment: "c", Retry: time.Second}, "d", "event: n\ndata: d\nid: 1\nretry: 1000\n: c\n\n"},
		{"empty data is still a line", event.Event{}, "", "data: \n\n"},
		{"also beside a silent field", event.Event{ID: "1"}, "", "data: \nid: 1\n\n"},
		{"line breaks part it", event.Event{ID: "1"}, "a\nb\r\nc\r", "data: a\ndata: b\ndata: c\ndata: \nid: 1\n\n"},
		{"text", event.Event{Name: "n"}, "ü\n世界", "event: n\ndata: ü\ndata: 世界\n\n"},
		{"long", event.Event{}, strings.Repeat("x", 10_000), "data: " + strings.Repeat("x", 10_000) + "\n\n"},
		{"long, of lines", event.Event{}, strings.Repeat("x\n", 5_000), strings.Repeat("data: x\n", 5_000) + "data: \n\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, room := range []int{0, 1, 20, 100_000} { // free bytes in dst, and so in the frame
				dst := append(make([]byte, 0, 8+room), "before\n\n"...)
				got, err := event.AppendWith(dst, tt.event, func(frame []byte) ([]byte, error) {
					require.True(t, strings.HasPrefix(string(frame), "before\n\n"), "the callback did not get the frame so far")
					return append(frame, tt.data...), nil
				})
				require.NoError(t, err)
				require.Equal(t, "before\n\n"+tt.want, string(got))
			}
		})
	}
}

func TestAppendWithCallbackError(t *testing.T) {
	boom := errors.New("boom")
	for _, room := range []int{0, 100} {
		dst := append(make([]byte, 0, 8+room), "before\n\n"...)
		got, err := event.AppendWith(dst, event.Event{ID: "1", Name: "n"}, func(frame []byte) ([]byte, error) {
			return append(frame, "half of the da"...), boom
		})
		require.Equal(t, boom, err, "AppendWith must return the callback's own error")
		requireUnchanged(t, "before\n\n", dst, got)

		got, err = event.AppendWith(dst, event.Event{}, func([]byte) ([]byte, error) { return nil, boom })
		require.Equal(t, boom, err)
		requireUnchanged(t, "before\n\n", dst, got)
	}
}

// AppendWith refuses a name before it calls the callback, which may be costly.
func TestAppendWithRefusedNameCallsNothing(t *testing.T) {
	_, err := event.AppendWith(nil, event.Event{Name: "\n"}, func(frame []byte) ([]byte, error) {
		require.Fail(t, "AppendWith called the callback")
		return frame, nil
	})
	requireFieldError(t, err, "Name", 0, "holds a line feed")
}

func TestAppendWithNeedsAFunction(t *testing.T) {
	require.PanicsWithValue(t, "event: AppendWith: appendData must not be nil", func() {
		_, _ = event.AppendWith(nil, event.Event{Data: "x"}, nil)
	})
}

func TestWriteToError(t *testing.T) {
	w := writer{max: 3, err: io.ErrClosedPipe}
	n, err := event.Event{Data: "hello"}.WriteTo(&w)
	require.Equal(t, io.ErrClosedPipe, err, "WriteTo must return the writer's own error")
	require.EqualValues(t, 3, n)
	require.Len(t, w.writes, 1)
}

func TestEncodeAllocations(t *testing.T) {
	buf := make([]byte, 0, 4096)
	for _, e := range []event.Event{
		{},
		{ID: "1000", Name: "price", Data: strings.Repeat("x", 300), Retry: time.Second, Comment: "c"},
		{ID: "é", Name: "ü", Data: "世界\r\n🌍\n", Comment: "ü\nü"},
		{ResetID: true, Retry: event.RetryImmediately},
	} {
		var err error
		require.Zero(t, testing.AllocsPerRun(100, func() { _, err = e.AppendText(buf) }), "AppendText")
		require.NoError(t, err)
		require.Zero(t, testing.AllocsPerRun(100, func() { _, err = event.AppendComment(buf, e.Data) }), "AppendComment")
		require.NoError(t, err)
		plain := appending("plain")
		require.Zero(t, testing.AllocsPerRun(100, func() { _, err = event.AppendWith(buf, e, plain) }), "AppendWith")
		require.NoError(t, err)
	}
}
