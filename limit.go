package sse

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"net/http"
	"slices"
	"time"
)

// Limits: how many sessions there may be at a time, and how many may open in a time. Plugin.admit
// asks all of them under Plugin.mu, so no two requests can take the same place. A session has its
// places until it leaves the plugin, after its handler has returned or, if it is detached, after
// its end.

// LimitError reports that a request gets no session because of a limit. It matches
// [ErrTooManySessions]. Get it with [errors.As] in Config.OnRefuse and Config.RenderError.
type LimitError struct {
	// Limit is the name of the limit: "Config.MaxSessions", "WithSessionLimit",
	// "WithSessionLimitBy" or "WithOpenRate".
	Limit string

	// Key is what the function of WithSessionLimitBy has returned, and "" for other limits. It is
	// not in the text of the error.
	Key string

	// Max is the number of sessions that are allowed at a time. For WithOpenRate it is the number
	// of openings in the time Per.
	Max int
	Per time.Duration

	wait time.Duration // until there may be a place
}

func (e *LimitError) Error() string {
	switch {
	case e.Per > 0:
		return fmt.Sprintf("%v: at most %d may open in %v (%s)", ErrTooManySessions, e.Max, e.Per, e.Limit)
	case e.Key != "":
		return fmt.Sprintf("%v with the same key: at most %d are allowed at a time (%s)", ErrTooManySessions, e.Max, e.Limit)
	}
	return fmt.Sprintf("%v: at most %d are allowed at a time (%s)", ErrTooManySessions, e.Max, e.Limit)
}

// Is reports whether target is ErrTooManySessions.
func (e *LimitError) Is(target error) bool { return target == ErrTooManySessions }

// status returns the status of the answer: a client that asks for too much gets another one than
// a client that comes to a server that is full.
func (e *LimitError) status() int {
	if e.Key != "" || e.Per > 0 {
		return http.StatusTooManyRequests
	}
	return http.StatusServiceUnavailable
}

// WithSessionLimit bounds the sessions of the route at one time. Further clients get the
// answer that they get during a shutdown; see [Plugin.Shutdown]. n must be at least 1.
// Default: no limit but Config.MaxSessions.
func WithSessionLimit(n int) RouteOption {
	if n < 1 {
		panic("sse: WithSessionLimit needs a limit of at least 1; leave the option out for none")
	}
	return func(rt *route) {
		rt.mustLast("WithSessionLimit")
		rt.limit = n
	}
}

// WithSessionLimitBy bounds the sessions at one time that have the same key: those of a user, an
// address or a tenant. key returns the key of a request, after the middleware; a request whose key
// is "" is not limited. n must be at least 1, and key not nil.
//
// A client beyond the limit gets 429 with Retry-After, by Config.RenderError. An EventSource gets a
// stream that holds only a reconnection time, because any status but 200 would stop it forever.
// Config.OnRefuse gets a [*LimitError].
//
// A route can have several such limits. If several routes of a plugin are given the same option,
// not equal ones, it counts their sessions together.
func WithSessionLimitBy(n int, key func(*http.Request) string) RouteOption {
	return withKeyLimit("WithSessionLimitBy", n, key, false)
}

// WithNewestSessionsBy is [WithSessionLimitBy], but the client beyond the limit gets its session,
// and the oldest session with the same key ends instead. It ends at once, in order, with the reason
// [EndReplaced] and the cause [ErrReplaced].
//
// Use it for clients that do not come back by themselves. An EventSource does, and then replaces
// another of its user's, in turn, for as long as they are too many.
func WithNewestSessionsBy(n int, key func(*http.Request) string) RouteOption {
	return withKeyLimit("WithNewestSessionsBy", n, key, true)
}

func withKeyLimit(name string, n int, key func(*http.Request) string, endsOldest bool) RouteOption {
	if n < 1 {
		panic(fmt.Sprintf("sse: %s needs a limit of at least 1; leave the option out for none", name))
	}
	if key == nil {
		panic(fmt.Sprintf("sse: %s without a function that returns the key of a request", name))
	}
	shared := new(byte) // its address tells this option from equal ones
	return func(rt *route) {
		rt.mustLast(name)
		p := rt.plugin
		p.mu.Lock()
		defer p.mu.Unlock()
		l := p.keyLimits[shared]
		if l == nil {
			l = &keyLimit{name: name, most: n, key: key, endsOldest: endsOldest, sessions: make(map[string][]*ServerSession)}
			p.keyLimits[shared] = l
		}
		rt.keyLimits = append(rt.keyLimits, l)
	}
}

