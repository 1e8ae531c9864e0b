package main

import (
	"context"
	"encoding/json"
	"strconv"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

func TestVitalsSince(t *testing.T) {
	at := time.Date(2026, 3, 1, 9, 30, 0, 123456789, time.FixedZone("", 3600))
	before := reading{
		time:    at,
		cores:   []coreTime{{busy: 10, total: 100}, {busy: 50, total: 100}},
		network: &traffic{in: 1000, out: 5000},
		disk:    &traffic{in: 0, out: 7},
	}
	after := reading{
		time:    at.Add(2 * time.Second),
		cores:   []coreTime{{busy: 11, total: 102}, {busy: 52, total: 102}},
		memory:  &usage{used: 3, total: 8},
		network: &traffic{in: 4001, out: 4000}, // an interface was removed
		disk:    &traffic{in: 10, out: 7},
		space:   &usage{used: 1, total: 2},
	}
	got, err := json.Marshal(after.since(before))
	require.NoError(t, err)
	assert.JSONEq(t, `{"time":"2026-03-01T08:30:02.123Z",`+
		`"cpu":{"total":75,"cores":[50,100]},`+
		`"memory":{"used":3,"total":8},`+
		`"network":{"in":1501,"out":0},`+
		`"disk":{"read":5,"write":0,"used":1,"total":2}}`, string(got))
}

func TestVitalsSinceOfAMachineThatTellsLittle(t *testing.T) {
	now := time.Date(2026, 3, 1, 9, 30, 0, 0, time.UTC)
	got, err := json.Marshal(reading{time: now}.since(reading{}))
	require.NoError(t, err)
	assert.JSONEq(t, `{"time":"2026-03-01T09:30:00Z"}`, string(got))

	// A core was added, and the two readings have the same time.
	r := reading{time: now, cores: []coreTime{{1, 2}, {1, 2}}, network: &traffic{in: 9}}
	v := r.since(reading{time: now, cores: []coreTime{{1, 2}}, network: &traffic{}})
	assert.Equal(t, []float64{0, 50}, v.CPU.Cores)
	assert.Zero(t, v.Network.In)
}

func TestMonitorSamplesWhileWatched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var reads atomic.Int64
		m := newMonitor(func() reading { reads.Add(1); return noReading() })
		stop := start(m.sampleWhileWatched)
		defer stop()

		time.Sleep(time.Hour)
		assert.Zero(t, reads.Load(), "there are no watchers")

		leave1, leave2 := m.watch(), m.watch()
		time.Sleep(10*samplePeriod + samplePeriod/2)
		assert.EqualValues(t, 12, reads.Load(), "two watchers share the samples")
		samples, next, _ := m.from(0)
		assert.Len(t, samples, 11)
		assert.Equal(t, 11, next)

		leave1()
		time.Sleep(time.Hour)
		assert.Greater(t, reads.Load(), int64(3600))
		samples, next, _ = m.from(5)
		assert.Len(t, samples, history, "old samples are dropped")
		assert.Equal(t, 3611, next)

		// A page that reconnects within a minute gets the whole history. After that there is
		// none.
		leave2()
		time.Sleep((history - 1) * samplePeriod)
		samples, _, _ = m.from(0)
		assert.Less(t, time.Since(samples[len(samples)-1].Time), samplePeriod)
		time.Sleep(3 * samplePeriod)
		before := reads.Load()
		time.Sleep(time.Hour)
		assert.Equal(t, before, reads.Load())
		samples, next, _ = m.from(0)
		assert.Empty(t, samples)

		defer m.watch()()
		_, _, more := m.from(next)
		<-more
		samples, _, _ = m.from(next)
		assert.Len(t, samples, 1)
	})
}

func TestMonitorFind(t *testing.T) {
	m := newMonitor(noReading)
	at := time.UnixMilli(1_000_000)
	for i := range history + 10 {
		m.add(&Vitals{Time: at.Add(time.Duration(i) * time.Second)})
	}
	for id, want := range map[string]int{
		"":         10, // no id: the oldest sample
		"x":        10,
		"1000000":  10, // too old
		"1010000":  11,
		"1069000":  70, // the newest: nothing to send yet
		"1010001":  10,
		"99999999": 10, // in the future: of another machine, or made up
	} {
		assert.Equal(t, want, m.find(id), "id %q", id)
	}
}

func TestMonitorEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := newMonitor(noReading)
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); m.sampleWhileWatched(ctx) }()
		defer m.watch()()
		time.Sleep(samplePeriod / 8) // before the first sample
		cancel()
		<-ended
	})
}

func TestVitalsStream(t *testing.T) {
	url := site(t, newLog(t, ""), func() reading { return readMachine(t.TempDir()) }) + "/vitals"
	s := dial(t, url, "")
	ev := s.next()
	assert.Equal(t, "host", ev.Name)
	var host Host
	require.NoError(t, json.Unmarshal([]byte(ev.Data), &host))
	assert.NotEmpty(t, host.System)
	assert.Positive(t, host.Cores)
	assert.Equal(t, retry.Milliseconds(), host.Retry)

	var ids []string
	for range 3 {
		ev = s.next()
		assert.Equal(t, "vitals", ev.Name)
		var v Vitals
		require.NoError(t, json.Unmarshal([]byte(ev.Data), &v))
		assert.Equal(t, strconv.FormatInt(v.Time.UnixMilli(), 10), ev.ID)
		assert.WithinDuration(t, time.Now(), v.Time, time.Minute)
		require.NotNil(t, v.CPU)
		assert.NotEmpty(t, v.CPU.Cores)
		for _, percent := range append(v.CPU.Cores, v.CPU.Total) {
			assert.GreaterOrEqual(t, percent, 0.0)
			assert.LessOrEqual(t, percent, 100.0)
		}
		require.NotNil(t, v.Memory)
		assert.Positive(t, v.Memory.Used)
		assert.Greater(t, v.Memory.Total, v.Memory.Used)
		ids = append(ids, ev.ID)
	}
	s.close()

	// A client that reconnects gets what it missed. A new client gets the history.
	back := dial(t, url, ids[0])
	back.next()
	assert.Equal(t, ids[1], back.next().ID)
	fresh := dial(t, url, "")
	fresh.next()
	assert.Equal(t, ids[0], fresh.next().ID)
}
