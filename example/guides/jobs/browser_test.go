package main

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/browser"
)

const (
	// shown is what the page shows of the jobs, and stateText of its stream.
	shown = `[...document.querySelectorAll("#board li")].map(row => [
		row.dataset.state, ...[".name", ".count", ".result"].map(part => row.querySelector(part).textContent)].join(": ").replace(/[: ]+$/, "")).join("\n")`
	stateText = `document.querySelector("#state").textContent`
)

// open opens the page.
func open(b *browser.Tab, url string) {
	b.Do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url+"/"))
	b.Await("the page is there", `document.querySelector("#start")?.onsubmit`)
}

// awaitShown waits until the page shows these jobs, the newest first.
func awaitShown(b *browser.Tab, want ...string) {
	b.Await(strings.Join(want, "\n"), fmt.Sprintf("%s === %q", shown, strings.Join(want, "\n")))
}

func awaitState(b *browser.Tab, want string) {
	b.Await(want, fmt.Sprintf("%s === %q", stateText, want))
}

func TestBrowser(t *testing.T) {
	b := browser.New(t)
	work := make(steps)
	s := start(t, t.TempDir(), anyPort, work.work)
	open(b, s.url)
	evil := `<img src=x onerror="document.title='broken'">`
	startJob := func(name string, rows int) {
		browser.Eval[string](b, fmt.Sprintf(`document.querySelector("[name=name]").value = %q`, name))
		browser.Eval[string](b, fmt.Sprintf(`document.querySelector("[name=rows]").value = "%d"`, rows))
		b.Do(chromedp.Click("#start button"))
	}
	startJob("customers", 1)
	awaitShown(b, "running: customers: 0 of 1")
	work.do(1)
	awaitShown(b, "done: customers: 1 of 1: customers.csv")
	awaitState(b, "All exports have ended.")
	require.EqualValues(t, 2, s.requests.Load(), "the stream, and the 204")

	// Several jobs are one stream, on each of several pages.
	startJob("orders", 9)
	startJob(evil, 9)
	awaitShown(b, "running: "+evil+": 0 of 9", "running: orders: 0 of 9", "done: customers: 1 of 1: customers.csv")
	late := b.Another()
	work.do(8) // of either
	open(late, s.url)
	awaitState(late, "Live")
	for _, tab := range []*browser.Tab{b, late} {
		tab.Await("all steps are shown", fmt.Sprintf(`%s.match(/\d+ of 9/g).reduce((sum, text) => sum + parseInt(text), 0) === 8`, shown))
	}
	require.Eventually(t, func() bool { return s.streams.Len() == 2 }, patience, time.Millisecond, "one for each page")
	late.Picture("jobs-running")
	work <- errors.New("row 7 is damaged")
	for running := true; running; {
		select {
		case work <- nil:
		case <-time.After(100 * time.Millisecond):
			running = s.job(2).last == "" || s.job(3).last == ""
		}
	}
	for _, tab := range []*browser.Tab{b, late} {
		tab.Await("one has failed, and one is done", fmt.Sprintf(`/failed.*row 7 is damaged/.test(%s) && /done: (orders|<).*9 of 9/.test(%[1]s)`, shown))
		awaitState(tab, "All exports have ended.")
	}
	assert.Equal(t, browser.Eval[string](b, shown), browser.Eval[string](late, shown))
	assert.Equal(t, "Exports", browser.Eval[string](b, "document.title"))

	// The streams do not come back. Neither does one of a page without any code for that.
	other := b.Another()
	open(other, s.url)
	other.Await("the table has all", fmt.Sprintf(`%s.split("\n").length === 3`, shown))
	assert.Equal(t, "No export is running.", browser.Eval[string](other, stateText))
	before := s.requests.Load()
	browser.Eval[bool](other, `!!(window.events = [], window.source = new EventSource("/jobs/events?id=1&id=2&id=3"),
		source.addEventListener("job", e => events.push(JSON.parse(e.data).state)))`)
	other.Await("it is closed", `source.readyState === EventSource.CLOSED`)
	assert.NotContains(t, browser.Eval[[]string](other, "events"), running)
	time.Sleep(3 * time.Second) // three times as long as an EventSource waits here
	assert.EqualValues(t, 2, s.requests.Load()-before, "the stream, and the 204")
	for _, tab := range []*browser.Tab{b, late, other} {
		assert.Empty(t, tab.Complaints())
	}
	b.Picture("jobs-ended")
	b.RequireLooks()
	startJob("", 1)
	startJob("too few", 0)
	assert.Empty(t, browser.Eval[string](b, `document.querySelector("#trouble").textContent`), "the browser checks the form")
}

// A page stays open while the program is killed and started again in the middle of a job.
func TestBrowserRestart(t *testing.T) {
	dir := t.TempDir()
	b := browser.New(t)
	p := startProcess(t, dir, anyPort)
	post(t, p.url, "customers", 30)
	open(b, p.url)
	b.Await("it runs", fmt.Sprintf(`/running: customers: [1-9]/.test(%s)`, shown))
	p.kill()
	awaitState(b, "Connecting")
	p = startProcess(t, dir, strings.TrimPrefix(p.url, "http://"))
	awaitShown(b, "done: customers: 30 of 30: customers.csv")
	awaitState(b, "All exports have ended.")
	p.kill()
}

// While the server answers with errors, as a proxy does during a deployment, the page tries
// again.
func TestBrowserTrouble(t *testing.T) {
	b := browser.New(t)
	work := make(steps)
	s := start(t, t.TempDir(), anyPort, work.work)
	post(t, s.url, "customers", 1)
	s.trouble.Store(http.StatusBadGateway)
	open(b, s.url)
	awaitState(b, "Trouble. Trying again soon.")
	s.trouble.Store(0)
	work.do(1)
	awaitShown(b, "done: customers: 1 of 1: customers.csv")
	awaitState(b, "All exports have ended.")
}
