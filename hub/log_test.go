package hub

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/event"
)

func TestLogCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 3})
		h.publishTo("a", "b", "a")
		h.requireLog(1, 2, 3)
		h.publishTo("a")
		h.requireLog(2, 3, 4)
		h.publishTo("a")
		h.requireLog(3, 4, 5)
		assert.EqualValues(t, 2, h.Stats().Evicted)
		assert.Equal(t, 1, h.Stats().Topics)
	})
}

func TestLogSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		probe := newLogHub(t, Config{})
		probe.publish("a", sse.Event{Data: "12345"})
		one := probe.Stats().LogSize
		require.Positive(t, one)

		h := newLogHub(t, Config{LogSize: 3 * one})
		for range 5 {
			h.publish("a", sse.Event{Data: "12345"})
		}
		h.requireLog(3, 4, 5)
		assert.Equal(t, 3*one, h.Stats().LogSize)
		h.publish("a", sse.Event{Data: "123456"}) // longer by one digit
		h.requireLog(5, 6)

		// The newest event stays, however large it is. One larger than the bound is
		// refused.
		h.publish("a", sse.Event{Data: string(make([]byte, 3*one-100))})
		h.requireLog(7)
		_, err := h.Publish(t.Context(), "a", sse.Event{Data: string(make([]byte, 3*one))})
		var tooLarge *event.TooLargeError
		require.ErrorAs(t, err, &tooLarge)
		h.requireLog(7)
		h.publishTo("a")
		h.requireLog(8)

		sizes := newLogHub(t, Config{})
		before := int64(0)
		for _, e := range []sse.Event{
			{Data: string(make([]byte, 1000))},
			{Name: string(bytes.Repeat([]byte("n"), 1000))},
			{Comment: string(make([]byte, 1000))},
		} {
			sizes.publish("a", e)
			after := sizes.Stats().LogSize
			assert.GreaterOrEqual(t, after-before, int64(2000), "an event takes its size twice: as it was published, and as it is sent")
			before = after
		}
	})
}

func TestLogAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogAge: time.Minute})
		h.publishTo("a")
		time.Sleep(20 * time.Second)
		h.publishTo("b", "b")
		time.Sleep(20 * time.Second)
		h.publishTo("c")

		// Nothing is published any longer.
		time.Sleep(20*time.Second - time.Nanosecond)
		h.requireLog(1, 2, 3, 4)
		time.Sleep(time.Nanosecond)
		synctest.Wait()
		h.requireLog(2, 3, 4)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		h.requireLog(4)
		time.Sleep(20 * time.Second)
		synctest.Wait()
		h.requireLog()
		assert.Equal(t, Stats{Published: 4, Evicted: 4, Gaps: map[GapReason]uint64{}}, h.Stats())
		h.mu.Lock()
		assert.Nil(t, h.expiry, "an empty log has no timer")
		h.mu.Unlock()

		// The hub still works.
		h.publishTo("a")
		h.requireLog(5)
		time.Sleep(time.Minute)
		synctest.Wait()
		h.requireLog()
	})
}

// The timer is set for an event that leaves the log early, because of LogEvents.
func TestLogAgeAndCount(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogAge: time.Minute, LogEvents: 1})
		h.publishTo("a")
		time.Sleep(30 * time.Second)
		h.publishTo("a")
		time.Sleep(30 * time.Second)
		synctest.Wait()
		h.requireLog(2)
		time.Sleep(30 * time.Second)
		synctest.Wait()
		h.requireLog()
	})
}

func TestLogAgeless(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogAge: -1})
		h.publishTo("a")
		time.Sleep(200 * 365 * 24 * time.Hour)
		synctest.Wait()
		h.publishTo("a")
		h.requireLog(1, 2)
	})
}

func TestLogDefaults(t *testing.T) {
	h, err := New(Config{})
	require.NoError(t, err)
	assert.Equal(t, DefaultLogEvents, h.log.maxEvents)
	assert.EqualValues(t, DefaultLogSize, h.log.maxSize)
	assert.Equal(t, DefaultLogAge, h.log.maxAge)
	for _, cfg := range []Config{{LogEvents: -1}, {LogSize: -1}} {
		_, err := New(cfg)
		require.Error(t, err)
	}
}
