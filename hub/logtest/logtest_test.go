package logtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
)

// memoryConfig is for logs whose offsets rise by step.
func memoryConfig(step uint64) Config {
	memory := func(log hub.Log) *Memory {
		if l, ok := log.(interface{ memory() *Memory }); ok {
			return l.memory()
		}
		return log.(*Memory)
	}
	return Config{
		Open:       func(testing.TB) hub.Log { return NewMemory(step) },
		Reopen:     func(_ testing.TB, log hub.Log) hub.Log { return log },
		Shared:     true,
		Renew:      func(_ testing.TB, log hub.Log) { memory(log).Renew() },
		Truncate:   func(_ testing.TB, log hub.Log, first uint64) { memory(log).Truncate(first) },
		LoseAnswer: func(_ testing.TB, log hub.Log) { memory(log).LoseAnswer() },
		Insert: func(_ testing.TB, log hub.Log, topic string, data []byte) {
			var rec hub.Record
			if err := rec.UnmarshalBinary(data); err != nil && rec.Topic == "" && len(data) > 1 {
				rec.Topic = topic
			}
			memory(log).Insert(rec)
		},
		Damage:  func(_ testing.TB, log hub.Log, offset uint64) { memory(log).Damage(offset) },
		Million: os.Getenv("SSE_LOG_MILLION") != "",
	}
}

func TestMemory(t *testing.T) {
	for _, step := range []uint64{1, 7} {
		t.Run(fmt.Sprint("step ", step), func(t *testing.T) { Run(t, memoryConfig(step)) })
	}
}

// broken is a Memory with a fault. Functions that are nil do what Memory does.
type broken struct {
	*Memory
	batch  func(b hub.Batch) hub.Batch // of Follow and Read
	follow func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error
	read   func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error)
	append func(ctx context.Context, records []hub.Record) ([]hub.Position, error)
	bounds func(ctx context.Context) (hub.Bounds, error)
}

func (l *broken) memory() *Memory { return l.Memory }

func (l *broken) Bounds(ctx context.Context) (hub.Bounds, error) {
	if l.bounds != nil {
		return l.bounds(ctx)
	}
	return l.Memory.Bounds(ctx)
}

func (l *broken) Append(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
	if l.append != nil {
		return l.append(ctx, records)
	}
	return l.Memory.Append(ctx, records)
}

func (l *broken) Follow(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
	if l.follow != nil {
		return l.follow(ctx, after, apply)
	}
	return l.Memory.Follow(ctx, after, func(b hub.Batch) error {
		if l.batch != nil {
			b = l.batch(b)
		}
		return apply(b)
	})
}

func (l *broken) Read(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
	if l.read != nil {
		return l.read(ctx, topics, after, upTo, limit)
	}
	b, err := l.Memory.Read(ctx, topics, after, upTo, limit)
	if err == nil && l.batch != nil {
		b = l.batch(b)
	}
	return b, err
}

