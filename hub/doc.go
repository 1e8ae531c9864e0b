// Package hub broadcasts events to the sessions of package sse. Events are published to
// topics, and each session follows some topics. A client that reconnects continues after
// the last event that it received: every missed event arrives once and in order, or the
// client is told that some are missing.
//
//	h, err := hub.New(hub.Config{})
//	…
//	r.SSE("/prices/{symbol}", func(s *sse.ServerSession) error {
//		return h.Serve(s, hub.Subscription{Topics: []string{"price/" + chi.URLParam(s.Call(), "symbol")}})
//	})
//	…
//	pos, err := h.Publish(ctx, "price/ACME", sse.Event{Name: "price", Data: "42"})
//
// # How it works
//
// A hub is a log. [Hub.Publish] encodes an event once and appends it with the next
// [Position]. A subscriber is a cursor in that log. Serving it means sending every event
// after its cursor, both live and after a reconnection. So there is no switch from replay
// to live that could lose an event or send it twice, and there is no queue for each
// subscriber. The hub sends all that a subscriber has not been sent yet in as few writes as
// it can.
//
// # What the hub guarantees
//
// Every subscriber gets its events in the hub's order, which is one order for all topics.
//
// A client that reconnects with the id of the last event that it received gets every event
// that it missed, each once, if the log still holds them all. Config.LogEvents, LogSize and
// LogAge set how much the log holds. If the log does not hold them all, or they are more
// than Config.MaxReplay, the client is told of the gap before anything else, by a response
// header named [GapHeader] and an event named [GapEvent].
//
// A slow client delays neither the publisher nor the other subscribers. If the log loses
// events before they could be sent to a slow client, [Subscription].Slow decides what
// happens to that client.
//
// # Glossary
//
// The documentation, the comments and the code use each of these words for one thing only.
//
//   - A member is a session that a hub serves. See [Member].
//   - A position is a place in the log: the place of an event, or the one just after it. It
//     consists of the log's epoch and an offset. It is the event's id, perhaps encrypted
//     (Config.IDKey), unless the application gives the ids (Config.OwnIDs). See [Position].
//   - A span is a stretch of the hub's offsets with one epoch. Only a Log ([Config].Log)
//     can have more than one.
//   - A hole is an entry that stands for events that the Log could not give the hub.
//   - An event is cold, for a hub, if it has left its tail and is still in its Log.
//   - A cursor is an offset that belongs to a member: the hub has sent the member every
//     event up to there that the member should get.
//   - An event is unsent, for a member, if it is after the member's cursor in one of the
//     member's topics.
//   - The tail is the newest part of the log, which the hub holds in memory. Each topic has
//     its own tail, which holds the topic's share of the same events. An event that has
//     left the log is no longer in either.
//   - A topic's floor is the offset up to which events of the topic may be missing from its
//     tail. The tail holds every event of the topic after the floor.
//   - A topic is finished if its last event has been published. See [Hub.Finish].
//   - An ending is an end in order that a kick or a shutdown has asked for: what is unsent up
//     to its limit may still be sent, and then the session ends.
//   - A claim is the right to send to a member. One goroutine has it at a time.
//   - A wide member is one that follows, or has followed, more than 16 topics. The hub
//     keeps a list of those topics that have news for it.
//   - A shard is a share of the hub's members, together with the one goroutine, its worker,
//     that sends to them. There are as many shards as processors (GOMAXPROCS).
//   - A pass is one round of a worker through the followers of a topic in its shard. A
//     publication starts one, unless one is already waiting or in progress.
//   - A stint is the part of a pass that a worker does before the next topic has its turn:
//     at most 64 members.
//   - A stall is a delivery to one member that keeps the worker so long, 5 to 10 ms, that
//     another worker takes its place.
package hub

