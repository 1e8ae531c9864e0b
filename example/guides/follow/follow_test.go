package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/client"
)

// answers serves one of the answers to each request, in order, and 204 after the last. An
// answer is a stream, or a page with status 404 if it begins with "<".
func answers(t *testing.T, texts ...string) (url string, lastIDs *[]string) {
	t.Helper()
	lastIDs = new([]string)
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := len(*lastIDs)
		*lastIDs = append(*lastIDs, r.Header.Get("Last-Event-ID"))
		switch {
		case n >= len(texts):
			w.WriteHeader(http.StatusNoContent)
		case strings.HasPrefix(texts[n], "<"):
			http.Error(w, texts[n], http.StatusNotFound)
		default:
			w.Header().Set("Content-Type", "text/event-stream")
			_, _ = io.WriteString(w, texts[n])
		}
	}))
	t.Cleanup(srv.Close)
	return srv.URL, lastIDs
}

func placed(n int) string {
	return fmt.Sprintf("retry: 1\nevent: placed\nid: %d\ndata: %s\n\n", n, order(n))
}

func newStore(t *testing.T) *store {
	t.Helper()
	s, err := openStore(t.Context(), filepath.Join(t.TempDir(), "parcels.db"))
	require.NoError(t, err)
	t.Cleanup(func() { assert.NoError(t, s.close()) })
	return s
}

func TestFollow(t *testing.T) {
	const ping = "event: ping\ndata: {}\n\n"
	tests := []struct {
		name    string
		answers []string
		parcels []int
		lastIDs []string
		err     string
	}{
		{"until the end", []string{placed(1) + ping + placed(2), placed(3)}, []int{1, 2, 3}, []string{"", "2", "3"}, ""},
		{"over a page", []string{placed(1), "<p>", placed(2)}, []int{1, 2}, []string{"", "1", "1", "2"}, ""},
		{"gap", []string{placed(1) + "event: gap\ndata: {}\nid: 9\n\n" + placed(10)}, []int{1}, []string{""}, `client: events after "1" are missing: {}`},
		{"no id", []string{placed(1) + "event: placed\ndata: {}\n\n"}, []int{1}, []string{""}, `client: the event after "1" has no id, so nobody can resume after it`},
		{"bad data", []string{placed(1) + "event: placed\ndata: {\nid: 2\n\n"}, []int{1}, []string{""}, `client: event "2": unexpected end of JSON input`},
		{"too long an id", []string{placed(1) + "event: placed\ndata: {}\nid: " + strings.Repeat("x", 5000) + "\n\n"}, []int{1, 0}, []string{""}, "client: cannot resume after an event id of 5000 bytes; MaxLastEventID allows 4096"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newStore(t)
			url, lastIDs := answers(t, tt.answers...)
			err := s.follow(t.Context(), url)
			if tt.err == "" {
				require.NoError(t, err)
			} else {
				require.EqualError(t, err, tt.err)
			}
			assert.Equal(t, tt.parcels, parcels(t, s.db))
			assert.Equal(t, tt.lastIDs, *lastIDs)
		})
	}
}

// An order that cannot be handled leaves no parcel and no checkpoint, so the next run begins
// with it.
func TestFailedOrderIsHandledAgain(t *testing.T) {
	t.Parallel()
	s := newStore(t)
	_, err := s.db.Exec(`CREATE TRIGGER full BEFORE UPDATE ON checkpoint WHEN new.last_event_id = '2' BEGIN SELECT raise(ABORT, 'full'); END`)
	require.NoError(t, err)
	url, lastIDs := answers(t, placed(1)+placed(2), placed(2))
	require.ErrorContains(t, s.follow(t.Context(), url), `event "2": `)
	assert.Equal(t, []int{1}, parcels(t, s.db))
	_, err = s.db.Exec(`DROP TRIGGER full`)
	require.NoError(t, err)
	require.NoError(t, s.follow(t.Context(), url))
	assert.Equal(t, []int{1, 2}, parcels(t, s.db))
	assert.Equal(t, []string{"", "1", "2"}, *lastIDs)
}

// If two processes follow the stream, one of them ends, and no order is handled twice.
func TestTwoFollowers(t *testing.T) {
	t.Parallel()
	const orders = 500
	s := startServer(t, orders)
	first, file := newStore(t), ""
	require.NoError(t, first.db.QueryRow(`SELECT file FROM pragma_database_list`).Scan(&file))
	second, err := openStore(t.Context(), file)
	require.NoError(t, err)
	defer func() { assert.NoError(t, second.close()) }()

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ended := make(chan error, 2)
	next := func() error {
		select {
		case err := <-ended:
			return err
		case <-time.After(patience):
			return errors.New("both followers go on")
		}
	}
	for _, s2 := range []*store{first, second} {
		go func() { ended <- s2.follow(ctx, s.url) }()
	}
	require.ErrorContains(t, next(), "another process follows the stream too")
	require.Eventually(t, func() bool { return checkpoint(t, first.db) == orders }, patience, patience/1000)
	cancel()
	require.ErrorIs(t, next(), context.Canceled)
	assertEachOnce(t, orders, parcels(t, first.db))
}

// A program that is stopped in order leaves the checkpoint of its last order in the file.
func TestFileHasTheLastOrder(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "checkpoint")
	url, lastIDs := answers(t, placed(1)+placed(2), placed(3))
	var out strings.Builder
	require.NoError(t, followToFile(t.Context(), url, file, &out))
	assert.Equal(t, order(1)+"\n"+order(2)+"\n"+order(3)+"\n", out.String())
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "3", string(text))
	require.NoError(t, followToFile(t.Context(), url, file, &out))
	assert.Equal(t, "3", (*lastIDs)[3])

	url, _ = answers(t, placed(4)+placed(5))
	failing, cancel := io.Pipe()
	require.NoError(t, failing.Close())
	require.ErrorIs(t, followToFile(t.Context(), url, file, cancel), io.ErrClosedPipe)
	text, err = os.ReadFile(file)
	require.NoError(t, err)
	assert.Equal(t, "3", string(text), "an order that was not printed is not in the file")
}

// The orders of the program's own server have ids that outlive it.
func TestServer(t *testing.T) {
	t.Parallel()
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/orders/events", sendOrders)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	last := time.Now().Unix() - 5
	for range 2 {
		srv := httptest.NewServer(r)
		err := follow(ctx, srv.URL+"/orders/events", strconv.FormatInt(last, 10), func(before string, ev client.Event) error {
			assert.Equal(t, strconv.FormatInt(last, 10), before)
			last++
			assert.Equal(t, strconv.FormatInt(last, 10), ev.ID)
			assert.JSONEq(t, fmt.Sprintf(`{"id":%d,"item":"tea","quantity":%d}`, last, last%5+1), ev.Data)
			if last >= time.Now().Unix()-1 {
				return io.EOF
			}
			return nil
		})
		require.ErrorIs(t, err, io.EOF)
		srv.CloseClientConnections()
		srv.Close()
	}
}