// faults are what the suite must notice.
var faults = map[string]func(l *broken){
	"reorders records": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			if n := len(b.Records); n > 1 {
				b.Records[0], b.Records[n-1] = b.Records[n-1], b.Records[0]
			}
			return b
		}
	},
	"skips a record": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			if n := len(b.Records); n > 3 {
				b.Records = append(b.Records[:n/2:n/2], b.Records[n/2+1:]...)
			}
			return b
		}
	},
	"skips the first record of Follow": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			after.Offset += l.step
			return l.Memory.Follow(ctx, after, apply)
		}
	},
	"gives an offset twice": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			if n := len(b.Records); n > 1 {
				b.Records[n-1].Offset = b.Records[n-2].Offset
			}
			return b
		}
	},
	"says that more is there than is": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			b, err := l.Memory.Read(ctx, topics, after, upTo, limit)
			if b.UpTo < upTo.Offset {
				b.UpTo += l.step
			}
			return b, err
		}
	},
	"says that more will not come in Follow": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			if len(b.Records) == 0 {
				b.UpTo += l.step
			}
			return b
		}
	},
	"does not say how far it has read": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			b, err := l.Memory.Read(ctx, topics, after, upTo, limit)
			b.UpTo = after.Offset
			if n := len(b.Records); n > 0 {
				b.UpTo = b.Records[n-1].Offset
			}
			return b, err
		}
	},
	"reads after the position inclusively": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			after.Offset = max(after.Offset, 1) - 1
			return l.Memory.Read(ctx, topics, after, upTo, limit)
		}
	},
	"reads beyond upTo": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			upTo.Offset += l.step
			return l.Memory.Read(ctx, topics, after, upTo, limit)
		}
	},
	"ignores max": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, _ int) (hub.Batch, error) {
			return l.Memory.Read(ctx, topics, after, upTo, 1e6)
		}
	},
	"ignores topics": func(l *broken) {
		l.read = func(ctx context.Context, _ []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			return l.Memory.Read(ctx, nil, after, upTo, limit)
		}
	},
	"reads only the first topic": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			return l.Memory.Read(ctx, topics[:min(1, len(topics))], after, upTo, limit)
		}
	},
	"takes any epoch in Follow": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			after.Epoch = l.now()
			return l.Memory.Follow(ctx, after, apply)
		}
	},
	"takes any epoch in Read": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			after.Epoch, upTo.Epoch = l.now(), l.now()
			return l.Memory.Read(ctx, topics, after, upTo, limit)
		}
	},
	"keeps its epoch": func(l *broken) {
		epoch := l.now()
		l.bounds = func(ctx context.Context) (hub.Bounds, error) {
			b, err := l.Memory.Bounds(ctx)
			b.Epoch = epoch
			return b, err
		}
	},
	"has the epoch 0": func(l *broken) {
		l.bounds = func(ctx context.Context) (hub.Bounds, error) {
			b, err := l.Memory.Bounds(ctx)
			b.Epoch = 0
			return b, err
		}
	},
	"does not tell of a truncation in Follow": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			for {
				err := l.Memory.Follow(ctx, after, func(b hub.Batch) error {
					after.Offset = max(after.Offset, b.UpTo)
					return apply(b)
				})
				e, ok := errors.AsType[*hub.TruncatedError](err)
				if !ok {
					return err
				}
				after.Offset = e.First - 1
			}
		}
	},
	"does not tell of a truncation in Read": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			b, err := l.Memory.Read(ctx, topics, after, upTo, limit)
			if e, ok := errors.AsType[*hub.TruncatedError](err); ok {
				after.Offset = e.First - 1
				return l.Memory.Read(ctx, topics, after, upTo, limit)
			}
			return b, err
		}
	},
	"says the wrong place of a truncation": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			b, err := l.Memory.Read(ctx, topics, after, upTo, limit)
			if e, ok := errors.AsType[*hub.TruncatedError](err); ok {
				e.First += l.step
			}
			return b, err
		}
	},
	"forgets Key": func(l *broken) {
		l.append = func(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
			keyless := append([]hub.Record(nil), records...)
			for i := range keyless {
				keyless[i].Key = ""
			}
			return l.Memory.Append(ctx, keyless)
		}
	},
	"mixes the keys of topics": func(l *broken) {
		var mu sync.Mutex
		known := make(map[string]hub.Position)
		l.append = func(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
			mu.Lock()
			defer mu.Unlock()
			if pos, ok := known[records[0].Key]; ok && records[0].Key != "" && len(records) == 1 {
				return []hub.Position{pos}, nil
			}
			positions, err := l.Memory.Append(ctx, records)
			for i := range positions {
				known[records[i].Key] = positions[i]
			}
			return positions, err
		}
	},
	"appends batches in pieces": func(l *broken) {
		l.append = func(ctx context.Context, records []hub.Record) (positions []hub.Position, err error) {
			for i := range records {
				p, err := l.Memory.Append(ctx, records[i:i+1])
				if err != nil {
					return nil, err
				}
				positions = append(positions, p...)
				runtime.Gosched()
				time.Sleep(time.Microsecond)
			}
			return positions, nil
		}
	},
	"appends although it returns an error": func(l *broken) {
		l.append = func(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
			positions, err := l.Memory.Append(context.WithoutCancel(ctx), records)
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			return positions, err
		}
	},
	"does not look at the context of Append": func(l *broken) {
		l.append = func(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
			return l.Memory.Append(context.WithoutCancel(ctx), records)
		}
	},
	"returns another error when the context ends": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			if err := l.Memory.Follow(ctx, after, apply); ctx.Err() == nil {
				return err
			}
			return errors.New("closed")
		}
	},
	"does not end Follow": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			err := l.Memory.Follow(ctx, after, apply)
			if ctx.Err() != nil {
				time.Sleep(3 * time.Second)
			}
			return err
		}
	},
	"leaves goroutines": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			go func() { time.Sleep(5 * time.Second) }()
			return l.Memory.Follow(ctx, after, apply)
		}
	},
	"swallows an error of apply": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			return l.Memory.Follow(ctx, after, func(b hub.Batch) error { _ = apply(b); return nil })
		}
	},
	"does not say that it has caught up": func(l *broken) {
		l.follow = func(ctx context.Context, after hub.Position, apply func(hub.Batch) error) error {
			return l.Memory.Follow(ctx, after, func(b hub.Batch) error {
				if len(b.Records) == 0 {
					return nil
				}
				return apply(b)
			})
		}
	},
	"changes a field": func(l *broken) {
		l.append = func(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
			changed := append([]hub.Record(nil), records...)
			for i := range changed {
				changed[i].Event.Data = strings.ReplaceAll(changed[i].Event.Data, "\r\n", "\n")
			}
			return l.Memory.Append(ctx, changed)
		}
	},
	"changes text that is not UTF-8": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			for i := range b.Records {
				b.Records[i].Event.Data = strings.ToValidUTF8(b.Records[i].Event.Data, "\ufffd")
			}
			return b
		}
	},
	"forgets Kind": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			for i := range b.Records {
				b.Records[i].Kind = hub.EventRecord
			}
			return b
		}
	},
	"has no Time": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			for i := range b.Records {
				b.Records[i].Time = time.Time{}
			}
			return b
		}
	},
	"drops invalid records": func(l *broken) {
		l.batch = func(b hub.Batch) hub.Batch {
			var valid []hub.Record
			for _, r := range b.Records {
				if r.Kind != hub.InvalidRecord {
					valid = append(valid, r)
				}
			}
			b.Records = valid
			return b
		}
	},
	"tells damaged records only to those who read all": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			b, err := l.Memory.Read(ctx, topics, after, upTo, limit)
			if len(topics) > 0 {
				b.Records = slices.DeleteFunc(b.Records, func(r hub.Record) bool { return !slices.Contains(topics, r.Topic) })
			}
			return b, err
		}
	},
	"tells invalid records only to one topic, and does not say which": func(l *broken) {
		l.read = func(ctx context.Context, topics []string, after, upTo hub.Position, limit int) (hub.Batch, error) {
			b, err := l.Memory.Read(ctx, topics, after, upTo, limit)
			if len(topics) > 0 && topics[0] == "other" {
				b.Records = nil
			}
			return b, err
		}
	},
	"says unknown and has not appended": func(l *broken) {
		l.append = func(ctx context.Context, records []hub.Record) ([]hub.Position, error) {
			l.mu.Lock()
			silent := l.silent
			l.silent = false
			l.mu.Unlock()
			if silent {
				return nil, errors.New("away")
			}
			return l.Memory.Append(ctx, records)
		}
	},
}

