package sse_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
	"github.com/chi-sse/sse/internal/testkit"
)

// writing returns a function for SendFunc that writes each of the pieces.
func writing(pieces ...string) func(io.Writer) error {
	return func(w io.Writer) error {
		for _, p := range pieces {
			if _, err := io.WriteString(w, p); err != nil {
				return err
			}
		}
		return nil
	}
}

func TestSendFunc(t *testing.T) {
	t.Parallel()
	page := template.Must(template.New("").Parse("<ul>\n{{range .}}  <li>{{.}}</li>\n{{end}}</ul>"))
	for _, tt := range []struct {
		name  string
		event sse.Event
		write func(io.Writer) error
		want  string
	}{
		{"in one piece", sse.Event{Name: "n", ID: "1"}, writing("a"), "event: n\ndata: a\nid: 1\n\n"},
		{"in pieces", sse.Event{Comment: "c"}, writing("a", "", "b"), "data: ab\n: c\n\n"},
		{"lines", sse.Event{}, writing("a\nb\rc\r\nd"), "data: a\ndata: b\ndata: c\ndata: d\n\n"},
		{"CRLF in two", sse.Event{}, writing("a\r", "\nb"), "data: a\ndata: b\n\n"},
		{"a character in two", sse.Event{}, writing("\xe4\xb8", "\x96"), "data: 世\n\n"},
		{"a line break at the end", sse.Event{}, writing("a\n"), "data: a\ndata: \n\n"},
		{"nothing", sse.Event{}, writing(), "data: \n\n"},
		{"nothing, with an id", sse.Event{ID: "1"}, writing(""), "data: \nid: 1\n\n"},
		{"large", sse.Event{}, writing(strings.Repeat("x\n", 50_000), "y"), strings.Repeat("data: x\n", 50_000) + "data: y\n\n"},
		{
			"a template",
			sse.Event{Name: "list"},
			func(w io.Writer) error { return page.Execute(w, []string{"a & b"}) },
			"event: list\ndata: <ul>\ndata:   <li>a &amp; b</li>\ndata: </ul>\n\n",
		},
		{"an encoder", sse.Event{}, func(w io.Writer) error { return json.NewEncoder(w).Encode(7) }, "data: 7\ndata: \n\n"},
	} {
		got := sentBy(t, func(s *sse.ServerSession) error {
			assert.NoError(t, s.SendFunc(tt.event, tt.write))
			return nil
		})
		require.Equal(t, tt.want, got, tt.name)
	}
}

// What fails sends nothing, and the session goes on.
func TestSendFuncFails(t *testing.T) {
	t.Parallel()
	errOwn := errors.New("an error of the function")
	for name, tt := range map[string]struct {
		event sse.Event
		write func(io.Writer) error
		is    error
		field string
		text  string
	}{
		"error":      {write: func(w io.Writer) error { _ = writing("half")(w); return errOwn }, is: errOwn, text: "sse: send: an error of the function"},
		"Data":       {event: sse.Event{Data: "x"}, write: writing("y"), field: "Data", text: "sse: send: event: Data must be empty in SendFunc, whose function writes the data"},
		"Name":       {event: sse.Event{Name: "a\nb"}, write: writing("y"), field: "Name"},
		"ID":         {event: sse.Event{ID: "a\nb"}, write: writing("y"), field: "ID"},
		"UTF-8":      {write: writing("a\n\xe4", "\xb8", "x"), field: "Data", text: "sse: send: event: Data is not valid UTF-8 at byte 2"},
		"UTF-8, end": {write: writing("a", "\xe4\xb8"), field: "Data", text: "sse: send: event: Data is not valid UTF-8 at byte 1"},
	} {
		t.Run(name, func(t *testing.T) {
			got := sentBy(t, func(s *sse.ServerSession) error {
				err := s.SendFunc(tt.event, tt.write)
				if tt.is != nil {
					testkit.ErrorIs(t, err, tt.is)
				} else {
					var fault *event.FieldError
					if assert.ErrorAs(t, err, &fault) {
						assert.Equal(t, tt.field, fault.Field)
					}
				}
				if tt.text != "" {
					assert.Equal(t, tt.text, fmt.Sprint(err))
				}
				return s.Send(sse.Event{Data: "next"})
			})
			require.Equal(t, "data: next\n\n", got)
		})
	}
}

func TestSendFuncPanics(t *testing.T) {
	t.Parallel()
	got := sentBy(t, func(s *sse.ServerSession) error {
		assert.PanicsWithValue(t, "in the function", func() {
			_ = s.SendFunc(sse.Event{}, func(w io.Writer) error {
				_ = writing("half")(w)
				panic("in the function")
			})
		})
		return s.Send(sse.Event{Data: "next"})
	})
	require.Equal(t, "data: next\n\n", got)
}

// The function may use the session. What it sends comes first.
func TestSendFuncSendsWithin(t *testing.T) {
	t.Parallel()
	var late io.Writer
	got := sentBy(t, func(s *sse.ServerSession) error {
		return s.SendFunc(sse.Event{ID: "1"}, func(w io.Writer) error {
			late = w
			testkit.NoError(t, writing("out")(w))
			testkit.NoError(t, s.Send(sse.Event{Data: "in"}))
			testkit.NoError(t, s.SendFunc(sse.Event{}, writing("in, by a function")))
			return writing("er")(w)
		})
	})
	require.Equal(t, "data: in\n\ndata: in, by a function\n\ndata: outer\nid: 1\n\n", got)
	_, err := io.WriteString(late, "x")
	require.Error(t, err)
}

func TestSendFuncAfterTheEnd(t *testing.T) {
	t.Parallel()
	sentBy(t, func(s *sse.ServerSession) error {
		testkit.NoError(t, s.Send(sse.Event{Data: "x"}))
		_ = s.Close()
		testkit.ErrorIs(t, s.SendFunc(sse.Event{}, writing("x")), sse.ErrClosed)
		return nil
	})
}

// BenchmarkSendFunc compares SendFunc with Send of the same bytes. Its writer drops them.
func BenchmarkSendFunc(b *testing.B) {
	for _, size := range []int{100, 1 << 10} {
		for name, text := range map[string]string{
			"line":  strings.Repeat("x", size),
			"lines": strings.Repeat(strings.Repeat("x", 31)+"\n", size/32),
		} {
			run := func(verb string, send func(s *sse.ServerSession) error) {
				b.Run(fmt.Sprintf("%dB/%s/%s", size, name, verb), func(b *testing.B) {
					r := sse.Install(chi.NewRouter(), sse.Config{})
					r.SSE("/", func(s *sse.ServerSession) error {
						return measureSends(b, size, func() error { return send(s) })
					})
					r.ServeHTTP(discard{http.Header{}}, newRequest(b, http.MethodGet, "/"))
				})
			}
			run("Send", func(s *sse.ServerSession) error { return s.Send(sse.Event{ID: "1000", Name: "price", Data: text}) })
			half := len(text) / 2
			run("SendFunc", func(s *sse.ServerSession) error {
				return s.SendFunc(sse.Event{ID: "1000", Name: "price"}, func(w io.Writer) error {
					if _, err := io.WriteString(w, text[:half]); err != nil {
						return err
					}
					_, err := io.WriteString(w, text[half:])
					return err
				})
			})
		}
	}
}
