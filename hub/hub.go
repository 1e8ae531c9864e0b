package hub

import (
	"crypto/cipher"
	"errors"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/chi-sse/sse"
)

// The defaults of a zero [Config].
const (
	DefaultLogEvents = 65_536
	DefaultLogSize   = 64 << 20
	DefaultLogAge    = time.Hour
	DefaultFinishAge = time.Hour
	DefaultMaxTopics = 65_536

	DefaultPublishTimeout = 5 * time.Second
)

// Config configures a hub. Its zero value is ready to use.
type Config struct {
	// LogEvents is the largest number of events in the log, over all topics. A client can
	// be that many events behind, or miss that many while it is away, without a gap.
	// Default: 65,536.
	LogEvents int

	// LogSize is about how much memory the log may take, in bytes. It is also the size of
	// the largest event that can be published. Default: 64 MiB.
	LogSize int64

	// LogAge is how long an event stays in the log. Default: one hour. A negative value
	// means that age does not matter.
	LogAge time.Duration

	// FinishAge is how long the hub remembers that a topic is finished (see [Hub.Finish]),
	// with its last event, which need not be in the log any longer. The hub remembers no
	// more than LogEvents of them, and LogSize bytes. Default: one hour. A negative value
	// means that age does not matter.
	FinishAge time.Duration

	// MaxTopics is the largest number of topics that one member may follow at a time. Each
	// takes about half a kilobyte if nobody else follows it. Lower it if clients choose
	// the topics. Default: 65,536.
	MaxTopics int

	// MaxReplay is how many bytes of events a client may be sent to catch up, when its
	// session opens or by [Member.SubscribeFrom]. Events that a Filter rejects count too.
	// A client that has missed more is told of a gap with the reason [GapReplay], and
	// continues with the newest events that fit, or with a Snapshot. Without a last event
	// id, Beginning and Latest send the newest events that fit, without a gap. MaxReplay
	// does not apply to SlowLatest. Default: no bound but the log's.
	MaxReplay int64

	// OwnIDs means that the application gives every event its id. [Hub.Publish] then
	// refuses an event without an ID, and the hub sends no ids of its own. It looks up a
	// client's last event id in the topics that the client follows, and finds the ids of
	// the events in the log and the last one of each topic that has left it. A client
	// without a last event id is a new one, to which Start or Snapshot applies. So clients
	// can resume after a restart, if the log is published anew with the same ids. Default:
	// the hub numbers the events, and Publish refuses an event with an ID.
	OwnIDs bool

	// Serializer turns the values of [Hub.PublishTyped] into text. If it is set, it also does so
	// for what the hub's sessions send by themselves, such as a Snapshot with SendData, unless
	// their route has sse.WithSerializer. Default: sse.JSON.
	Serializer sse.Serializer

	// IDKey encrypts the ids that the hub makes, with AES. By default an id is a [Position],
	// which tells a client how many events the hub has published, over all topics. With a key
	// of 16, 24 or 32 random bytes, it is 22 characters that tell nothing. Gaps are then told
	// without a position. All hubs of one Log need the same key, also after a restart: to a
	// hub with another key, or with none, an id is a gap. So a new key is a gap for every
	// client once. It cannot be used with OwnIDs. See [Hub.ID]. Default: nil, ids are
	// positions.
	IDKey []byte

	// NoIDOnly means that the hub sends no event that has only an ID. By default it sends
	// one to a client that has no id yet, after a Snapshot, and as the heartbeat of a quiet
	// topic. EventSource shows nothing of it, as the specification says, but
	// fetch-event-source and several clients in Go show an empty message. The price is
	// that a client has no position before its first event: if it loses the connection
	// before that, it is a new client, or is sent what it has again. On a quiet topic its
	// position gets old, and may be a gap in the end.
	NoIDOnly bool

	// Log is where the events live, if they must outlive the process or be shared by many.
	// LogEvents, LogSize and LogAge then bound what the hub holds in memory, and clients
	// that have missed more get it from the Log. See [Open]. Default: the hub's memory.
	Log Log

	// PublishTimeout limits how long a publication may wait for the Log. Default: 5
	// seconds.
	PublishTimeout time.Duration

	// OnHealth is called when the hub loses its Log, and when it has it again and has
	// caught up. It must return soon: no event is applied meanwhile.
	OnHealth func(Health)

	// Detached lets a session over HTTP/1.x continue without its goroutine once Serve has
	// opened it and sent the events that the client had missed. It then takes a fourteenth
	// of the memory, and each event takes a seventh to a quarter less work. [Hub.Serve]
	// returns nil at that time. Where the hub cannot take over the connection (over HTTP/2,
	// if a middleware's writer hides it, or if the session is open already and has told the
	// client that the connection can be used again), Serve works as without Detached.
	Detached bool

	// OnJoin is called when a member has joined a topic. By then the member is in Members,
	// unless it has been kicked meanwhile.
	// For the topics of the Subscription, OnJoin is called in their order, when the member
	// has been sent what it had missed when its session opened, and it is sent nothing new
	// until OnJoin returns. If OnJoin panics, the session ends.
	//
	// OnLeave is called once, after OnJoin, when the member has left the topic. cause is
	// nil after Unsubscribe, and otherwise the cause of the session's end, or of the kick that
	// is about to end it. Both hooks may publish, and kick.
	OnJoin  func(m *Member, topic string)
	OnLeave func(m *Member, topic string, cause error)

	// Logger logs the gaps that clients were told of, at level Info, and panics of OnLeave,
	// at level Error. Default: slog.Default().
	Logger *slog.Logger
}

