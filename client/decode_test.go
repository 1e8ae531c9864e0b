// Decode and Incoming: typed data, the Deserializer, and DecodeError.

package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

type decodeCustomer struct {
	ID        int    `json:"id"`
	FirstName string `json:"firstName"`
}

// decodeFrom returns a session that reads a stream of the given text.
func decodeFrom(t *testing.T, stream string, options ...client.Option) *client.Session {
	t.Helper()
	s := client.Read(context.Background(), strings.NewReader(stream), options...)
	t.Cleanup(func() { s.Close() })
	return s
}

// decodeAs is Decode with the type T, whose value it returns as any.
func decodeAs[T any](s *client.Session, ev client.Event) (any, error) { return client.Decode[T](s, ev) }

func TestDecodeByJSON(t *testing.T) {
	s := decodeFrom(t, "")
	type decode = func(*client.Session, client.Event) (any, error)
	for name, tt := range map[string]struct {
		decode decode
		data   string
		want   any
	}{
		"struct":              {decodeAs[decodeCustomer], `{"id":1,"firstName":"Jet"}`, decodeCustomer{1, "Jet"}},
		"pointer":             {decodeAs[*decodeCustomer], `{"id":1}`, &decodeCustomer{ID: 1}},
		"nil pointer":         {decodeAs[*decodeCustomer], `null`, (*decodeCustomer)(nil)},
		"number":              {decodeAs[int], `7`, 7},
		"bool":                {decodeAs[bool], ` true `, true},
		"slice":               {decodeAs[[]string], `["a","b"]`, []string{"a", "b"}},
		"map":                 {decodeAs[map[string]int], `{"a":1}`, map[string]int{"a": 1}},
		"any":                 {decodeAs[any], `{"a":[1]}`, map[string]any{"a": []any{1.0}}},
		"several lines":       {decodeAs[[]int], "[1,\n2\n]", []int{1, 2}},
		"raw message":         {decodeAs[json.RawMessage], `{"a": 1}`, json.RawMessage(`{"a": 1}`)},
		"time":                {decodeAs[time.Time], `"2026-01-02T03:04:05Z"`, time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)},
		"string as it is":     {decodeAs[string], `"quoted"`, `"quoted"`},
		"string, not JSON":    {decodeAs[string], "[DONE]", "[DONE]"},
		"empty string":        {decodeAs[string], "", ""},
		"bytes as they are":   {decodeAs[[]byte], `"aGVsbG8="`, []byte(`"aGVsbG8="`)},
		"a string type":       {decodeAs[http.ConnState], `2`, http.ConnState(2)},
		"a type of string":    {decodeAs[decodeName], `"Jet"`, decodeName("Jet")},
		"pointer to a string": {decodeAs[*string], `"Jet"`, new("Jet")},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := tt.decode(s, client.Event{Data: tt.data})
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

type decodeName string

func TestDecodeErrorNamesTheType(t *testing.T) {
	s := decodeFrom(t, "")
	for name, tt := range map[string]struct {
		decode func(*client.Session, client.Event) (any, error)
		typ    string
		zero   any
	}{
		"struct":    {decodeAs[decodeCustomer], "client_test.decodeCustomer", decodeCustomer{}},
		"pointer":   {decodeAs[*decodeCustomer], "*client_test.decodeCustomer", (*decodeCustomer)(nil)},
		"slice":     {decodeAs[[]int], "[]int", []int(nil)},
		"interface": {decodeAs[error], "error", nil},
		"any":       {decodeAs[any], "interface {}", nil},
	} {
		t.Run(name, func(t *testing.T) {
			ev := client.Event{ID: "7", Name: "x", Data: `{"id": 1, "firstName":`}
			got, err := tt.decode(s, ev)
			require.Equal(t, tt.zero, got)
			var decodeErr *client.DecodeError
			require.ErrorAs(t, err, &decodeErr)
			require.Equal(t, ev, decodeErr.Event)
			require.Equal(t, tt.typ, decodeErr.Type.String())
			require.ErrorContains(t, err, "cannot decode an event's data into "+tt.typ+": ")
			var syntax *json.SyntaxError
			if name != "interface" {
				require.ErrorAs(t, err, &syntax, "the Deserializer's error is not wrapped")
			}
			require.NotContains(t, err.Error(), "firstName", "the error text holds the data")
		})
	}
}

// A value that a failed Deserializer has set in part is not returned.
func TestDecodeErrorComesWithAZeroValue(t *testing.T) {
	s := decodeFrom(t, "")
	got, err := client.Decode[decodeCustomer](s, client.Event{Data: `{"firstName":"Jet","id":"x"}`})
	require.Error(t, err)
	require.Zero(t, got)
}

func TestIncomingDecodesEachEvent(t *testing.T) {
	s := decodeFrom(t, "id: 1\nevent: add\nretry: 50\ndata: {\"id\":1}\n\ndata: {\"id\":2,\ndata: \"firstName\":\"Ann\"}\n\nid\ndata: null\n\n")
	var got []client.TypedEvent[decodeCustomer]
	for ev, err := range client.Incoming[decodeCustomer](s) {
		require.NoError(t, err)
		got = append(got, ev)
	}
	require.Equal(t, []client.TypedEvent[decodeCustomer]{
		{ID: "1", Name: "add", Data: decodeCustomer{ID: 1}, Retry: 50 * time.Millisecond},
		{ID: "1", Data: decodeCustomer{2, "Ann"}},
		{ResetID: true},
	}, got)
}

func TestIncomingGoesOnAfterAnEventThatCannotBeDecoded(t *testing.T) {
	s := decodeFrom(t, "data: 1\n\nid: 5\nevent: bad\ndata: x\n\ndata: 3\n\n")
	var got []client.TypedEvent[int]
	var failed []error
	for ev, err := range client.Incoming[int](s) {
		got = append(got, ev)
		if err != nil {
			failed = append(failed, err)
		}
	}
	require.Equal(t, []client.TypedEvent[int]{{Data: 1}, {ID: "5", Name: "bad"}, {ID: "5", Data: 3}}, got)
	require.Len(t, failed, 1)
	var decodeErr *client.DecodeError
	require.ErrorAs(t, failed[0], &decodeErr)
	require.Equal(t, client.Event{ID: "5", Name: "bad", Data: "x"}, decodeErr.Event)
}

func TestIncomingEndsWhenTheCallerLeavesAfterADecodeError(t *testing.T) {
	url := serve(t, streamOf("data: x\n\ndata: 3\n\n")).URL
	c := install(http.DefaultClient, client.Config{MaxReconnectionAttempts: client.Unlimited, BufferPolicy: client.All})
	loops := 0
	err := c.SSE(t.Context(), url, func(s *client.Session) error {
		for _, err := range client.Incoming[int](s) {
			loops++
			if err != nil {
				return err
			}
		}
		return nil
	})
	require.Equal(t, 1, loops)
	var e *client.Error
	require.ErrorAs(t, err, &e, "it is not an error of the block")
	require.Equal(t, http.StatusOK, e.Response.StatusCode)
	require.Equal(t, "data: x\n\n", string(e.Body))
	var decodeErr *client.DecodeError
	require.ErrorAs(t, err, &decodeErr)
	require.Equal(t, "int", decodeErr.Type.String())
}

// The error that ends the session is not a DecodeError, and comes once.
func TestIncomingHandsOutTheSessionsError(t *testing.T) {
	s := decodeFrom(t, "data: 1\n\n: "+strings.Repeat("x", 100), client.WithConfig(func(cfg *client.Config) { cfg.MaxEventSize = 50 }))
	var errs []error
	for ev, err := range client.Incoming[int](s) {
		if err != nil {
			require.Zero(t, ev)
			errs = append(errs, err)
		}
	}
	require.Len(t, errs, 1)
	var decodeErr *client.DecodeError
	require.NotErrorAs(t, errs[0], &decodeErr)
	var e *client.Error
	require.ErrorAs(t, errs[0], &e)
}

// A block that only shows a comment or a reconnection time has no data to decode. An event
// with empty data has: the Deserializer is called.
func TestIncomingDoesNotDecodeWhatHasNoData(t *testing.T) {
	asked := 0
	s := decodeFrom(t, ": hello\n\nretry: 9\n\ndata: 1\n: beside\n\ndata\n\n", client.WithConfig(func(cfg *client.Config) {
		cfg.ShowCommentEvents, cfg.ShowRetryEvents = true, true
		cfg.Deserializer = client.DeserializerFunc(func(data string, v any) error {
			asked++
			*v.(*int) = len(data) + 10
			return nil
		})
	}))
	var got []client.TypedEvent[int]
	for ev, err := range client.Incoming[int](s) {
		require.NoError(t, err)
		got = append(got, ev)
	}
	require.Equal(t, []client.TypedEvent[int]{
		{Comment: "hello", Silent: true}, {Retry: 9 * time.Millisecond, Silent: true}, {Data: 11, Comment: "beside"}, {Data: 10},
	}, got)
	require.Equal(t, 2, asked)
}

func TestIncomingOfStringsAndBytes(t *testing.T) {
	const stream = "data: a\ndata: b\n\ndata: {\n\n"
	var texts []string
	for ev, err := range client.Incoming[string](decodeFrom(t, stream)) {
		require.NoError(t, err)
		texts = append(texts, ev.Data)
	}
	require.Equal(t, []string{"a\nb", "{"}, texts)
	var pieces [][]byte
	for ev, err := range client.Incoming[[]byte](decodeFrom(t, stream)) {
		require.NoError(t, err)
		pieces = append(pieces, ev.Data)
	}
	pieces[0][0] = 'x' // the caller may change them
	require.Equal(t, [][]byte{[]byte("x\nb"), []byte("{")}, pieces)
}

// decodeUpper is a Deserializer that is not a function.
type decodeUpper struct{ suffix string }

func (d decodeUpper) DecodeData(data string, v any) error {
	if data == "fail" {
		return errDecode
	}
	_, err := fmt.Sscan(data+d.suffix, v)
	return err
}

var errDecode = errors.New("no such thing")

func TestDecodeByTheDeserializerOfTheCall(t *testing.T) {
	url := serve(t, streamOf("data: 1\n\ndata: fail\n\n")).URL
	c := install(http.DefaultClient, client.Config{Deserializer: decodeUpper{"0"}})
	for name, tt := range map[string]struct {
		options []client.Option
		want    int
	}{
		"installed":   {nil, 10},
		"of the call": {[]client.Option{client.WithConfig(func(cfg *client.Config) { cfg.Deserializer = decodeUpper{"5"} })}, 15},
		"default":     {[]client.Option{client.WithConfig(func(cfg *client.Config) { cfg.Deserializer = nil })}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			var got []int
			var failed error
			for ev, err := range client.Incoming[int](session(t, c, url, tt.options...)) {
				if err != nil {
					failed = err
					continue
				}
				got = append(got, ev.Data)
			}
			require.Equal(t, []int{tt.want}, got)
			if name == "default" {
				var syntax *json.SyntaxError
				require.ErrorAs(t, failed, &syntax)
			} else {
				require.ErrorIs(t, failed, errDecode)
			}
		})
	}
}

