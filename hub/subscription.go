package hub

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/chi-sse/sse"
)

// Subscription says which events a session is sent, and how.
type Subscription struct {
	// Topics are the topics that the session follows. A topic that is named twice counts
	// once. Config.MaxTopics limits their number. A client's last event id holds for these
	// topics: their missed events are sent. [Member.Subscribe] can add more. A member can be
	// found only through its topics (with [Hub.Members]), so name at least one.
	Topics []string

	// Start says where a client begins that has no last event id, or an id from which it
	// cannot resume. Default: Now.
	Start Start

	// Filter reports whether the session is sent m. The hub calls it once for each event
	// that could be sent, in order, from one goroutine at a time. It must not wait for
	// anything. Default: every event is sent.
	Filter func(m *Message) bool

	// Snapshot sends, with s, the state that the events change. The hub calls it before the
	// first event, instead of applying Start, when a client has no last event id, and after
	// a gap. at is the hub's position. The session is then sent the events after the
	// position that Snapshot returns.
	//
	// No event is lost or sent twice if the state was taken at exactly that position. So
	// take both under the lock under which the application changes the state and publishes.
	// Snapshot can also return at: if it took the state at that position, or after it and
	// repeating an event does no harm.
	//
	// An error ends the session. If nothing has been sent yet it can be an sse.Error.
	Snapshot func(s *sse.ServerSession, at Position) (Position, error)

	// Slow says what happens to a client that is so slow that the log loses events before
	// they could be sent to it. Default: SlowEnd.
	Slow SlowPolicy

	// Key returns, for SlowLatest, which events replace each other: those with the same
	// key. The hub calls it as it calls Filter, for each event that Filter accepts. Default:
	// the topic. Key must be nil for other policies.
	Key func(m *Message) string

	// OnStart is called by Serve before anything is sent, with s. An error, which can be an
	// sse.Error, refuses the client, and Serve returns it. [Hub.Kick] already reaches the
	// session then. So a right that OnStart asks for can be taken away without a gap: revoke
	// it, then kick.
	//
	// If OnStart has returned nil, OnEnd is called once, with the cause of the session's end, or
	// the error of Serve if that came before. It is called when the last byte has been
	// written and after all calls of OnLeave, directly before sse.Config.OnClose; if the
	// session is detached, too. Use it in place of a defer. Without OnStart, OnEnd is called
	// as if OnStart had returned nil.
	OnStart func(s *sse.ServerSession) error
	OnEnd   func(cause error)

	// Until ends the session at that time, as [sse.ServerSession.EndAt] does: for a right that
	// ends at a known time, such as that of a token. The client may reconnect: OnStart, or the
	// handler, must refuse it then. Default: the session has no such end.
	Until time.Time

	// Info is the application's own data about the member. The hub keeps it for [InfoOf] and
	// [Member.Info].
	Info any
}

// Start says where in the log a client begins.
type Start struct {
	kind  startKind
	after Position
}

type startKind uint8

const (
	atNow startKind = iota
	atBeginning
	atLatest
	atPosition
	atOpen
)

var (
	// Now starts with the next event.
	Now = Start{}

	// Beginning starts with the oldest event in the log.
	Beginning = Start{kind: atBeginning}

	// atOpening is for the topics of a Subscription, before the cursor is placed.
	atOpening = Start{kind: atOpen}

	// Latest starts with the newest event of each topic that has one in the log.
	Latest = Start{kind: atLatest}
)

// After starts just after p, as if the client had sent p as its last event id.
func After(p Position) Start { return Start{atPosition, p} }

// check returns an error if sub is invalid.
func (sub Subscription) check() error {
	switch {
	case slices.Contains(sub.Topics, ""):
		return errTopic
	case sub.Slow > SlowLatest:
		return fmt.Errorf("Subscription.Slow is %d, but must be SlowEnd, SlowSkip or SlowLatest", sub.Slow)
	case sub.Key != nil && sub.Slow != SlowLatest:
		return errors.New("Subscription.Key must be nil unless Slow is SlowLatest")
	}
	return nil
}
