package hub

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/chi-sse/sse/event"
)

// Log is where the events of a hub live when they must outlive the process, or be shared by
// many. [Open] makes a hub of a Log. All hubs of one Log are one hub to their clients.
//
// A Log gives each record an offset. Offsets rise, perhaps with holes, and an offset is used
// once in an epoch. Where a Log cannot know that, because it was made anew, restored from a
// backup, or has lost what it had acknowledged, it must change the epoch. Package logtest
// checks all that is said here.
//
// All methods are safe for concurrent use. They return when ctx is done, with an error that
// matches its error.
type Log interface {
	// Bounds returns the epoch, and the offsets of the first and last records.
	Bounds(ctx context.Context) (Bounds, error)

	// Append appends records, all or none, in their order and without others between them,
	// and returns their positions. The records are durable when it returns nil. It sets
	// their Time, and ignores their Offset. If a record has a Key that an earlier record of
	// its topic has, within the time or number for which the Log remembers keys, the record
	// is not appended again, and its position is that of the earlier one.
	//
	// The error matches [ErrUnknown] if the records may have been appended, and
	// [ErrReadOnly] if the Log takes none. After any other error they have not been.
	Append(ctx context.Context, records []Record) ([]Position, error)

	// Follow calls apply with all records after the position, of all topics, in their
	// order, each as soon as it is durable. It also calls apply, with an empty Batch, each
	// time when it has found that there are no newer ones: at the beginning, and after
	// trouble. It returns the error of apply or ctx; an error that matches [ErrEpoch] if
	// the epoch is another than that of after, also if it changes later; a
	// [*TruncatedError] if the Log no longer has every record after the position; and
	// otherwise the error that keeps it from going on. The hub then calls it again from
	// where it ended. A record that was applied may come again.
	Follow(ctx context.Context, after Position, apply func(Batch) error) error

	// Read returns the records of the topics after the position, up to and including upTo,
	// in their order, but no more than about limit. UpTo of the Batch says how far it is
	// complete. Without topics, it returns those of all. An InvalidRecord without a Topic is
	// returned whatever topics were asked for. A Log that knows its topic sets it, and returns
	// the record to the readers of that topic. The errors are those of Follow.
	Read(ctx context.Context, topics []string, after, upTo Position, limit int) (Batch, error)
}

// Finder is implemented by a Log that can find the ids that the application has given
// (Config.OwnIDs), also of events that a hub no longer has in memory.
type Finder interface {
	// Find returns the position of the event of topic with the id, and whether there is one.
	Find(ctx context.Context, topic, id string) (Position, bool, error)
}

// Bounds describes the records of a [Log].
type Bounds struct {
	Epoch uint64 // not 0
	First uint64 // offset of the first record that the Log has, or Last+1 if it has none
	Last  uint64 // offset of the last record so far, or 0 if there was none
}

// Batch is a stretch of a [Log].
type Batch struct {
	Records []Record
	UpTo    uint64 // the Batch has every record up to this offset, after that of the Batch before
	Hole    bool   // some records up to UpTo could not be had
}

// Record is an entry in a [Log].
type Record struct {
	Kind   RecordKind
	Topic  string
	Offset uint64
	Time   time.Time // when it was appended, by the Log's clock
	Key    string    // the same key in the same topic is the same event; "" for none
	Event  event.Event
}

// RecordKind says what a [Record] is.
type RecordKind uint8

const (
	// EventRecord is an event that was published.
	EventRecord RecordKind = iota

	// ControlRecord is an order to all hubs of the Log, such as a kick. Only hubs make
	// them. Event.Name is the order.
	ControlRecord

	// InvalidRecord is a record that the Log could not decode. Clients of its topic, or of
	// all if Topic is empty, are told of a gap.
	InvalidRecord
)

var (
	// ErrUnknown is matched by the error of a publication if the event may have been
	// published. Publishing it again may publish it twice, unless it has a key.
	ErrUnknown = errors.New("hub: it is not known whether the log has it")

	// ErrReadOnly is matched by the error of a publication if the Log takes no records
	// from hubs.
	ErrReadOnly = errors.New("hub: the log is read-only")

	// ErrEpoch is matched by an error of a Log if a position has another epoch than the
	// Log.
	ErrEpoch = errors.New("hub: the log has another epoch")
)

// TruncatedError reports that a Log no longer has every record after a position.
type TruncatedError struct {
	First uint64 // offset of the first record that it has, or just after the last one
}

func (e *TruncatedError) Error() string {
	return fmt.Sprintf("the log no longer has the records before offset %d", e.First)
}

// recordVersion is the version of the form in which records are stored. A hub that meets a
// higher one cannot decode the record.
const recordVersion = 1

// AppendBinary appends r without its Offset to dst, in a form that [Record.UnmarshalBinary]
// decodes. Logs that store bytes use it, so that several versions of a program can share one
// Log: the form begins with its version. Its error is always nil. It implements
// [encoding.BinaryAppender].
func (r Record) AppendBinary(dst []byte) ([]byte, error) {
	dst = append(dst, recordVersion, byte(r.Kind))
	dst = binary.AppendVarint(dst, r.Time.UnixNano())
	dst = binary.AppendVarint(dst, int64(r.Event.Retry))
	for _, text := range [...]string{r.Topic, r.Key, r.Event.ID, r.Event.Name, r.Event.Comment, r.Event.Data} {
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	return dst, nil
}

// FormatError reports bytes that are not a Record in a form that this version of the package
// knows.
type FormatError struct {
	Version int // the version of the form; the package knows version 1
}

func (e *FormatError) Error() string {
	if e.Version > recordVersion {
		return fmt.Sprintf("hub: a record has the form of version %d; this program knows version %d", e.Version, recordVersion)
	}
	return "hub: a record is damaged"
}

// UnmarshalBinary sets r to the Record that AppendBinary has written. The Offset stays as it
// is. The error is a [*FormatError], and r is then an InvalidRecord, with the Topic if that is
// known. It implements [encoding.BinaryUnmarshaler].
func (r *Record) UnmarshalBinary(data []byte) error {
	*r = Record{Kind: InvalidRecord, Offset: r.Offset}
	if len(data) < 2 {
		return &FormatError{}
	}
	if version := int(data[0]); version != recordVersion {
		return &FormatError{version}
	}
	kind := RecordKind(data[1])
	text := string(data[2:]) // one allocation for all fields
	nanos, n := binary.Varint(data[2:])
	retry, k := binary.Varint(data[2+max(n, 0):])
	if n <= 0 || k <= 0 {
		return &FormatError{recordVersion}
	}
	at := n + k
	var fields [6]string
	for i := range fields {
		size, n := binary.Uvarint(data[2+at:])
		if n <= 0 || size > uint64(len(text)-at-n) {
			return &FormatError{recordVersion}
		}
		at += n
		fields[i] = text[at:][:size]
		at += int(size)
		r.Topic = fields[0]
	}
	if at != len(text) || kind >= InvalidRecord {
		return &FormatError{recordVersion}
	}
	r.Kind, r.Time, r.Key = kind, time.Unix(0, nanos), fields[1]
	r.Event = event.Event{ID: fields[2], Name: fields[3], Comment: fields[4], Data: fields[5], Retry: time.Duration(retry)}
	return nil
}
