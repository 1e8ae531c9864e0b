package pglog

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"
)

// pingListen is how often the connection for notifications is checked.
const pingListen = 5 * time.Second

// listen wakes the follow when a notification comes, as long as ctx is not done. While it has no
// connection, the follow polls.
func (f *follow) listen(ctx context.Context) {
	for wait := minWait; ; wait = min(2*wait, time.Second) {
		began := time.Now()
		err := f.listenOnce(ctx)
		if time.Since(began) > time.Second {
			wait = minWait
		}
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return
		}
		f.l.cfg.Logger.Debug("pglog: the connection for notifications was lost", "error", err)
	}
}

// listenOnce connects, and wakes the follow at each notification.
func (f *follow) listenOnce(ctx context.Context) error {
	connecting, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	conn, err := pgx.ConnectConfig(connecting, f.l.listen)
	if err != nil {
		return err
	}
	defer func() {
		closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
		defer cancel()
		_ = conn.Close(closing)
	}()
	if _, err := conn.Exec(connecting, "LISTEN "+pgx.Identifier{string(f.l.cfg.Schema)}.Sanitize()); err != nil {
		return err // a standby does not notify
	}
	f.wake("")
	f.wake("all")
	for {
		waiting, cancel := context.WithTimeout(ctx, pingListen)
		n, err := conn.WaitForNotification(waiting)
		cancel()
		switch {
		case err == nil:
			f.wake(n.Payload)
		case ctx.Err() != nil:
			return ctx.Err()
		case waiting.Err() == nil:
			return err
		default:
			pinging, cancel := context.WithTimeout(ctx, pingListen)
			err := conn.Ping(pinging)
			cancel()
			if err != nil {
				return err
			}
		}
	}
}

// wake wakes what a notification is for: the number of the last record, or "" if something was
// published.
func (f *follow) wake(payload string) {
	channel := f.numbered
	if payload == "" {
		channel = f.published
	}
	select {
	case channel <- struct{}{}:
	default:
	}
}
