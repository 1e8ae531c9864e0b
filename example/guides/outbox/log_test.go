package main

import (
	"context"
	"database/sql"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/hub"
)

// newOutbox returns the outbox of a new file, with events of the topics.
func newOutbox(t *testing.T, topics ...string) (*outbox, hub.Position) {
	t.Helper()
	s, err := openStore(t.Context(), newFile(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.close() })
	for i, topic := range topics {
		require.NoError(t, s.change(t.Context(), func(tx *sql.Tx) error {
			return addEvent(t.Context(), tx, topic, "e", i+1)
		}))
	}
	b, err := s.outbox.Bounds(t.Context())
	require.NoError(t, err)
	require.NotZero(t, b.Epoch)
	return s.outbox, hub.Position{Epoch: b.Epoch}
}

func at(start hub.Position, offset uint64) hub.Position {
	return hub.Position{Epoch: start.Epoch, Offset: offset}
}

func TestBounds(t *testing.T) {
	o, start := newOutbox(t)
	b, err := o.Bounds(t.Context())
	require.NoError(t, err)
	assert.Equal(t, hub.Bounds{Epoch: start.Epoch, First: 1}, b)

	o, start = newOutbox(t, "a", "a", "a")
	for _, tt := range []struct{ deleted, first uint64 }{{0, 1}, {2, 3}, {3, 4}} {
		_, err = o.db.Exec(`DELETE FROM outbox WHERE id <= ?`, tt.deleted)
		require.NoError(t, err)
		b, err = o.Bounds(t.Context())
		require.NoError(t, err)
		assert.Equal(t, hub.Bounds{Epoch: start.Epoch, First: tt.first, Last: 3}, b)
	}
	_, err = o.Read(t.Context(), nil, at(start, 2), at(start, 3), 10)
	truncated, ok := errors.AsType[*hub.TruncatedError](err)
	require.True(t, ok, err)
	assert.Equal(t, uint64(4), truncated.First)
	_, err = o.Read(t.Context(), nil, at(start, 3), at(start, 3), 10)
	require.NoError(t, err)
}

func TestReadPages(t *testing.T) {
	o, start := newOutbox(t, "a", "b", "a", "b", "b")
	for name, tt := range map[string]struct {
		topics      []string
		after, upTo uint64
		limit       int
		ids         []string
		reached     uint64
	}{
		"all":               {nil, 0, 9, 10, []string{"1", "2", "3", "4", "5"}, 5},
		"a page":            {nil, 1, 5, 2, []string{"2", "3"}, 3},
		"up to":             {nil, 1, 3, 10, []string{"2", "3"}, 3},
		"a topic":           {[]string{"a"}, 0, 5, 10, []string{"1", "3"}, 5},
		"a page of a topic": {[]string{"b"}, 0, 5, 2, []string{"2", "4"}, 4},
		"two topics":        {[]string{"a", "b"}, 3, 5, 10, []string{"4", "5"}, 5},
		"an unknown topic":  {[]string{"c"}, 0, 4, 10, nil, 4},
		"nothing new":       {nil, 5, 9, 10, nil, 5},
	} {
		t.Run(name, func(t *testing.T) {
			page, err := o.Read(t.Context(), tt.topics, at(start, tt.after), at(start, tt.upTo), tt.limit)
			require.NoError(t, err)
			assert.Equal(t, tt.reached, page.UpTo)
			var ids []string
			for _, r := range page.Records {
				ids = append(ids, r.Event.ID)
				assert.WithinDuration(t, time.Now(), r.Time, time.Minute)
				assert.Equal(t, sse.Event{ID: r.Event.ID, Name: "e", Data: r.Event.ID}, r.Event)
			}
			assert.Equal(t, tt.ids, ids)
		})
	}
}

func TestFollowAndReadRefuse(t *testing.T) {
	o, start := newOutbox(t, "a")
	none := func(hub.Batch) error { return errors.New("there is nothing to apply") }
	require.ErrorIs(t, o.Follow(t.Context(), hub.Position{Epoch: start.Epoch + 1}, none), hub.ErrEpoch)
	_, err := o.Read(t.Context(), nil, hub.Position{Epoch: start.Epoch + 1}, start, 1)
	require.ErrorIs(t, err, hub.ErrEpoch)
	require.ErrorContains(t, o.Follow(t.Context(), at(start, 2), none), "row 2 was sent, but the outbox ends at row 1")

	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(2*pollEvery, cancel)
	require.ErrorIs(t, o.Follow(ctx, start, func(hub.Batch) error { return nil }), context.Canceled)
	_, err = o.Read(ctx, nil, start, start, 1)
	require.ErrorIs(t, err, context.Canceled)
}

// Follow says that there is nothing new: at first, and after what it has read. It notices
// that the epoch changes.
func TestFollow(t *testing.T) {
	o, start := newOutbox(t, "a", "a")
	batches := make(chan hub.Batch, 10)
	ended := make(chan error, 1)
	go func() {
		ended <- o.Follow(t.Context(), start, func(b hub.Batch) error {
			batches <- b
			return nil
		})
	}()
	assert.Len(t, (<-batches).Records, 2)
	assert.Equal(t, hub.Batch{UpTo: 2}, <-batches)
	_, err := o.db.Exec(`INSERT INTO outbox (topic, name, data) VALUES ('b', '', 'from another program')`)
	require.NoError(t, err)
	assert.Len(t, (<-batches).Records, 1)
	assert.Equal(t, hub.Batch{UpTo: 3}, <-batches)
	_, err = o.db.Exec(afterRestore)
	require.NoError(t, err)
	select {
	case err = <-ended:
		require.ErrorIs(t, err, hub.ErrEpoch)
	case <-time.After(patience):
		require.Fail(t, "Follow goes on")
	}
}

func TestFind(t *testing.T) {
	o, start := newOutbox(t, "a", "b")
	for _, tt := range []struct {
		topic, id string
		found     bool
	}{
		{"a", "1", true},
		{"b", "2", true},
		{"b", "1", false},
		{"a", "3", false},
		{"a", "", false},
		{"a", "x", false},
		{"a", "-1", false},
		{"a", "99999999999999999999", false},
	} {
		pos, found, err := o.Find(t.Context(), tt.topic, tt.id)
		require.NoError(t, err)
		assert.Equal(t, tt.found, found, "%q of %q", tt.id, tt.topic)
		if found {
			assert.Equal(t, tt.id, pos.String()[len(start.String())-1:])
		}
	}
}

// A commit wakes the hub, and a rollback does not.
func TestCommitWakes(t *testing.T) {
	s, err := openStore(t.Context(), newFile(t))
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.close() })
	require.Len(t, s.outbox.wake, 1, "the tables were made")
	<-s.outbox.wake
	require.Error(t, s.place(t.Context(), &order{Item: "tea", Quantity: 0}))
	require.Empty(t, s.outbox.wake)
	require.NoError(t, s.place(t.Context(), &order{Item: "tea", Quantity: 1}))
	require.NoError(t, s.place(t.Context(), &order{Item: "tea", Quantity: 1}))
	require.Len(t, s.outbox.wake, 1)
}
