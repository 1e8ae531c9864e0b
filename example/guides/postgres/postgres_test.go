package main

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
	"github.com/chi-sse/sse/internal/pgtest"
)

// The roles of the guide.
const roles = `
CREATE ROLE shop LOGIN;
GRANT SELECT, INSERT, UPDATE ON orders TO shop;
GRANT USAGE ON SCHEMA sse TO shop;
GRANT INSERT (topic, key, record) ON sse.inbox TO shop;
GRANT SELECT ON sse.version, sse.state, sse.log TO shop;
GRANT EXECUTE ON FUNCTION sse.number, sse.append, sse.hold, sse.number_seen, sse.retain, sse.renew TO shop;
`

// stream is a client of a stream of orders.
type stream struct {
	t       *testing.T
	session *client.Session
	events  chan client.Event
}

func follow(t *testing.T, p *process, lastID string) *stream {
	t.Helper()
	var options []client.Option
	if lastID != "" {
		options = append(options, client.WithLastEventID(lastID))
	}
	s := &stream{t: t, events: make(chan client.Event, 100)}
	var err error
	s.session, err = client.Install(http.DefaultClient, client.Config{}).Session(t.Context(), p.url+"/orders/events", options...)
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.session.Close() })
	go func() {
		for ev, err := range s.session.Incoming() {
			if err == nil {
				s.events <- ev
			}
		}
	}()
	return s
}

// next expects an event, and returns its id.
func (s *stream) next(name, data string) (id string) {
	s.t.Helper()
	select {
	case ev := <-s.events:
		require.Equal(s.t, name, ev.Name)
		require.JSONEq(s.t, data, ev.Data)
		return ev.ID
	case <-time.After(patience):
		require.Fail(s.t, "no event has come")
		return ""
	}
}

// Two processes with the least rights are one hub. What is rolled back is never seen, and a client
// goes on at the other process.
func TestTwoProcesses(t *testing.T) {
	s := newDatabase(t)
	admin, err := pgx.Connect(t.Context(), s.DSN("postgres", "postgres"))
	require.NoError(t, err)
	_, err = admin.Exec(t.Context(), roles)
	require.NoError(t, err)
	require.NoError(t, admin.Close(t.Context()))
	a, b := start(t, options{database: s.DSN("postgres", "shop")}), start(t, options{database: s.DSN("postgres", "shop"), direct: s.DSN("postgres", "shop")})

	first := follow(t, a, "")
	first.next("orders", `[]`)
	change := func(p *process, path string, form url.Values, want int) {
		t.Helper()
		status, text, err := post(p.url+path, form)
		require.NoError(t, err)
		require.Equal(t, want, status, text)
	}
	tea := func(status string, changes int) string {
		return fmt.Sprintf(`{"id":1,"item":"tea","quantity":2,"status":%q,"changes":%d}`, status, changes)
	}
	change(b, "/orders", url.Values{"item": {"tea"}, "quantity": {"2"}}, 200)
	first.next("order", tea("placed", 1))
	change(a, "/orders", url.Values{"item": {"tea"}, "quantity": {"101"}}, 400)
	change(a, "/orders", url.Values{"item": {"tea"}, "quantity": {"two"}}, 400)
	change(b, "/orders/1/advance", nil, 200)
	id := first.next("order", tea("packed", 2))
	a.stop()

	change(b, "/orders/1/advance", nil, 200)
	change(b, "/orders/1/advance", nil, 409)
	change(b, "/orders/7/advance", nil, 409)
	follow(t, b, id).next("order", tea("shipped", 3))
	follow(t, b, "").next("orders", "["+tea("shipped", 3)+"]")
}

// Without the tables, the program says what it lacks.
func TestWithoutTables(t *testing.T) {
	s := pgtest.Start(t)
	require.ErrorContains(t, run(t.Context(), options{database: s.DSN("postgres", "postgres")}, nil), "call Migrate")
}

// journal is what a stream has brought: all orders at first, and then changes.
type journal []json.RawMessage

// check checks that the journal leads to the orders of the table, each change once and in order.
func (j journal) check(t *testing.T, want []order) {
	t.Helper()
	now := make(map[int64]order)
	for i, text := range j {
		if strings.HasPrefix(string(text), "[") {
			require.Zero(t, i, "there is no second snapshot")
			var all []order
			require.NoError(t, json.Unmarshal(text, &all))
			for _, o := range all {
				now[o.ID] = o
			}
			continue
		}
		var o order
		require.NoError(t, json.Unmarshal(text, &o))
		require.Equal(t, now[o.ID].Changes+1, o.Changes, "the order %d", o.ID)
		now[o.ID] = o
	}
	require.Len(t, now, len(want))
	for _, o := range want {
		require.Equal(t, o, now[o.ID])
	}
}
