package natslog

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/chi-sse/sse/hub"
)

// EpochKey is the entry of a stream's metadata that is a part of its epoch. When it is set to
// another value, a new epoch begins, and clients are told of a gap.
const EpochKey = "sse-epoch"

// view is a stream as its leader has described it.
type view struct {
	epoch   uint64
	first   uint64 // or last+1 if there is no record
	last    uint64
	deleted int       // how many records between first and last were deleted
	now     time.Time // by the leader's clock
	created time.Time // by the clock of the server that created it
	asked   time.Time
	led     time.Time // at this time, the server that answered was the leader for certain
	config  jetstream.StreamConfig
}

// look asks the stream's leader how the stream is. If there is no stream, and the Log may create
// it, look waits until it appears, and creates it after a while. It begins another epoch if the
// stream has lost what this Log has seen.
//
// An answer can be late, and a leader that was cut off answers until it finds out. So only what
// was seen before the first question can be lost, and only a leader that has led since then
// can say so, some time later.
func (l *Log) look(ctx context.Context) (view, error) {
	epoch, seen := l.highest()
	for began := time.Now(); ; {
		v, err := l.lookOnce(ctx)
		late := v.asked.Sub(began) > rewindPatience
		if err == nil {
			l.note(&v)
		}
		switch missing := (*NotFoundError)(nil); {
		case errors.As(err, &missing) && l.creates():
		case err != nil:
			return v, err
		case v.epoch != epoch || v.last >= seen:
			return v, nil
		case late && v.led.After(began):
			return l.renew(ctx, v, seen)
		case late:
			return v, fmt.Errorf("the leader of the stream %s ends at %d, where there was %d: %w", l.cfg.Stream, v.last, seen, errCutOff)
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-time.After(rewindPatience / 4):
		}
	}
}

// errCutOff reports a leader that may have been followed by another one.
var errCutOff = errors.New("it has not heard from most of the servers for a while")

// rewindPatience is how long a stream may seem to have lost records before that is believed.
const rewindPatience = 2 * time.Second

