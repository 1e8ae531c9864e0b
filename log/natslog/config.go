package natslog

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/nats-io/nats.go/jetstream"
)

// What a stream gets that Open creates, where Config.Create is zero.
const (
	DefaultMaxBytes = 1 << 30
	DefaultMaxAge   = 7 * 24 * time.Hour
)

// Config configures a [Log]. Stream must be set.
type Config struct {
	// Stream is the name of the stream.
	Stream string

	// Subject is what the subjects of the stream begin with. The subject of a topic is
	// Subject, a dot, and the topic in an encoding without dots. Default: Stream.
	Subject string

	// Create lets Open create the stream if there is none, also when it is deleted later.
	// It has the settings of the new stream: Replicas, MaxAge, MaxBytes, Placement and so
	// on. Open sets those that a Log needs. Where they are zero, MaxBytes is
	// DefaultMaxBytes, MaxAge is DefaultMaxAge, and Replicas is one; negative values of
	// MaxBytes and MaxAge mean no bound. A stream that exists stays as it is, but it must
	// have as many replicas. Default: nil, and the stream must exist.
	Create *jetstream.StreamConfig

	// ReadOnly makes Append fail with an error that matches [hub.ErrReadOnly]. Open does
	// not create a stream then.
	ReadOnly bool

	// Logger logs a new epoch with its reason, and a stream that was created. Default:
	// slog.Default().
	Logger *slog.Logger
}

// withDefaults returns c with its defaults, or an error if it is invalid.
func (c Config) withDefaults() (Config, error) {
	if c.Subject == "" {
		c.Subject = c.Stream
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.Stream == "" || strings.ContainsFunc(c.Stream, func(r rune) bool { return r <= ' ' || r == 127 || strings.ContainsRune(`.*>/\`, r) }) {
		return c, fmt.Errorf("Config.Stream is %q; it must be a name without spaces and without any of .*>/\\", c.Stream)
	}
	for token := range strings.SplitSeq(c.Subject, ".") {
		if token == "" || strings.ContainsFunc(token, func(r rune) bool { return r <= ' ' || r == 127 || r == '*' || r == '>' }) {
			return c, fmt.Errorf("Config.Subject is %q; it must be a subject without wildcards and spaces", c.Subject)
		}
	}
	if strings.HasPrefix(c.Subject, "$") || len(c.Subject) > maxSubject/4 {
		return c, fmt.Errorf("Config.Subject is %q; it must not begin with a dollar sign, and have at most %d bytes", c.Subject, maxSubject/4)
	}
	if c.Create != nil {
		made := *c.Create
		if made.Name != "" && made.Name != c.Stream {
			return c, fmt.Errorf("Config.Create.Name is %q; it must be empty, or the same as Config.Stream", made.Name)
		}
		if len(made.Subjects) > 0 {
			return c, errors.New("Config.Create.Subjects must be empty: Config.Subject says what they are")
		}
		made.Name, made.Subjects = c.Stream, []string{c.Subject + ".*"}
		made.AllowDirect, made.AllowAtomicPublish = true, true
		made.Replicas = max(made.Replicas, 1)
		if made.MaxBytes == 0 {
			made.MaxBytes = DefaultMaxBytes
		}
		if made.MaxAge == 0 {
			made.MaxAge = DefaultMaxAge
		}
		made.MaxAge = max(made.MaxAge, 0) // which has no bound
		if err := errors.Join(c.misfits(&made)...); err != nil {
			return c, fmt.Errorf("Config.Create: %w", err)
		}
		c.Create = &made
	}
	return c, nil
}

// minDuplicates is the shortest duplicate window that a stream may have. A publisher that did
// not get an answer within hub.Config.PublishTimeout publishes again with the same key.
const minDuplicates = 10 * time.Second

// misfits returns a SettingError for each setting of a stream with which it cannot be a Log.
func (c *Config) misfits(s *jetstream.StreamConfig) (errs []error) {
	check := func(ok bool, setting string, value any, want string) {
		if !ok {
			errs = append(errs, &SettingError{Stream: c.Stream, Setting: setting, Value: fmt.Sprint(value), Want: want})
		}
	}
	subjects := c.Subject + ".*"
	check(len(s.Subjects) == 1 && s.Subjects[0] == subjects, "subjects", s.Subjects, "be ["+subjects+"] and no more, as Config.Subject says")
	check(s.Storage == jetstream.FileStorage, "storage", s.Storage, "be File: memory loses acknowledged events when its servers restart")
	check(s.Retention == jetstream.LimitsPolicy, "retention", s.Retention, "be Limits: the other policies delete events that clients still need")
	check(s.Discard == jetstream.DiscardOld || s.Sealed, "discard", s.Discard, "be DiscardOld, so that a full stream still takes events")
	check(!s.NoAck, "no_ack", s.NoAck, "be false: publishers wait for the acknowledgement")
	check(!s.Sealed || c.ReadOnly, "sealed", s.Sealed, "be false, or Config.ReadOnly true")
	check(s.PersistMode == jetstream.DefaultPersistMode, "persist_mode", s.PersistMode, "be default: an acknowledged event must be in the file")
	check(s.Mirror == nil, "mirror", "set", "not be set: a mirror takes no events, and can lag")
	check(len(s.Sources) == 0, "sources", "set", "not be set: all events must come from hubs")
	check(s.SubjectTransform == nil, "subject_transform", "set", "not be set: a topic is read by its subject")
	check(s.MaxMsgsPerSubject <= 0, "max_msgs_per_subject", s.MaxMsgsPerSubject, "be -1: it makes holes in the middle of the stream; use max_msgs, max_bytes or max_age")
	check(!s.AllowRollup, "allow_rollup_hdrs", s.AllowRollup, "be false: a rollup makes holes in the stream")
	check(!s.AllowMsgTTL, "allow_msg_ttl", s.AllowMsgTTL, "be false: messages that expire on their own make holes in the stream")
	check(s.SubjectDeleteMarkerTTL == 0, "subject_delete_marker_ttl", s.SubjectDeleteMarkerTTL, "be 0: a marker is not an event")
	check(!s.AllowMsgCounter, "allow_msg_counter", s.AllowMsgCounter, "be false: a counter is not an event")
	check(!s.AllowMsgSchedules, "allow_msg_schedules", s.AllowMsgSchedules, "be false: a schedule is not an event")
	check(s.AllowDirect, "allow_direct", s.AllowDirect, "be true: old events are read with it")
	check(s.AllowAtomicPublish || c.ReadOnly, "allow_atomic", s.AllowAtomicPublish, "be true, which needs a server of version 2.12 or later: batches are published with it")
	check(s.Duplicates >= minDuplicates || s.Duplicates == 0, "duplicate_window", s.Duplicates, fmt.Sprintf("be at least %v, so that an event that is published again with its key is recognized", minDuplicates))
	if c.Create != nil {
		check(s.Replicas >= c.Create.Replicas, "num_replicas", s.Replicas, fmt.Sprintf("be at least %d, as Config.Create says", c.Create.Replicas))
	}
	return errs
}