// Hub distributes events to sessions. Use [New] to make one.
type Hub struct {
	cfg        Config
	idKey      cipher.Block // of Config.IDKey, or nil
	spans      spans
	shards     []*shard      // one for each processor
	next       atomic.Uint32 // counts new members, to spread them over the shards
	head       atomic.Uint64 // offset up to which entries may be read
	closed     atomic.Bool   // Shutdown has been called
	lastFinish atomic.Uint64 // offset of the newest event that has finished a topic; 0 if there was none
	stats      counters
	follower   *follower // of Config.Log, or nil

	mu           sync.Mutex // for the order of locks see doc.go
	log          eventLog
	keys         keys
	finished     finishes
	topics       map[string]*topic
	mostTopics   int         // the largest number of topics since the map was made
	droppedFloor uint64      // the highest floor of the topics that have been dropped
	dropped      droppedIDs  // with OwnIDs: the ids that the dropped topics have evicted last
	expiry       *time.Timer // for the oldest event in the log; nil if none is set
	members      int
	gone         chan struct{} // closed when the hub is closed and has no members
}

// New returns a hub with an empty log in memory and a new epoch. It returns an error if
// cfg.LogEvents, cfg.LogSize, cfg.MaxTopics or cfg.MaxReplay is negative, if cfg.IDKey has
// another length than AES allows, or if cfg.Log is set: see [Open].
func New(cfg Config) (*Hub, error) {
	if cfg.Log != nil {
		return nil, errors.New("hub: Config.Log must be nil for New; a hub of a Log is made by Open")
	}
	return newHub(cfg)
}

func newHub(cfg Config) (*Hub, error) {
	if cfg.LogEvents < 0 || cfg.LogSize < 0 || cfg.MaxReplay < 0 {
		return nil, errors.New("hub: Config.LogEvents, Config.LogSize and Config.MaxReplay must be positive, or zero for their defaults")
	}
	if cfg.MaxTopics < 0 {
		return nil, errors.New("hub: Config.MaxTopics must be positive, or zero for its default")
	}
	idKey, err := newIDKey(&cfg)
	if err != nil {
		return nil, err
	}
	cfg.IDKey = nil // the caller may use the bytes again
	setDefault(&cfg.MaxTopics, DefaultMaxTopics)
	setDefault(&cfg.LogEvents, DefaultLogEvents)
	setDefault(&cfg.LogSize, DefaultLogSize)
	setDefault(&cfg.LogAge, DefaultLogAge)
	setDefault(&cfg.FinishAge, DefaultFinishAge)
	setDefault(&cfg.PublishTimeout, DefaultPublishTimeout)
	for _, age := range []*time.Duration{&cfg.LogAge, &cfg.FinishAge} {
		if *age < 0 {
			*age = forever
		}
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.Default()
	}
	h := &Hub{
		cfg:    cfg,
		idKey:  idKey,
		topics: make(map[string]*topic),
		log:    eventLog{maxEvents: cfg.LogEvents, maxSize: cfg.LogSize, maxAge: cfg.LogAge},
		gone:   make(chan struct{}),
	}
	h.spans.begin(newEpoch(), 0)
	for range runtime.GOMAXPROCS(0) {
		h.shards = append(h.shards, &shard{hub: h})
	}
	return h, nil
}

const forever = 1<<63 - 1

func setDefault[T comparable](v *T, to T) {
	var zero T
	if *v == zero {
		*v = to
	}
}

// Position returns the position of the newest event. An application that changes its state
// and publishes the change under one lock can take the state and this position under that
// lock for a [Subscription].Snapshot: the two then belong together.
func (h *Hub) Position() Position { return h.spans.position(h.head.Load()) }
