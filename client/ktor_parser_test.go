// Rows 63 to 76 of docs/KTOR.md: the parser.

package client_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/event"
)

// ktorParse returns the events of a stream of the given text. Comments and retry events are
// shown unless options say otherwise.
func ktorParse(t *testing.T, text string, options ...client.Option) []client.Event {
	t.Helper()
	url := serveRaw(t, func(conn net.Conn, _ *http.Request) {
		fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n", text)
	})
	hc := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	events, err := collect(session(t, install(hc, client.Config{ShowCommentEvents: true, ShowRetryEvents: true}), url, options...))
	require.NoError(t, err)
	return events
}

// [W] Ktor joins the lines of data with CRLF.
func TestKtor63OnlyData(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{{Data: "first"}, {Data: "second\nof two"}, {Data: "third"}},
		ktorParse(t, "data: first\r\n\r\ndata: second\r\ndata: of two\r\n\r\ndata: third\r\n\r\n"))
}

func TestKtor64EventsOfDifferentTypes(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{{Name: "join", Data: "ann"}, {Data: "unnamed"}, {Name: "leave", Data: "bob"}},
		ktorParse(t, "event: join\ndata: ann\n\ndata: unnamed\n\nevent: leave\ndata: bob\n\n"))
}

func TestKtor65MultilineEvent(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{{Data: "one\n\n  three"}},
		ktorParse(t, "data: one\ndata:\ndata:   three\n\n"))
}

func TestKtor66FieldsInAnyOrder(t *testing.T) {
	t.Parallel()
	want := client.Event{ID: "7", Name: "full", Data: "hello", Comment: "note", Retry: 1500 * time.Millisecond}
	require.Equal(t, []client.Event{want, want, want}, ktorParse(t,
		"event: full\ndata: hello\nid: 7\nretry: 1500\n: note\n\n"+
			": note\nretry: 1500\nid: 7\ndata: hello\nevent: full\n\n"+
			"data: hello\n: note\nevent: full\nretry: 1500\nid: 7\n\n"))
}

func TestKtor67Comments(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{
		{Comment: "alone\nin two lines"},
		{Data: "hello\nworld", Comment: "second comment\none more comment"},
		{Comment: "spaced\ntight\n two spaces"},
	}, ktorParse(t, ": alone\n:in two lines\n\n"+
		"data: hello\n: second comment\ndata: world\n:one more comment\n\n"+
		": spaced\n:tight\n:  two spaces\n\n"+
		": never ended\n"))
}

// An empty id resets the last event id. Ktor shows such a block as an event, and "" as the
// last id from then on. [W] A block without data is not an event.
func TestKtor68EmptyFields(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{
		{ID: "1", Data: "first"},
		{Data: "id was reset"},
		{ResetID: true}, // id, data and event without colons: an event with empty data
		{},
		{Data: "\n"},
		{Data: "\n\n"},
		{Data: "last"},
	}, ktorParse(t, "id: 1\ndata: first\n\nid\n\ndata: id was reset\n\nid\ndata\nevent\n\n"+
		"data\n\ndata\ndata\n\ndata\ndata\ndata\n\ndata: last\n\n"))
}

func TestKtor69EventWithoutItsBlankLineIsDropped(t *testing.T) {
	t.Parallel()
	for _, rest := range []string{"data: cut off", "data: cut off\n", "data: cut off\r\n", "event: x\ndata: cut off\nid: 2\n"} {
		require.Equal(t, []client.Event{{ID: "1", Data: "whole"}}, ktorParse(t, "id: 1\ndata: whole\n\n"+rest), "%q", rest)
	}
}

func TestKtor70SpaceBehindTheColonIsOptional(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{{Data: "event"}, {Data: "event"}, {Data: " event"}},
		ktorParse(t, "data: event\n\ndata:event\n\ndata:  event\n\n"))
}

// [W] Ktor also delivers a block that has an event field and no data.
func TestKtor71LastIDAndEventFieldWin(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{
		{ID: "2", Name: "b", Data: "hello"},
		{ID: "2", Data: "the id persists"},
		{ID: "3", Data: "and that of a block without data counts"},
	}, ktorParse(t, "id: 1\nid: 2\nevent: a\nevent: b\ndata: hello\n\n"+
		"data: the id persists\n\n"+
		"event: no data\nid: 3\n\n"+
		"data: and that of a block without data counts\n\n"))
}

func TestKtor72BlankLinesAreSkipped(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{{Data: "a"}, {Data: "b"}, {Data: "c"}},
		ktorParse(t, "\n\n\r\n\rdata: a\n\n\n\n\ndata: b\r\n\r\n\r\n\r\ndata: c\n\n\n"))
}

func TestKtor73NoEvents(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"", "\n", "\r\n\r\n", "\n\n\n\n"} {
		require.Empty(t, ktorParse(t, text), "%q", text)
	}
}

func TestKtor74NULInIDIsIgnoredButKeptInData(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{{ID: "1", Data: "a\x00b"}, {ID: "1", Data: "c"}},
		ktorParse(t, "id: 1\nid: 2\x00\ndata: a\x00b\n\nid: \x00\ndata: c\n\n"))
}

func TestKtor75Retry(t *testing.T) {
	t.Parallel()
	// Ktor accepts "+5" and "-5". [W] Only digits are allowed.
	const text = "retry: 1500\ndata: hello\n\nretry: 2500\n\nretry: no12\n\nretry: -5\n\nretry: +5\n\nretry\n\ndata: end\n\n"
	require.Equal(t, []client.Event{
		{Data: "hello", Retry: 1500 * time.Millisecond},
		{Retry: 2500 * time.Millisecond},
		{Data: "end"},
	}, ktorParse(t, text))
	require.Equal(t, []client.Event{
		{Data: "hello", Retry: 1500 * time.Millisecond},
		{Data: "end"},
	}, ktorParse(t, text, client.WithConfig(func(cfg *client.Config) { cfg.ShowRetryEvents = false })))
}

func TestKtor76JSONOverSeveralLines(t *testing.T) {
	t.Parallel()
	events := ktorParse(t, ": note\nretry: 5\n\nevent: person\ndata: {\ndata:   \"name\": \"Ann\",\n: note\ndata:   \"age\": 34\ndata: }\n\n",
		client.WithConfig(func(cfg *client.Config) { cfg.ShowCommentEvents, cfg.ShowRetryEvents = false, false }))
	require.Equal(t, []client.Event{{Name: "person", Data: "{\n  \"name\": \"Ann\",\n  \"age\": 34\n}"}}, events)
	var person ktorPerson
	require.NoError(t, json.Unmarshal([]byte(events[0].Data), &person))
	require.Equal(t, ktorPerson{"Ann", 34}, person)
}

// [W] Ktor treats a line of spaces as a blank line, and keeps a byte order mark.
func TestKtorParserQuirksAreNotCopied(t *testing.T) {
	t.Parallel()
	require.Equal(t, []client.Event{{Data: "a\nb"}}, ktorParse(t, "data: a\n   \ndata: b\n\n"))
	require.Equal(t, []client.Event{{Data: "marked"}}, ktorParse(t, "\uFEFFdata: marked\n\n"))
	require.Equal(t, []client.Event{{Data: "in lines that CR ends"}}, ktorParse(t, "data: in lines that CR ends\r\r"))
}

// Client and server use the same type of event.
var _ client.Event = event.Event{}
