package hub

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// The hub drops a topic that has neither events nor followers.
func TestTopicsForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 10})
		for i := range 1000 {
			h.publishTo(fmt.Sprint("topic ", i))
		}
		assert.Equal(t, 10, h.Stats().Topics)
		assert.Len(t, h.topics, 10)

		s := h.resumeAfter(h.Position(), "quiet", "topic 995")
		assert.Equal(t, 11, h.Stats().Topics)
		for i := range 20 {
			h.publishTo(fmt.Sprint("topic ", 2000+i))
		}
		assert.Equal(t, 12, h.Stats().Topics, "topics with followers stay")
		s.leave()
		assert.Equal(t, 10, h.Stats().Topics)

		for i := range 100 {
			h.resumeAfter(h.Position(), fmt.Sprint("quiet ", i)).leave()
		}
		assert.Equal(t, 10, h.Stats().Topics)
	})
}

// The hub does not know any longer which events a dropped topic had. It tells a client of a
// gap if the client's id is older than the last event that such a topic may have lost, and
// only then.
func TestForgottenFloor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 4})
		h.publishTo("a", "a", "b", "b", "b", "b") // the events of a are evicted, and a is dropped
		h.requireLog(3, 4, 5, 6)
		require.NotContains(t, h.topics, "a")
		for _, tt := range []struct {
			after int
			topic string
			gap   GapReason
		}{
			{0, "a", GapExpired},
			{1, "a", GapExpired},
			{2, "a", ""},
			{6, "a", ""},
			{0, "b", ""}, // the topic is still there, and has lost no event
			{2, "b", ""},
			{1, "unheard of", GapExpired}, // it may be a topic that was dropped
			{2, "unheard of", ""},
		} {
			s := h.resumeAfter(h.at(tt.after), tt.topic)
			data, gap := s.data()
			assert.Equal(t, string(tt.gap), gap, "%+v", tt)
			if tt.topic == "b" {
				assert.Len(t, data, 4)
			} else {
				assert.Empty(t, data)
			}
			s.leave()
		}

		// If it is published to again, it has its old floor and the new events.
		h.publishTo("a")
		data, gap := h.resumeAfter(h.at(1), "a").data()
		assert.Equal(t, []string{"to a"}, data)
		assert.Equal(t, string(GapExpired), gap)
		data, gap = h.resumeAfter(h.at(2), "a").data()
		assert.Equal(t, []string{"to a"}, data)
		assert.Empty(t, gap)
	})
}

// A client of a quiet topic, or of one that has lost no event, has no gap when events of
// other topics leave the log.
func TestQuietTopic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newLogHub(t, Config{LogEvents: 4})
		h.publishTo("quiet", "quiet")
		follower := h.resumeAfter(h.at(2), "quiet")
		for range 100 {
			h.publishTo("loud")
		}
		for after, want := range map[int]GapReason{0: GapExpired, 1: GapExpired, 2: "", 50: "", 102: ""} {
			s := h.resumeAfter(h.at(after), "quiet")
			data, gap := s.data()
			assert.Empty(t, data)
			assert.Equal(t, string(want), gap, "after %d", after)
			s.leave()
		}
		h.publishTo("quiet")
		data, gap := follower.data()
		assert.Equal(t, []string{"to quiet"}, data)
		assert.Empty(t, gap)
		data, gap = h.resumeAfter(h.at(2), "quiet").data()
		assert.Equal(t, []string{"to quiet"}, data)
		assert.Empty(t, gap)

		// With several topics, the gap of the loud one counts.
		s := h.resumeAfter(h.at(2), "quiet", "loud")
		data, gap = s.data()
		assert.Equal(t, []string{"to loud", "to loud", "to loud", "to quiet"}, data)
		assert.Equal(t, string(GapExpired), gap)
	})
}

// A pass skips no member, although links are added and removed in the middle of it.
func TestPassComplete(t *testing.T) {
	for seed := range uint64(500) {
		r := rand.New(rand.NewPCG(seed, 5))
		sh := new(shard)
		tp := &topic{name: "a"}
		var links []*link
		wide := make(map[*link]bool)
		join := func() {
			l := &link{topic: tp, m: &Member{shard: sh}}
			if p := tp.addLink(l); r.IntN(3) == 0 {
				p.addWide(l)
				wide[l] = true
			}
			links = append(links, l)
		}
		widen := func() {
			if p := tp.part(sh); int(p.wide) < len(p.links) {
				l := p.links[int(p.wide)+r.IntN(len(p.links)-int(p.wide))]
				p.addWide(l)
				wide[l] = true
			}
		}
		leave := func() {
			if len(links) > 0 {
				i := r.IntN(len(links))
				tp.removeLink(links[i])
				links = slices.Delete(links, i, i+1)
			}
		}
		for range 1 + r.IntN(20) {
			join()
		}
		p := tp.part(sh)
		p.queued = true // as a publication does
		tp.last.Store(1)
		due := make(map[*Member]bool)
		widen()
		for _, l := range links {
			due[l.m] = true
		}
		ms := make([]*Member, 1+r.IntN(4))
		published := uint64(1)
		for stint := 0; ; stint++ {
			n, _ := p.take(ms)
			for _, m := range ms[:n] {
				delete(due, m)
			}
			for range r.IntN(3) {
				switch r.IntN(4) {
				case 0:
					join()
				case 1:
					widen()
				default:
					leave()
				}
			}
			for i, l := range p.links {
				require.EqualValues(t, i, l.i)
				require.Equal(t, wide[l], i < int(p.wide), "the links of wide members come first")
			}
			if published < 3 && r.IntN(6) == 0 { // a new event for all members, in the middle of the pass
				published++
				tp.last.Store(published)
				for _, l := range links {
					due[l.m] = true
				}
			}
			if !p.more(0) {
				break
			}
			require.Less(t, stint, 1000, "seed %d", seed)
		}
		for _, l := range links {
			require.False(t, due[l.m], "seed %d: one of %d members is left out", seed, len(links))
		}
	}
}
