// Rows 41 to 48 of docs/KTOR.md: comments, empty streams, and decoding.

package client_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// ktorCommented sends 50 events, each with a comment before it.
func ktorCommented(w http.ResponseWriter, _ *http.Request) {
	for i := range 50 {
		send(w, ": %d\n\ndata: %d\n\n", i, i)
	}
}

func TestKtor41CommentsAreNotDelivered(t *testing.T) {
	t.Parallel()
	srv := serve(t, ktorCommented)
	events, err := collect(session(t, install(srv.Client(), client.Config{}), srv.URL))
	require.NoError(t, err)
	require.Len(t, events, 50)
	for i, ev := range events {
		require.Equal(t, client.Event{Data: strconv.Itoa(i)}, ev)
	}
}

func TestKtor42CommentsAreDeliveredIfAskedFor(t *testing.T) {
	t.Parallel()
	overEach(t, http.HandlerFunc(ktorCommented), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		events, err := collect(session(t, install(srv.Client(), client.Config{ShowCommentEvents: true}), srv.URL))
		require.NoError(t, err)
		require.Len(t, events, 100)
		for i := range 50 {
			require.Equal(t, client.Event{Comment: strconv.Itoa(i)}, events[2*i])
			require.Equal(t, client.Event{Data: strconv.Itoa(i)}, events[2*i+1])
		}
	})
}

func TestKtor43OptionsOfACallAreForThatCallAlone(t *testing.T) {
	t.Parallel()
	srv := serve(t, ktorCommented)
	c := install(srv.Client(), client.Config{ShowCommentEvents: true})
	hide := client.WithConfig(func(cfg *client.Config) { cfg.ShowCommentEvents = false })
	for _, call := range []struct {
		options []client.Option
		events  int
	}{{nil, 100}, {[]client.Option{hide}, 50}, {nil, 100}} {
		events, err := collect(session(t, c, srv.URL, call.options...))
		require.NoError(t, err)
		require.Len(t, events, call.events)
	}
}

func TestKtor44EmptyStreamEndsNormally(t *testing.T) {
	t.Parallel()
	overEach(t, streamOf(""), func(t *testing.T, srv *httptest.Server) {
		t.Helper()
		s := session(t, install(srv.Client(), client.Config{}), srv.URL)
		require.Equal(t, http.StatusOK, s.Call().StatusCode)
		events, err := collect(s)
		require.NoError(t, err)
		require.Empty(t, events)
	})
}

type (
	ktorPerson struct {
		Name string
		Age  int
	}
	ktorCity struct{ Name string }
)

// ktorFields decodes a name and an age as a ktorPerson, and refuses every other type.
var ktorFields = client.DeserializerFunc(func(data string, v any) error {
	p, ok := v.(*ktorPerson)
	if !ok {
		return fmt.Errorf("%T is no person", v)
	}
	_, err := fmt.Sscanf(data, "%s %d", &p.Name, &p.Age)
	return err
})

// ktorUpper decodes data as the name of a ktorPerson, in capitals.
var ktorUpper = client.DeserializerFunc(func(data string, v any) error {
	v.(*ktorPerson).Name = strings.ToUpper(data)
	return nil
})

func ktorDecodeBy(d client.Deserializer) client.Option {
	return client.WithConfig(func(cfg *client.Config) { cfg.Deserializer = d })
}

func TestKtor45DeserializerOfACall(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf("id: 7\nevent: person\ndata: Ann 34\n\n"))
	s := session(t, install(srv.Client(), client.Config{}), srv.URL, ktorDecodeBy(ktorFields))
	n := 0
	for ev, err := range client.Incoming[ktorPerson](s) {
		require.NoError(t, err)
		require.Equal(t, client.TypedEvent[ktorPerson]{ID: "7", Name: "person", Data: ktorPerson{"Ann", 34}}, ev)
		n++
	}
	require.Equal(t, 1, n)
}

func TestKtor46WrongDeserializer(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf("data: Ann 34\n\n"))
	err := install(srv.Client(), client.Config{}).SSE(ktorContext(t), srv.URL, func(s *client.Session) error {
		for ev, err := range s.Incoming() {
			require.NoError(t, err)
			_, err := client.Decode[ktorCity](s, ev)
			return err
		}
		return nil
	}, ktorDecodeBy(ktorFields))
	require.Equal(t, http.StatusOK, ktorError(t, err).Response.StatusCode)
	var decode *client.DecodeError
	require.ErrorAs(t, err, &decode)
	require.Equal(t, client.Event{Data: "Ann 34"}, decode.Event)
	require.EqualError(t, err, "client: cannot decode an event's data into client_test.ktorCity: *client_test.ktorCity is no person")
}

func TestKtor47DifferentDeserializersOnSuccessiveCalls(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf("data: Ann 34\n\n"))
	c := install(srv.Client(), client.Config{Deserializer: ktorUpper})
	for _, call := range []struct {
		options []client.Option
		want    ktorPerson
	}{
		{nil, ktorPerson{"ANN 34", 0}},
		{[]client.Option{ktorDecodeBy(ktorFields)}, ktorPerson{"Ann", 34}},
		{nil, ktorPerson{"ANN 34", 0}},
	} {
		for ev, err := range client.Incoming[ktorPerson](session(t, c, srv.URL, call.options...)) {
			require.NoError(t, err)
			require.Equal(t, call.want, ev.Data)
		}
	}
}

func TestKtor48JSONOfSeveralLinesAndTypes(t *testing.T) {
	t.Parallel()
	srv := serve(t, streamOf("event: person\ndata: {\ndata:   \"name\": \"Ann\",\ndata:   \"age\": 34\ndata: }\n\n"+
		"event: city\ndata: {\"name\":\ndata: \"Bern\"}\n\n"))
	s := session(t, install(srv.Client(), client.Config{}), srv.URL)
	var got []any
	for ev, err := range s.Incoming() {
		require.NoError(t, err)
		if ev.Name == "city" {
			city, err := client.Decode[ktorCity](s, ev)
			require.NoError(t, err)
			got = append(got, city)
			continue
		}
		person, err := client.Decode[ktorPerson](s, ev)
		require.NoError(t, err)
		got = append(got, person)
	}
	require.Equal(t, []any{ktorPerson{"Ann", 34}, ktorCity{"Bern"}}, got)
}