func (l *Log) lookOnce(ctx context.Context) (view, error) {
	if err := ctx.Err(); err != nil {
		return view{}, err
	}
	if err := l.awaitConnection(ctx); err != nil {
		return view{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	asked := time.Now()
	s, err := l.js.Stream(ctx, l.cfg.Stream)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		if !l.mayCreate() {
			return view{}, &NotFoundError{l.cfg.Stream, err}
		}
		s, err = l.js.CreateStream(ctx, *l.cfg.Create)
		switch {
		case err == nil:
			l.cfg.Logger.Info("natslog: the stream is created, or was created at this time by another node", "stream", l.cfg.Stream)
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // with other settings
			s, err = l.js.Stream(ctx, l.cfg.Stream)
		}
	}
	if err != nil {
		return view{}, err
	}
	info := s.CachedInfo()
	if info.Cluster != nil && info.Cluster.Leader == "" {
		// Without a leader any server answers, also one that has not got the newest records.
		return view{}, errNoLeader
	}
	if err := errors.Join(l.cfg.misfits(&info.Config)...); err != nil {
		return view{}, err
	}
	v := view{
		epoch: epochOf(info.Created, info.Config.Metadata[EpochKey]), first: max(info.State.FirstSeq, 1), last: info.State.LastSeq,
		deleted: info.State.NumDeleted, now: info.TimeStamp, created: info.Created, asked: asked, led: ledAt(info.Cluster, asked), config: info.Config,
	}
	if info.State.Msgs == 0 {
		v.first = v.last + 1
	}
	return v, nil
}

// ledAt returns a time at which a server was the leader for certain, when it has described its
// cluster after it was asked to: it had then heard from most servers, itself included.
func ledAt(c *jetstream.ClusterInfo, asked time.Time) time.Time {
	if c == nil || len(c.Replicas) == 0 {
		return asked
	}
	silent := make([]time.Duration, len(c.Replicas))
	for i, p := range c.Replicas {
		if silent[i] = p.Active; p.Active <= 0 { // it has not heard from it at all
			silent[i] = math.MaxInt64
		}
	}
	slices.Sort(silent)
	return asked.Add(-silent[(len(silent)-1)/2])
}

// reconnectPatience is how long a request waits for a connection.
const reconnectPatience = 2 * time.Second

// awaitConnection waits until there is a connection, but not long. What is sent without one
// would only be sent later.
func (l *Log) awaitConnection(ctx context.Context) error {
	for deadline := time.Now().Add(reconnectPatience); !l.nc.IsConnected(); {
		if l.nc.IsClosed() || time.Now().After(deadline) {
			return notConnected(l.nc)
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", ctx.Err(), notConnected(l.nc))
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// missingWait is how long the stream must have been missing before it is made anew. A stream
// that is made while its predecessor is still being deleted can get some of its files.
const missingWait = 2 * time.Second

// creates reports whether the Log creates the stream.
func (l *Log) creates() bool { return l.cfg.Create != nil && !l.cfg.ReadOnly }

// mayCreate reports whether the stream, which is missing, may be created now.
func (l *Log) mayCreate() bool {
	if !l.creates() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.epoch == 0: // it is not known to have been there
		return true
	case l.missing.IsZero():
		l.missing = time.Now()
	}
	return time.Since(l.missing) > missingWait
}

// requestTimeout is how long a request to the server may take. A server that has no leader for
// the stream does not answer.
const requestTimeout = 3 * time.Second

// epochOf returns the epoch of a stream. A stream that is made anew has another time, and one
// that was restored from a backup may have another mark. The epoch's text form has 8
// characters.
func epochOf(created time.Time, mark string) uint64 {
	sum := sha256.Sum256(append(binary.BigEndian.AppendUint64(nil, uint64(created.UnixNano())), mark...))
	const lowest = 36 * 36 * 36 * 36 * 36 * 36 * 36
	return lowest + binary.BigEndian.Uint64(sum[:])%(35*lowest)
}

// highest returns the epoch as of the last look, and the highest sequence that was seen in it.
func (l *Log) highest() (epoch, seen uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch, max(l.seen.offset, l.acked)
}

// note notes what was looked at.
func (l *Log) note(v *view) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.epoch != l.epoch {
		if v.asked.Before(l.asked) { // an answer that is older than what is known
			return
		}
		if l.epoch != 0 {
			l.cfg.Logger.Warn("natslog: the stream has another epoch, and clients are told of a gap", "stream", l.cfg.Stream)
		}
		l.epoch, l.seen, l.acked, l.holeOf = v.epoch, mark{}, 0, [2]uint64{}
	}
	l.asked, l.missing = v.asked, time.Time{}
	l.size = int(cmp.Or(max(v.config.MaxMsgSize, 0), 1<<30))
}

// known returns the epoch as of the last look.
func (l *Log) known() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// saw notes the newest record that was seen in the epoch.
func (l *Log) saw(epoch uint64, m mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if epoch == l.epoch && m.offset > l.seen.offset {
		l.seen = m
	}
}

// verify checks that the stream still has the newest record that was seen, and begins another
// epoch if there is another one in its place.
func (l *Log) verify(ctx context.Context, v view) (view, error) {
	l.mu.Lock()
	seen := l.seen
	l.mu.Unlock()
	if seen.offset < v.first {
		return v, nil
	}
	m, err := l.leaderGet(ctx, getRequest{Seq: seen.offset})
	if err != nil || m == nil || m.Time.Equal(seen.time) { // a record that was deleted is no other one
		return v, err
	}
	return l.renew(ctx, v, seen.offset)
}

// renew begins another epoch, because the stream has lost records that were seen.
func (l *Log) renew(ctx context.Context, v view, seen uint64) (view, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	cfg := v.config
	cfg.Metadata = maps.Clone(cfg.Metadata)
	if cfg.Metadata == nil {
		cfg.Metadata = make(map[string]string)
	}
	cfg.Metadata[EpochKey] = strconv.FormatUint(rand.Uint64(), 36)
	if _, err := l.js.UpdateStream(ctx, cfg); err != nil {
		return v, &RewoundError{l.cfg.Stream, seen, v.last, err}
	}
	l.cfg.Logger.Warn("natslog: the stream has lost records that were acknowledged; another epoch begins", "stream", l.cfg.Stream, "seen", seen, "last", v.last)
	v, err := l.lookOnce(ctx)
	if err == nil {
		l.note(&v)
	}
	return v, err
}

// deletedIn reports how many records after a sequence, up to and including another, were
// deleted.
func (l *Log) deletedIn(ctx context.Context, v view, after, upTo uint64) (n int, err error) {
	if v.deleted == 0 || upTo <= after {
		return 0, nil
	}
	key := [2]uint64{v.first, uint64(v.deleted)}
	l.mu.Lock()
	holes, ok := l.holes, l.holeOf == key
	l.mu.Unlock()
	if !ok {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		s, err := l.js.Stream(ctx, l.cfg.Stream)
		if err != nil {
			return 0, err
		}
		info, err := s.Info(ctx, jetstream.WithDeletedDetails(true))
		if err != nil {
			return 0, err
		}
		holes = info.State.Deleted
		l.mu.Lock()
		if epochOf(info.Created, info.Config.Metadata[EpochKey]) == l.epoch {
			l.holes, l.holeOf = holes, [2]uint64{info.State.FirstSeq, uint64(info.State.NumDeleted)}
		}
		l.mu.Unlock()
	}
	for _, seq := range holes {
		if seq > after && seq <= upTo {
			n++
		}
	}
	return n, nil
}

// getRequest asks for messages of a stream.
type getRequest struct {
	Seq       uint64     `json:"seq,omitempty"`
	Subject   string     `json:"next_by_subj,omitempty"`
	StartTime *time.Time `json:"start_time,omitempty"`
	Batch     int        `json:"batch,omitempty"`
	MaxBytes  int        `json:"max_bytes,omitempty"`
}

// stored is a message as the stream's leader returns it.
type stored struct {
	Seq     uint64    `json:"seq"`
	Subject string    `json:"subject"`
	Time    time.Time `json:"time"`
}

// leaderGet returns the message from the stream's leader, without its data, or nil if there is
// none. Only the leader has every message that was acknowledged.
func (l *Log) leaderGet(ctx context.Context, r getRequest) (*stored, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	m, err := l.nc.RequestWithContext(ctx, l.api+"STREAM.MSG.GET."+l.cfg.Stream, body)
	if err != nil {
		return nil, err
	}
	var resp struct {
		Error   *jetstream.APIError `json:"error"`
		Message *stored             `json:"message"`
	}
	if err := json.Unmarshal(m.Data, &resp); err != nil {
		return nil, fmt.Errorf("the answer to a request is not JSON: %w", err)
	}
	if resp.Error != nil {
		if resp.Error.ErrorCode == jetstream.JSErrCodeMessageNotFound {
			return nil, nil
		}
		return nil, resp.Error
	}
	return resp.Message, nil
}

// isTemporary reports whether a request may succeed later although nobody does anything about
// it: there is no connection, no leader yet, or a server of a new cluster has not started.
func isTemporary(err error) bool {
	apiErr, ok := errors.AsType[*jetstream.APIError](err)
	if jsErr, is := errors.AsType[jetstream.JetStreamError](err); !ok && is {
		apiErr = jsErr.APIError()
	}
	if apiErr != nil {
		return apiErr.ErrorCode == codeNoPeers || apiErr.Code == 503 && apiErr.ErrorCode != jetstream.JSErrCodeJetStreamNotEnabledForAccount
	}
	for _, target := range []error{context.DeadlineExceeded, nats.ErrNoResponders, nats.ErrTimeout, nats.ErrDisconnected, nats.ErrConnectionReconnecting, jetstream.ErrNoStreamResponse, errCutOff, errNoLeader} {
		if errors.Is(err, target) {
			return true
		}
	}
	return false
}

// epochError returns the error for a position of another epoch.
func epochError(pos hub.Position, epoch uint64) error {
	return fmt.Errorf("the position is of epoch %d, and the stream has %d: %w", pos.Epoch, epoch, hub.ErrEpoch)
}