// WithOpenRate bounds how many sessions of the route may open in a time: n in each per. They may
// all come at once; after that, one more may open in each per/n. n must be at least 1, and per
// positive. It is for the route as a whole, not for each client. Default: no limit.
//
// A client beyond the limit gets the answer of [WithSessionLimitBy]. Clients that another limit
// refuses do not count.
func WithOpenRate(n int, per time.Duration) RouteOption {
	if n < 1 || per <= 0 {
		panic(fmt.Sprintf("sse: WithOpenRate(%d, %v): n must be at least 1, and the time positive; leave the option out for no limit", n, per))
	}
	return func(rt *route) {
		rt.mustLast("WithOpenRate")
		rt.rate = &openRate{n: n, per: per, full: math.MinInt64}
	}
}

// keyLimit is a limit by key. Plugin.mu guards sessions.
type keyLimit struct {
	name       string
	most       int
	key        func(*http.Request) string
	endsOldest bool

	sessions map[string][]*ServerSession // by key, the oldest first; without those that were replaced
	peak     int                         // the largest number of keys since the map was made
}

// keysOf returns the keys of r, one for each limit of the route. It calls code of the application.
func (rt *route) keysOf(r *http.Request) []string {
	if rt.keyLimits == nil {
		return nil
	}
	keys := make([]string, len(rt.keyLimits))
	for i, l := range rt.keyLimits {
		keys[i] = l.key(r)
	}
	return keys
}

// admits returns an error if there is no place for another session with key. p.mu is held.
func (l *keyLimit) admits(key string) error {
	if l.endsOldest || len(l.sessions[key]) < l.most {
		return nil
	}
	return &LimitError{Limit: l.name, Key: key, Max: l.most}
}

// add gives s a place, and returns the session that has lost its own for that, or nil. p.mu is held.
func (l *keyLimit) add(key string, s *ServerSession) (replaced *ServerSession) {
	if key == "" {
		return nil
	}
	all := l.sessions[key]
	if len(all) >= l.most {
		replaced = all[0]
		all = slices.Delete(all, 0, 1)
	}
	l.sessions[key] = append(all, s)
	l.peak = max(l.peak, len(l.sessions))
	return replaced
}

// remove takes the place of s, if it has one. p.mu is held.
func (l *keyLimit) remove(key string, s *ServerSession) {
	all := l.sessions[key]
	i := slices.Index(all, s)
	switch {
	case i < 0:
	case len(all) > 1:
		l.sessions[key] = slices.Delete(all, i, i+1)
	default:
		delete(l.sessions, key)
		if n := len(l.sessions); l.peak > 64 && n < l.peak/4 { // a map does not shrink
			sessions := make(map[string][]*ServerSession, n)
			maps.Copy(sessions, l.sessions)
			l.sessions, l.peak = sessions, n
		}
	}
}

// openRate is a bucket of n tokens, one for each opening. It fills evenly, in the time per.
// Plugin.mu guards full.
type openRate struct {
	n    int
	per  time.Duration
	full time.Duration // since epoch: when it is full again
}

// take takes a token. It returns an error if there is none.
func (b *openRate) take() error {
	now, each := sinceEpoch(), max(1, b.per/time.Duration(b.n))
	full := max(b.full, now) + each
	if wait := full - now - b.per; wait > 0 {
		return &LimitError{Limit: "WithOpenRate", Max: b.n, Per: b.per, wait: wait}
	}
	b.full = full
	return nil
}

// admit adds s to the plugin's sessions, and returns those that it replaces. If it refuses s, it
// returns ErrShutdown or a *LimitError. keys are those of the request; see keysOf.
func (p *Plugin) admit(s *ServerSession, keys []string) (replaced []*ServerSession, err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	rt := s.route
	switch {
	case p.isDraining():
		return nil, ErrShutdown
	case len(p.sessions) >= p.cfg.MaxSessions:
		return nil, &LimitError{Limit: "Config.MaxSessions", Max: p.cfg.MaxSessions}
	case rt.limit > 0 && rt.live >= rt.limit:
		return nil, &LimitError{Limit: "WithSessionLimit", Max: rt.limit}
	}
	for i, l := range rt.keyLimits {
		if err := l.admits(keys[i]); err != nil {
			return nil, err
		}
	}
	if rt.rate != nil {
		if err := rt.rate.take(); err != nil {
			return nil, err
		}
	}
	rt.live++
	p.sessions[s] = struct{}{}
	for i, l := range rt.keyLimits {
		if old := l.add(keys[i], s); old != nil {
			replaced = append(replaced, old)
		}
	}
	if keys != nil {
		s.extra = &extra{keys: keys}
	}
	p.limitLife(s)
	return replaced, nil
}

// dismiss removes s.
func (p *Plugin) dismiss(s *ServerSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.route.live--
	delete(p.sessions, s)
	p.expiries.Remove(s)
	if x := s.extra; x != nil {
		x.forget()
		for i, key := range x.keys {
			s.route.keyLimits[i].remove(key, s)
		}
	}
	if len(p.sessions) == 0 && p.isDraining() {
		close(p.drained)
	}
}

// limitOf returns err as a *LimitError, or nil.
func limitOf(err error) *LimitError {
	limit, _ := errors.AsType[*LimitError](err)
	return limit
}
