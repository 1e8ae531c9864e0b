package main

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/hub"
	"github.com/chi-sse/sse/internal/testkit"
)

// A client sees each step, the result and the end. It asks once more, and is told not to come
// back.
func TestJob(t *testing.T) {
	steps := make(steps)
	s := start(t, t.TempDir(), anyPort, steps.work)
	j := post(t, s.url, "customers", 3)
	assert.Equal(t, job{ID: 1, Name: "customers", Rows: 3, State: running}, j)
	f := follow(t, http.DefaultClient, s.url, "id=1")
	require.Equal(t, j, f.next(), "the state")
	for n := range 3 {
		steps.do(1)
		j.Done = n + 1
		require.Equal(t, j, f.next())
	}
	j.State, j.Result = done, "customers.csv"
	require.Equal(t, []job{j}, f.rest())
	assert.EqualValues(t, 2, s.requests.Load())
}

func TestFailedJob(t *testing.T) {
	steps := make(steps)
	s := start(t, t.TempDir(), anyPort, steps.work)
	j := post(t, s.url, "customers", 3)
	f := follow(t, http.DefaultClient, s.url, "id=1")
	f.next()
	steps <- errors.New("row 1 is damaged")
	j.State, j.Result = failed, "row 1 is damaged"
	require.Equal(t, []job{j}, f.rest())
}

// endedJob runs a job to its end, and returns its last state and the ids of its events.
func endedJob(t *testing.T, s *server, steps steps, rows int) (j job, first, last string) {
	t.Helper()
	j = post(t, s.url, "customers", rows)
	first = s.board.hub.Position().String()
	steps.do(rows)
	s.awaitEnd(j.ID)
	return s.job(j.ID), first, s.job(j.ID).last
}

// job returns a row of the table.
func (s *server) job(id int64) job {
	s.t.Helper()
	jobs, err := s.board.store.find(context.Background(), []any{id})
	require.NoError(s.t, err)
	require.Len(s.t, jobs, 1)
	return jobs[0]
}

// awaitEnd waits until the table has the last event's id of a job.
func (s *server) awaitEnd(id int64) {
	s.t.Helper()
	require.Eventually(s.t, func() bool { return s.job(id).last != "" }, patience, time.Millisecond)
}

// public returns what clients see of j.
func (j job) public() job {
	j.ended, j.last = 0, ""
	return j
}

// A client that comes late gets what it lacks, and the end. One that lacks nothing gets 204.
func TestLateClients(t *testing.T) {
	steps := make(steps)
	s := start(t, t.TempDir(), anyPort, steps.work)
	j, first, last := endedJob(t, s, steps, 3)

	status, jobs, id := get(t, http.DefaultClient, s.url, "id=1", "")
	require.Equal(t, http.StatusOK, status)
	assert.Equal(t, []job{j.public(), j.public()}, jobs, "the state, and the last event")
	assert.Equal(t, last, id)

	status, jobs, id = get(t, http.DefaultClient, s.url, "id=1", first)
	require.Equal(t, http.StatusOK, status)
	require.Len(t, jobs, 4)
	for n, step := range jobs[:3] {
		assert.Equal(t, n+1, step.Done)
		assert.Equal(t, running, step.State)
	}
	assert.Equal(t, j.public(), jobs[3])
	assert.Equal(t, last, id)

	status, _, _ = get(t, http.DefaultClient, s.url, "id=1", last)
	assert.Equal(t, http.StatusNoContent, status)
}

// A stream of several jobs ends with the last of them.
func TestSeveralJobs(t *testing.T) {
	steps := make(steps)
	s := start(t, t.TempDir(), anyPort, steps.work)
	_, _, _ = endedJob(t, s, steps, 1)
	post(t, s.url, "orders", 1)
	f := follow(t, http.DefaultClient, s.url, "id=1&id=2&id=2")
	states := map[int64]string{}
	for len(states) < 2 {
		j := f.next()
		states[j.ID] = j.State
	}
	assert.Equal(t, map[int64]string{1: done, 2: running}, states)
	steps.do(1)
	jobs := f.rest()
	assert.Equal(t, job{ID: 2, Name: "orders", Rows: 1, Done: 1, State: done, Result: "orders.csv"}, jobs[len(jobs)-1])
	assert.EqualValues(t, 2, s.requests.Load())
}