func (l *Memory) now() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.epoch
}

// Each fault fails a case. The suite would be of no use otherwise.
func TestFaultsAreNoticed(t *testing.T) {
	for name, fault := range faults {
		t.Run(name, func(t *testing.T) {
			cfg := memoryConfig(7)
			cfg.Million, cfg.Patience = false, 500*time.Millisecond
			cfg.Open = func(testing.TB) hub.Log {
				l := &broken{Memory: NewMemory(7)}
				fault(l)
				return l
			}
			for _, c := range cases {
				if failure := fails(t, cfg, c); failure != "" {
					t.Logf("%s: %s", c.name, failure)
					return
				}
			}
			require.Fail(t, "no case has failed")
		})
	}
}

// fails runs a case, and returns how it has failed, or "".
func fails(t *testing.T, cfg Config, c testCase) string {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &recorder{TB: t, ctx: ctx}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer func() {
			cancel()
			for _, f := range slices.Backward(r.cleanups) {
				f()
			}
		}()
		cfg.run(r, c)
	}()
	<-done
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure
}

// recorder is a testing.TB that notes its failures instead of failing.
type recorder struct {
	testing.TB
	ctx      context.Context
	cleanups []func()

	mu      sync.Mutex
	failure string
}

func (r *recorder) Helper()                  {}
func (r *recorder) Context() context.Context { return r.ctx }
func (r *recorder) Cleanup(f func())         { r.cleanups = append(r.cleanups, f) }

func (r *recorder) Failed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.failure != ""
}

func (r *recorder) Errorf(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.failure == "" {
		r.failure = fmt.Sprintf(format, args...)
	}
}

func (r *recorder) Fatalf(format string, args ...any) {
	r.Errorf(format, args...)
	runtime.Goexit()
}

func (r *recorder) Fatal(args ...any) { r.Fatalf("%s", fmt.Sprint(args...)) }
func (r *recorder) Skip(...any)       { runtime.Goexit() }
