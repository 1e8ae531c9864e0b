// Session.Reconnect: a reconnection that the caller asks for, from any goroutine. The
// goroutine that reads carries it out.

package client

// Reconnect makes the session give up its connection, or its wait for one, and connect
// again at once, for example after the network has changed. The session keeps its last
// event id, its reconnection time and its count of attempts. The reconnection counts
// neither as an attempt nor as a failure, so Reconnect causes no call of OnFailure or
// OnRetry. From then on, no request of the session uses a connection that another request
// has used, because net/http may still take a dead one for alive.
//
// Reconnect does not wait for the new connection. Events that have arrived already are
// handed out first. If the request is one that only [ResendUntilEvent] allows to repeat,
// and none of its events has been handed out, those that have arrived are dropped, because
// the server will send them again.
//
// Reconnect returns [ErrClosed] if the session has ended, and a [*ConfigError] if it is a
// session of [Read] or [ReadResponse], or if Config.Resend does not allow another request.
// It does nothing then.
func (s *Session) Reconnect() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.err != nil || s.ctx.Err() != nil:
		return ErrClosed
	case s.http == nil:
		return &ConfigError{"Reconnect", "needs a session of Client.SSE, Client.Session or Client.Do"}
	case !s.mayResend():
		return &ConfigError{"Reconnect", "must be allowed to send the request again; see Config.Resend"}
	}
	s.reconnect = true
	select {
	case s.wake <- struct{}{}:
	default:
	}
	for _, c := range []*conn{s.conn, s.opening} {
		if c != nil {
			c.cancel(errReconnect)
		}
	}
	if s.conn != nil {
		s.conn.close()
	}
	return nil
}

// takeReconnect reports whether Reconnect was called since the last time. A later wait
// does not end because of that call.
func (s *Session) takeReconnect() bool {
	s.mu.Lock()
	was := s.clearReconnect()
	s.mu.Unlock()
	if was {
		s.avoidUsedConnections() // the dead one may still be open
	}
	return was
}

// clearReconnect reports whether Reconnect was called since the last time. s.mu must be
// held.
func (s *Session) clearReconnect() bool {
	was := s.reconnect
	s.reconnect = false
	select {
	case <-s.wake:
	default:
	}
	return was
}

// setOpening makes c the connection that is being opened, or says that there is none if c
// is nil. An earlier call of Reconnect has its effect with c.
func (s *Session) setOpening(c *conn) {
	s.mu.Lock()
	s.opening = c
	was := c != nil && s.clearReconnect()
	s.mu.Unlock()
	if was {
		s.avoidUsedConnections()
	}
}

// takeFirstEvent records that an event has arrived. It returns false instead if Reconnect
// was called before and would not be allowed after the event. Then the event must not be
// handed out. After it, the request could not be sent again.
func (s *Session) takeFirstEvent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.reconnect && !s.requests.idempotent.Load() && s.call.cfg.Resend == ResendUntilEvent {
		return false
	}
	s.hadEvent.Store(true)
	return true
}
