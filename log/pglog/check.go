package pglog

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgxpool"
)

// columns are the columns that this version of the package reads.
var columns = map[string][]string{
	"state": {"n", "epoch", "first", "last"},
	"log":   {"number", "at", "topic", "key", "record"},
}

// functions are the functions that a Log calls that is not read-only.
var functions = []string{
	"number(integer)", "append(bytea[],bytea[],bytea[],integer)", "retain(interval,bigint,integer)",
	"hold()", "number_seen(text,integer)", "renew(bigint)",
}

// minServer is the lowest version of the server.
const minServer = 140000

// examine checks that the database has what a Log needs. It reports whether the connections go
// through a pooler.
func (l *Log) examine(ctx context.Context, pool *pgxpool.Pool) (pooled bool, err error) {
	err = pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		var pid uint32
		var server int
		var isolation string
		if err := c.QueryRow(ctx, "SELECT pg_backend_pid(), current_setting('server_version_num')::int, current_setting('transaction_isolation')").Scan(&pid, &server, &isolation); err != nil {
			return err
		}
		pooled = pid != c.Conn().PgConn().PID() // a pooler gives each client a number of its own
		if server < minServer {
			return l.missing("the server has the version %d", "use Postgres %d or later", server/10000, minServer/10000)
		}
		if isolation != "read committed" && !l.cfg.ReadOnly {
			return l.missing("the user's default_transaction_isolation is %q", "set it to %q", isolation, "read committed")
		}
		return l.examineTables(ctx, c)
	})
	return pooled, err
}

// missing returns a MissingError. Both formats get the arguments in turn.
func (l *Log) missing(is, want string, args ...any) error {
	n := strings.Count(is, "%")
	return &MissingError{l.cfg.Schema, fmt.Sprintf(is, args[:n]...), fmt.Sprintf(want, args[n:]...)}
}

// examineTables checks the schema.
func (l *Log) examineTables(ctx context.Context, db queryer) error {
	s := l.cfg.Schema
	var exists, usage, versions bool
	err := db.QueryRow(ctx, `SELECT n.oid IS NOT NULL, coalesce(has_schema_privilege(n.oid, 'USAGE'), false), coalesce(has_table_privilege(c.oid, 'SELECT'), false)
		FROM (SELECT) x LEFT JOIN pg_namespace n ON n.nspname = $1 LEFT JOIN pg_class c ON c.relnamespace = n.oid AND c.relname = 'version'`, string(s)).Scan(&exists, &usage, &versions)
	switch {
	case err != nil:
		return err
	case !exists:
		return l.missing("there is no such schema", "call Migrate, or apply the files of the folder schema")
	case !usage:
		return l.missing("the user has no right to it", "GRANT USAGE ON SCHEMA %s", s)
	case !versions:
		return l.missing("the user cannot read the table version", "call Migrate if there is none, or GRANT SELECT ON %s", s.table("version"))
	}
	has, err := s.version(ctx, db)
	if err != nil {
		return err
	}
	if has < version {
		return l.missing("the tables have the version %d", "call Migrate, or apply the files of the folder schema up to version %d", has, version)
	}
	var errs []error
	for table, names := range columns {
		for _, name := range names {
			var privilege *bool
			err := db.QueryRow(ctx, `SELECT has_column_privilege(a.attrelid, a.attnum, 'SELECT') FROM (SELECT) x LEFT JOIN pg_attribute a ON
				a.attrelid = to_regclass($1) AND a.attname = $2 AND NOT a.attisdropped`, s.table(table), name).Scan(&privilege)
			switch {
			case err != nil:
				return err
			case privilege == nil:
				errs = append(errs, l.missing("there is no column %s.%s", "do not change the tables; apply the files of the folder schema to another schema", table, name))
			case !*privilege:
				errs = append(errs, l.missing("the user cannot read %s.%s", "GRANT SELECT ON %s", table, name, s.table(table)))
			}
		}
	}
	if l.cfg.ReadOnly {
		return joined(errs)
	}
	for _, f := range functions {
		var privilege *bool
		name, args, _ := strings.Cut(f, "(")
		if err := db.QueryRow(ctx, "SELECT has_function_privilege(to_regprocedure($1), 'EXECUTE')", s.table(name)+"("+args).Scan(&privilege); err != nil {
			return err
		}
		switch {
		case privilege == nil:
			errs = append(errs, l.missing("there is no function %s", "do not change it; apply the files of the folder schema to another schema", f))
		case !*privilege:
			errs = append(errs, l.missing("the user may not call the function %s", "GRANT EXECUTE ON FUNCTION %s, or set Config.ReadOnly", name, s.table(name)))
		}
	}
	return joined(errs)
}

// joined returns errs, sorted.
func joined(errs []error) error {
	slices.SortFunc(errs, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(errs...)
}
