package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"time"

	_ "modernc.org/sqlite" // the driver "sqlite", without cgo
)

// schema makes the table. AUTOINCREMENT keeps an id from being used twice, even if its job is
// deleted: the topic of that job is finished.
const schema = `
CREATE TABLE IF NOT EXISTS jobs (
	id     INTEGER PRIMARY KEY AUTOINCREMENT,
	name   TEXT NOT NULL,
	rows   INTEGER NOT NULL,
	done   INTEGER NOT NULL DEFAULT 0,         -- rows that are exported
	state  TEXT NOT NULL DEFAULT 'running',
	result TEXT NOT NULL DEFAULT '',
	ended  INTEGER NOT NULL DEFAULT 0,         -- when, in milliseconds since 1970
	last   TEXT NOT NULL DEFAULT ''            -- the id of its last event, once it is published
);
`

// The states of a job.
const (
	running = "running"
	done    = "done"
	failed  = "failed"
)

// job is a row of the table, and the data of the event "job".
type job struct {
	ID     int64  `json:"id"`
	Name   string `json:"name"`
	Rows   int    `json:"rows"`
	Done   int    `json:"done"`
	State  string `json:"state"`
	Result string `json:"result,omitempty"`

	ended int64
	last  string
}

func (j *job) end(state, result string) {
	j.State, j.Result, j.ended = state, result, time.Now().UnixMilli()
}

// old reports whether the hub may have forgotten that j has ended.
func (j *job) old() bool {
	return j.last != "" && time.Since(time.UnixMilli(j.ended)) > oldAfter
}

// settings are those of each connection; see the guide to an outbox.
const settings = "?_pragma=busy_timeout(5000)&_pragma=journal_mode(WAL)&_pragma=synchronous(NORMAL)&_txlock=immediate"

// store keeps the jobs in a SQLite file.
type store struct{ db *sql.DB }

// openStore opens the file, and makes it if it does not exist.
func openStore(ctx context.Context, file string) (*store, error) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		return nil, err
	}
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

func (s *store) add(ctx context.Context, name string, rows int) (job, error) {
	result, err := s.db.ExecContext(ctx, `INSERT INTO jobs (name, rows) VALUES (?, ?)`, name, rows)
	if err != nil {
		return job{}, err
	}
	id, err := result.LastInsertId()
	return job{ID: id, Name: name, Rows: rows, State: running}, err
}

func (s *store) save(ctx context.Context, j job) error {
	_, err := s.db.ExecContext(ctx, `UPDATE jobs SET done = ?, state = ?, result = ?, ended = ? WHERE id = ?`,
		j.Done, j.State, j.Result, j.ended, j.ID)
	return err
}

func (s *store) setLast(ctx context.Context, id int64, last string) error {
	_, err := s.db.ExecContext(ctx, `UPDATE jobs SET last = ? WHERE id = ?`, last, id)
	return err
}

// newest returns the newest jobs, the newest first.
func (s *store) newest(ctx context.Context) ([]job, error) {
	return s.query(ctx, `ORDER BY id DESC LIMIT 100`)
}

// unfinished returns the jobs whose last event may not have been published.
func (s *store) unfinished(ctx context.Context) ([]job, error) {
	return s.query(ctx, `WHERE last = '' ORDER BY id`)
}

// find returns the jobs with these ids. The one that ended last is the last.
func (s *store) find(ctx context.Context, ids []any) ([]job, error) {
	return s.query(ctx, `WHERE id IN (`+strings.TrimPrefix(strings.Repeat(", ?", len(ids)), ", ")+`) ORDER BY ended, id`, ids...)
}

func (s *store) query(ctx context.Context, where string, args ...any) ([]job, error) {
	rows, err := s.db.QueryContext(ctx, `SELECT id, name, rows, done, state, result, ended, last FROM jobs `+where, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	jobs := []job{} // as JSON, it is not null
	for rows.Next() {
		var j job
		if err := rows.Scan(&j.ID, &j.Name, &j.Rows, &j.Done, &j.State, &j.Result, &j.ended, &j.last); err != nil {
			return nil, err
		}
		jobs = append(jobs, j)
	}
	return jobs, rows.Err()
}