// Of a job that ended long ago, the hub knows nothing any longer, and the table answers.
func TestOldJobs(t *testing.T) {
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx := context.Background()
		b, err := openBoard(ctx, dir, export)
		require.NoError(t, err)
		pipes := testkit.NewPipeListener()
		r := routes(b)
		srv := &http.Server{Handler: r}
		r.Plugin().Attach(srv)
		go func() { _ = srv.Serve(pipes) }()
		transport := &http.Transport{DialContext: pipes.DialContext}
		c := &http.Client{Transport: transport}
		defer func() {
			require.NoError(t, r.Plugin().Shutdown(ctx))
			transport.CloseIdleConnections()
			require.NoError(t, srv.Shutdown(ctx))
			require.NoError(t, b.close())
		}()
		find := func(id int64) job {
			jobs, err := b.store.find(ctx, []any{id})
			require.NoError(t, err)
			return jobs[0]
		}
		for _, name := range []string{"a", "b"} {
			_, err := b.start(ctx, name, 2)
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		a, last := find(1), find(2).last
		require.NotEmpty(t, a.last)
		require.NotEmpty(t, last)
		check := func(what string, resumed int) {
			status, jobs, id := get(t, c, "http://jobs", "id=1&id=2", "")
			require.Equal(t, http.StatusOK, status, what)
			require.GreaterOrEqual(t, len(jobs), 2)
			assert.Equal(t, []job{a.public(), find(2).public()}, jobs[:2], what)
			assert.Equal(t, last, id, what)
			status, jobs, id = get(t, c, "http://jobs", "id=1&id=2", a.last)
			require.Equal(t, http.StatusOK, status, what)
			assert.Len(t, jobs, resumed, what)
			assert.Equal(t, last, id, what)
			status, _, _ = get(t, c, "http://jobs", "id=1&id=2", last)
			assert.Equal(t, http.StatusNoContent, status, what)
		}
		check("new", 3) // two steps and the end of b
		time.Sleep(oldAfter - time.Minute)
		check("the log has dropped the events", 2) // the states
		time.Sleep(time.Minute)
		check("the hub knows, but is not asked", 2)
		require.ErrorIs(t, publishError(b, &a), hub.ErrFinished)
		time.Sleep(finishAge - oldAfter)
		require.NoError(t, publishError(b, &a))
		check("the hub has forgotten", 2)

		// Beside a job that is running, an old one is sent with the others' states.
		j, err := b.start(ctx, "c", 100)
		require.NoError(t, err)
		f := follow(t, c, "http://jobs", "id=1&id=3")
		assert.Equal(t, []job{j, a.public()}, []job{f.next(), f.next()}, "those that run come first")
		jobs := f.rest()
		assert.Equal(t, find(3).public(), jobs[len(jobs)-1])
	})
}

func publishError(b *board, j *job) error {
	_, err := b.hub.Publish(context.Background(), j.topic(), j.event())
	return err
}

// The program is killed in the middle of a job. The next one goes on, and a client that
// reconnects misses nothing.
func TestRestart(t *testing.T) {
	dir := t.TempDir()
	p := startProcess(t, dir, anyPort)
	post(t, p.url, "customers", 20)
	f := follow(t, http.DefaultClient, p.url, "id=1")
	for f.next().Done < 5 {
	}
	p.kill()
	p = startProcess(t, dir, strings.TrimPrefix(p.url, "http://"))
	seen := 5
	jobs := f.rest()
	for _, j := range jobs {
		// A step that was in the table, and was not published, is the next one's first.
		require.Contains(t, []int{seen, seen + 1, seen + 2}, j.Done)
		seen = j.Done
	}
	assert.Equal(t, job{ID: 1, Name: "customers", Rows: 20, Done: 20, State: done, Result: "customers.csv"}, jobs[len(jobs)-1])

	// The next program knows of the end.
	p.kill()
	p = startProcess(t, dir, anyPort)
	_, jobs, last := get(t, http.DefaultClient, p.url, "id=1", "")
	assert.Equal(t, done, jobs[0].State)
	status, _, _ := get(t, http.DefaultClient, p.url, "id=1", last)
	assert.Equal(t, http.StatusNoContent, status)
}

