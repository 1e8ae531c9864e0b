package pglog

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Schema is the name of a schema with the tables of a log.
type Schema string

// DefaultSchema is the schema of the files in the folder schema.
const DefaultSchema Schema = "sse"

//go:embed schema/*.sql
var files embed.FS

// migration is a file of the folder schema.
type migration struct {
	version int
	name    string
	sql     string
}

// migrations are all migrations, in their order.
var migrations = func() []migration {
	names, err := fs.Glob(files, "schema/*.sql") // sorted
	if err != nil {
		panic(err)
	}
	all := make([]migration, len(names))
	for i, name := range names {
		text, err := fs.ReadFile(files, name)
		if err != nil {
			panic(err)
		}
		name = strings.TrimPrefix(name, "schema/")
		version, err := strconv.Atoi(name[:3])
		if err != nil {
			panic(err)
		}
		all[i] = migration{version, name, string(text)}
	}
	return all
}()

// version is the version of the tables that this package needs.
var version = migrations[len(migrations)-1].version

// Migrate creates the tables of a log in the schema, or changes them to what this version of the
// package needs. If that is so already, it changes nothing. db is a *pgxpool.Pool, a *pgx.Conn or
// a transaction. All happens in one transaction, and programs that call Migrate at the same time
// wait for each other.
//
// The user needs the right to create a schema, or to create tables in this one if it exists. It
// owns the tables, and the functions run with its rights. Programs of the version before can go on
// meanwhile.
//
// The folder schema of this package has the same as plain files, for other tools.
func (s Schema) Migrate(ctx context.Context, db interface {
	Begin(ctx context.Context) (pgx.Tx, error)
},
) error {
	if err := s.check(); err != nil {
		return fmt.Errorf("pglog: migrate: %w", err)
	}
	err := pgx.BeginFunc(ctx, db, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", "pglog "+string(s)); err != nil {
			return err
		}
		has, err := s.version(ctx, tx)
		if err != nil {
			return err
		}
		for _, m := range migrations {
			if m.version > has {
				if _, err := tx.Exec(ctx, s.in(m.sql)); err != nil {
					return fmt.Errorf("%s: %w", m.name, err)
				}
			}
		}
		_, err = tx.Exec(ctx, "RESET search_path")
		return err
	})
	if err != nil {
		return fmt.Errorf("pglog: migrate: %w", err)
	}
	return nil
}

// in returns the text of a migration for the schema.
func (s Schema) in(sql string) string {
	name := pgx.Identifier{string(s)}.Sanitize()
	sql = strings.Replace(sql, "CREATE SCHEMA IF NOT EXISTS sse;", "CREATE SCHEMA IF NOT EXISTS "+name+";", 1)
	return strings.ReplaceAll(sql, "SET LOCAL search_path TO sse,", "SET LOCAL search_path TO "+name+",")
}

// table returns the quoted name of what is in the schema.
func (s Schema) table(name string) string { return pgx.Identifier{string(s), name}.Sanitize() }

// queryer is what can ask for a row: a connection, a pool, or a transaction.
type queryer interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// version returns the version of the tables, or 0 if there are none.
func (s Schema) version(ctx context.Context, db queryer) (version int, err error) {
	var exists bool
	if err := db.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", s.table("version")).Scan(&exists); err != nil || !exists {
		return 0, err
	}
	err = db.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM "+s.table("version")).Scan(&version)
	return version, err
}
