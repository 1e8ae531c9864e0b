package main

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo
)

// schema makes the tables. A login is a browser in which a user has logged in. Its cookie has a
// random token, and the table only the token's hash, so that a stolen table opens no streams.
const schema = `
CREATE TABLE IF NOT EXISTS users (
	id      INTEGER PRIMARY KEY,
	name    TEXT NOT NULL UNIQUE,
	blocked INTEGER NOT NULL DEFAULT 0
);
CREATE TABLE IF NOT EXISTS logins (
	id      INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice
	user    INTEGER NOT NULL REFERENCES users,
	token   BLOB NOT NULL UNIQUE,
	expires INTEGER NOT NULL                   -- in milliseconds since 1970
);
`

// settings are those of each connection; see the guide to an outbox.
const settings = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"

// login is a login that is valid, and its user.
type login struct {
	ID, User int64
	Name     string
	Expires  time.Time
}

// topic is followed by the streams of this login, and userTopic by all streams of its user.
func (l login) topic() string     { return fmt.Sprint("login/", l.ID) }
func (l login) userTopic() string { return fmt.Sprint("user/", l.User) }

// errNoLogin means that a token is not, or no longer, one of a login.
var errNoLogin = errors.New("log in first")

// store keeps users and logins in a SQLite file.
type store struct{ db *sql.DB }

// openStore opens the file, and makes it if it does not exist.
func openStore(ctx context.Context, file string) (*store, error) {
	db, err := sql.Open("sqlite", "file:"+url.PathEscape(file)+settings)
	if err != nil {
		return nil, err
	}
	if _, err := db.ExecContext(ctx, schema); err != nil {
		return nil, errors.Join(fmt.Errorf("open %s: %w", file, err), db.Close())
	}
	return &store{db}, nil
}

func (s *store) close() error { return s.db.Close() }

// add adds a login of the user, who is made if there is none of that name. It returns the token.
func (s *store) add(ctx context.Context, name string, lifetime time.Duration) (token string, err error) {
	tx, err := s.db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }()
	token, now := rand.Text(), time.Now()
	for _, statement := range []struct {
		text string
		args []any
	}{
		{`DELETE FROM logins WHERE expires <= ?`, []any{now.UnixMilli()}},
		{`INSERT OR IGNORE INTO users (name) VALUES (?)`, []any{name}},
		{`INSERT INTO logins (user, token, expires) SELECT id, ?, ? FROM users WHERE name = ?`, []any{hash(token), now.Add(lifetime).UnixMilli(), name}},
	} {
		if _, err := tx.ExecContext(ctx, statement.text, statement.args...); err != nil {
			return "", err
		}
	}
	return token, tx.Commit()
}

// find returns the login with this token, or errNoLogin if it is not valid any longer.
func (s *store) find(ctx context.Context, token string) (l login, err error) {
	var expires int64
	err = s.db.QueryRowContext(ctx, `SELECT logins.id, users.id, name, expires FROM logins JOIN users ON users.id = user
		WHERE token = ? AND expires > ? AND NOT blocked`, hash(token), time.Now().UnixMilli()).Scan(&l.ID, &l.User, &l.Name, &expires)
	if errors.Is(err, sql.ErrNoRows) {
		err = errNoLogin
	}
	l.Expires = time.UnixMilli(expires)
	return l, err
}

func (s *store) renew(ctx context.Context, id int64, expires time.Time) error {
	_, err := s.db.ExecContext(ctx, `UPDATE logins SET expires = ? WHERE id = ?`, expires.UnixMilli(), id)
	return err
}

// remove removes a login.
func (s *store) remove(ctx context.Context, id int64) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM logins WHERE id = ?`, id)
	return err
}

// removeAll removes all logins of a user.
func (s *store) removeAll(ctx context.Context, user int64) error {
	_, err := s.db.ExecContext(ctx, `DELETE FROM logins WHERE user = ?`, user)
	return err
}

func hash(token string) []byte {
	sum := sha256.Sum256([]byte(token))
	return sum[:]
}