// How it works inside, for maintainers.
//
// # From a publication to the clients
//
//  1. Publish encodes the event and appends it to the log and to its topic (publish.go). It
//     enqueues the topic's followers, one part for each shard that has any (topic.go).
//  2. A shard's worker takes a part from the queue and goes through its members in stints
//     (shard.go).
//  3. For each member that has unsent events, the worker claims the member (claim.go) and
//     delivers: it gathers the events after the member's cursor (reader.go; merge.go for
//     several topics, wide.go for many, latest.go for SlowLatest), writes them, and moves
//     the cursor (deliver.go).
//  4. A write that the client does not take at once, and a gap, are left to another
//     goroutine, which may wait (deliver.go, slow.go, gap.go).
//
// Serve (serve.go) puts a new member's cursor where the client was (seek.go), sends the
// unsent events in the handler's goroutine, and then leaves the member to the workers. Kick
// and the shutdowns (ending.go) set a limit up to which the next delivery goes, and have the
// session end after it.
//
// # With a Log
//
// Open (open.go) starts the follower, which reads the Log (record.go) and does what Publish does
// in a hub without one: it appends each event to the tail and to its topic (apply.go). The
// Log's offsets become the hub's (span.go). A member that needs events which have left the tail
// has a state of its own for that (logged.go). A goroutine sends them to it (cold.go), by pages
// that all members share (pages.go).
//
// # Order of locks
//
// A goroutine that holds one of these locks takes another only in this order:
//
//	Hub.mu    → topic.mu → shard.mu    (a publication)
//	Hub.mu    → topic.mu               (an eviction, and dropping a topic)
//	Member.mu → topic.mu               (seeking, following a topic)
//	Member.mu → topic.mu → wide.mu     (SubscribeFrom)
//	Member.mu → wide.mu                (becoming wide, Unsubscribe)
//	shard.announcing → topic.mu → wide.mu
//	shard.announcing → shard.mu
//
// No goroutine holds Hub.mu and Member.mu together, nor two locks of the same kind. None of
// them is held during a call to the session, a hook, a Filter, a Key, a Snapshot or the
// Logger. So the session's own lock never nests with them, in either direction: the session
// does not hold it when it calls the member (BeginHeartbeat, EndHeartbeat, EndSoon, Ended).
//
// What each lock guards:
//
//   - Hub.mu: the log, the map of topics, droppedFloor, dropped, expiry, members, gone
//     (which is closed under it), and topic.users. It serializes publications, and so makes
//     the order of events. Hub.head and Hub.closed are stored only under it.
//   - Member.mu: links, left, rewound, wide and wide.index.
//   - topic.mu: the topic's entries, first, floor, bytes, own, parts and present, every
//     field of its parts, and i, present, left and dropped of its links. topic.last is stored
//     only under it.
//   - shard.mu: the shard's queue, news, worker, spare, watch, watched, seenVisit and
//     members, and Member.i of its members.
//   - shard.announcing: no field. A goroutine that holds it knows that nobody is in the
//     middle of an announcement.
//   - wide.mu: news and gone, and link.news of the member's links.
//
// A claim (Member.state) is not a lock, because no goroutine waits for one. The claimant
// alone sends the hub's events to the session, calls Filter and Key, stores cursor, lastID,
// last, cut and catchUp, and uses latest, wide.heads and wide.old, and next and unread of the
// links. It takes the locks above while it holds the claim. A new link's next is set before
// the link is in Member.links or has news.
//
// The remaining fields of Hub, Member, topic, part, link and shard do not change after the
// value is made, are atomic (see below), or say at the field who may use them.
//
// # Atomics that are read without a lock
//
//   - Hub.head: appendLocked stores it last, after the entry is in its topic and topic.last
//     is stored. So a goroutine that has read head finds every entry up to that offset in
//     the topics, except for those that have been evicted.
//   - topic.last: by the same order, a goroutine that has read head and then finds
//     topic.last at or before a cursor knows that the topic has no entry after that cursor
//     up to head. It need not lock the topic.
//   - Hub.closed: it is set once, under Hub.mu, and nothing is appended afterwards. So a
//     goroutine that has read true reads the final head next. Shutdown sets it before it
//     looks for members, and admit reads it after it has added one. So one of the two sets
//     the member's ending.
//   - Member.ending: a delivery reads it once, after Hub.head. If it reads nil too early, it
//     is the claimant of the member; the goroutine that has set the ending finds the member claimed and
//     leaves word, and the claimant delivers again. What it delivers meanwhile was published
//     before the ending was set.
//   - Member.cursor: only the claimant stores it. A worker reads it before it claims the
//     member, to skip a member without unsent events. If it reads an old value, which is
//     lower, it only claims the member for nothing. A claimant that moves the cursor back
//     (sendSnapshot, rewind) delivers before it releases the claim.
//   - Member.state: see claim.go.
//   - Member.caution: the watch stores it, the claimant counts it down. A lost count does
//     no harm.
//   - worker.visit: the worker and the watch contend for it; see shard.go.
//   - link.hooks: it decides whether join or unlink calls OnLeave; see join. Member.ending is
//     set, with the cause, before hooks is hooksLeft, and read after.
//   - The counters of Stats are independent of each other and of everything else.