// The program ends in order in the middle of a job, and the next one goes on.
func TestRun(t *testing.T) {
	dir := t.TempDir()
	begin := func() (string, func() error) {
		ctx, cancel := context.WithCancel(t.Context())
		read, write := io.Pipe()
		ended := make(chan error, 1)
		go func() { ended <- run(ctx, dir, anyPort, write) }()
		line, err := bufio.NewReader(read).ReadString('\n')
		require.NoError(t, err)
		site, ok := strings.CutPrefix(strings.TrimSpace(line), "Listening on ")
		require.True(t, ok, line)
		return site, func() error { cancel(); return <-ended }
	}
	site, end := begin()
	post(t, site, "customers", 10)
	f := follow(t, http.DefaultClient, site, "id=1")
	for f.next().Done < 3 {
	}
	require.NoError(t, end())
	site, end = begin()
	jobs := follow(t, http.DefaultClient, site, "id=1").rest()
	assert.GreaterOrEqual(t, jobs[0].Done, 3)
	assert.Equal(t, done, jobs[len(jobs)-1].State)
	require.NoError(t, end())
}

// Wherever the program is killed at the end of a job, the next one ends the job's stream.
func TestKilledAtTheEnd(t *testing.T) {
	for what, state := range map[string]struct{ saved, finished bool }{
		"before the table has the result": {false, false},
		"before the hub has the end":      {true, false},
		"before the table has the end":    {true, true},
	} {
		t.Run(what, func(t *testing.T) {
			dir := t.TempDir()
			steps := make(steps)
			s := start(t, dir, anyPort, steps.work)
			j := post(t, s.url, "customers", 1)
			require.NoError(t, s.board.store.save(t.Context(), job{ID: 1, Done: 1, State: running}))
			s.board.stop()
			s.board.running.Wait()
			j.Done = 1
			j.end(done, "customers.csv")
			var last string
			if state.saved {
				require.NoError(t, s.board.store.save(t.Context(), j))
			}
			if state.finished {
				pos, err := s.board.hub.Finish(t.Context(), j.topic(), j.event())
				require.NoError(t, err)
				last = pos.String()
			}
			s.stop()

			s = start(t, dir, anyPort, steps.work)
			s.awaitEnd(1)
			_, jobs, id := get(t, http.DefaultClient, s.url, "id=1", "")
			assert.Equal(t, j.public(), jobs[len(jobs)-1])
			assert.Equal(t, s.job(1).last, id)
			if state.finished {
				assert.Equal(t, last, id, "the first end holds")
			}
		})
	}
}

func TestRefuses(t *testing.T) {
	s := start(t, t.TempDir(), anyPort, make(steps).work)
	for _, query := range []string{"", "id=", "id=one", strings.Repeat("id=1&", maxJobs+1)} {
		status, _, _ := get(t, http.DefaultClient, s.url, query, "")
		assert.Equal(t, http.StatusBadRequest, status, query)
	}
	status, _, _ := get(t, http.DefaultClient, s.url, "id=1", "")
	assert.Equal(t, http.StatusNotFound, status)

	for _, form := range []url.Values{
		{"name": {" "}, "rows": {"1"}},
		{"name": {strings.Repeat("x", 101)}, "rows": {"1"}},
		{"name": {"x"}, "rows": {"0"}},
		{"name": {"x"}, "rows": {"ten"}},
	} {
		resp, err := http.PostForm(s.url+"/jobs", form)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		assert.Equal(t, http.StatusBadRequest, resp.StatusCode, form)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.url+"/jobs", strings.NewReader("name=x&rows=1"))
	require.NoError(t, err)
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("Sec-Fetch-Site", "cross-site")
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	assert.Equal(t, http.StatusForbidden, resp.StatusCode)
	jobs, err := s.board.store.newest(t.Context())
	require.NoError(t, err)
	assert.Empty(t, jobs)
}

// The program says what is wrong with its directory and its address.
func TestRunFails(t *testing.T) {
	s := start(t, t.TempDir(), anyPort, make(steps).work)
	require.ErrorContains(t, run(t.Context(), t.TempDir(), strings.TrimPrefix(s.url, "http://"), nil), "address already in use")
	require.Error(t, run(t.Context(), "/dev/null/jobs", anyPort, nil))
}
