package pglog

import (
	"cmp"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// DefaultMaxAge is the default of Config.MaxAge.
const DefaultMaxAge = 7 * 24 * time.Hour

// Config configures a [Log]. The zero Config is valid.
type Config struct {
	// Schema is the schema with the tables of the log. Default: DefaultSchema.
	Schema Schema

	// MaxAge is how old the records get. Older ones are deleted, a few at a time, while a hub
	// runs. If hubs of a log have different values, the lowest applies. A negative value means
	// no bound. Default: DefaultMaxAge.
	MaxAge time.Duration

	// MaxRecords is how many records are kept. Older ones are deleted as those that are too
	// old. Default: 0, which means no bound.
	MaxRecords int64

	// ReadOnly makes Append and Snapshot fail with an error that matches [hub.ErrReadOnly].
	// The Log then needs no right but to read two tables, and another Log must number what is
	// published and delete what is old. The server may be a standby.
	ReadOnly bool

	// Listen is how to connect for notifications if the connections of the pool go through a
	// pooler in transaction mode, such as PgBouncer: directly. Without it, the Log then looks
	// for new records every 20 ms. Default: as the pool does.
	Listen *pgx.ConnConfig

	// Logger logs what goes wrong beside the calls, and what slows the Log down. Default:
	// slog.Default().
	Logger *slog.Logger
}

// withDefaults returns c with its defaults, or an error if it is invalid.
func (c Config) withDefaults() (Config, error) {
	c.Schema = cmp.Or(c.Schema, DefaultSchema)
	c.MaxAge = cmp.Or(c.MaxAge, DefaultMaxAge)
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.MaxRecords < 0 {
		return c, fmt.Errorf("Config.MaxRecords is %d; it must not be negative", c.MaxRecords)
	}
	return c, c.Schema.check()
}

// maxSchema is how many bytes the name of a schema may have.
const maxSchema = 63

// check returns an error if s cannot be the name of a schema.
func (s Schema) check() error {
	if s == "" || len(s) > maxSchema || strings.ContainsAny(string(s), "\x00\"'$") {
		return fmt.Errorf("the schema is %q; it must be a name of 1 to %d bytes without quotes and dollar signs", string(s), maxSchema)
	}
	return nil
}