// Decode works in the loop, after it, and after the session was closed.
func TestDecodeAfterTheSession(t *testing.T) {
	var s *client.Session
	var ev client.Event
	url := serve(t, streamOf("data: 42\n\n")).URL
	err := install(http.DefaultClient, client.Config{}).SSE(context.Background(), url, func(session *client.Session) error {
		s = session
		for next, err := range s.Incoming() {
			if err != nil {
				return err
			}
			ev = next
		}
		return nil
	})
	require.NoError(t, err)
	got, err := client.Decode[int](s, ev)
	require.NoError(t, err)
	require.Equal(t, 42, got)
}

// A session with an invalid option can still decode.
func TestDecodeOfASessionThatNeverBegan(t *testing.T) {
	s := decodeFrom(t, "data: 42\n\n", client.WithConfig(func(cfg *client.Config) { cfg.MaxEventSize = -1 }))
	require.NotPanics(t, func() {
		got, err := client.Decode[int](s, client.Event{Data: "42"})
		require.NoError(t, err)
		require.Equal(t, 42, got)
	})
}

// An event with empty data has the zero value, and a block without data has it too. Silent
// tells them apart.
func TestIncomingOfEmptyData(t *testing.T) {
	s := decodeFrom(t, "id: 7\ndata:\n\n: c\n\nretry: 9\n\nid: 8\ndata: {\"id\":1}\n\ndata\ndata\n\n", client.WithConfig(func(cfg *client.Config) {
		cfg.ShowCommentEvents, cfg.ShowRetryEvents = true, true
	}))
	type typed = client.TypedEvent[*decodeCustomer]
	var got []typed
	var failed []error
	for ev, err := range client.Incoming[*decodeCustomer](s) {
		require.Equal(t, ev.Silent, s.Silent())
		if err != nil {
			failed = append(failed, err)
			continue
		}
		got = append(got, ev)
	}
	require.Equal(t, []typed{
		{ID: "7"}, {ID: "7", Comment: "c", Silent: true}, {ID: "7", Retry: 9 * time.Millisecond, Silent: true}, {ID: "8", Data: &decodeCustomer{ID: 1}},
	}, got)
	require.Len(t, failed, 1, "a line break is not empty, and not JSON")
	require.Error(t, client.JSON.DecodeData("", new(int)))
	zero, err := client.Decode[decodeCustomer](s, client.Event{})
	require.NoError(t, err)
	require.Zero(t, zero)
}
