package main

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/elapsed"
)

// open opens the page of the machine.
func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url+"/"))
	b.await("both streams are open", bothOpen)
}

const bothOpen = `[...document.querySelectorAll(".wire")].every(w => w.dataset.state === "open")`

// shownLine is a line of the log on the page, with its event id.
type shownLine struct {
	End  int64
	Text string
}

// shown returns the lines that the page shows.
func (b *tab) shown() []shownLine {
	b.t.Helper()
	return eval[[]shownLine](b, `[...document.querySelectorAll("#lines .line")].map(line => ({
		End: Number(line.querySelector(".at").textContent.replaceAll(",", "")),
		Text: line.querySelector(".text").textContent,
	}))`)
}

// requireWhole requires that the page shows each line of the file once, from the first line
// that it shows to the end of the file. The page must also say so.
func (b *tab) requireWhole(path string) {
	b.t.Helper()
	var text string
	var got []shownLine
	require.Eventually(b.t, func() bool {
		text = read(b.t, path)
		got = b.shown()
		return len(got) > 0 && got[len(got)-1].End == int64(len(text))
	}, patience, 20*time.Millisecond, "the page does not show the end of the file")
	at := got[0].End - int64(len(got[0].Text)) - 1
	var want []shownLine
	for line := range strings.Lines(text[at:]) {
		at += int64(len(line))
		want = append(want, shownLine{at, strings.TrimSuffix(line, "\n")})
	}
	require.Equal(b.t, want, got)
	assert.Contains(b.t, eval[string](b, `document.querySelector("#proof").textContent`), "none lost, none repeated")
}

func TestBrowserShowsLiveCharts(t *testing.T) {
	b := newTab(t)
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	b.open(p.url)

	b.await("values are shown", `[...document.querySelectorAll(".strip .value")].every(v => /\d/.test(v.textContent))`)
	b.await("lines are drawn", `[...document.querySelectorAll(".chart")].every(c => c.querySelector("path.first:not(.area)"))`)
	const state = `[document.querySelector("#cpu .chart path.first:not(.area)").getAttribute("d"), document.querySelector("#wire-vitals .id").textContent].join()`
	for range 3 {
		before := eval[string](b, state)
		b.await("the chart moves", fmt.Sprintf("%s !== %q", state, before))
	}
	assert.NotEmpty(t, eval[string](b, `document.querySelector("#host").textContent.trim()`))

	// A page that is reloaded gets the history.
	b.do(chromedp.Reload())
	b.await("the history is drawn", `document.querySelector("#cpu .chart path.first:not(.area)")?.getAttribute("d").split("L").length >= 4`)
	assert.Empty(t, b.complaints())
}

func TestBrowserShowsTheLog(t *testing.T) {
	b := newTab(t)
	path := t.TempDir() + "/access.log"
	p := runProgram(t, "127.0.0.1:0", path)
	b.open(p.url)
	count := func() int { return eval[int](b, `document.querySelectorAll("#lines .line").length`) }

	b.await("the page's own files are in the log", `document.querySelectorAll("#lines .line").length >= 4`)
	b.do(chromedp.Click("#one"))
	b.await("the request is in the log", `document.querySelector("#lines .line:last-of-type .text").textContent.endsWith('"GET /hello HTTP/1.1"')`)
	before := count()
	b.do(chromedp.Click("#twenty"))
	b.await("twenty requests are in the log", fmt.Sprintf(`document.querySelectorAll("#lines .line").length >= %d`, before+20))
	b.requireWhole(path)

	// Strangers can write into this log.
	evil := `/<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`
	conn := rawGet(t, p.url, strings.ReplaceAll(evil, " ", "\t"))
	readUntil(t, conn, "\r\n\r\n")
	rawGet(t, p.url, `/<b>bold</b>`)
	b.await("the request of a stranger is shown", `document.querySelector("#lines").textContent.includes("<b>bold</b>")`)
	assert.Zero(t, eval[int](b, `document.querySelectorAll("#lines img, #lines script, #lines b").length`))
	assert.Equal(t, "This machine, live", eval[string](b, "document.title"))

	// The log follows its end unless the reader has scrolled away from it.
	for range 60 {
		get(t, p.url+"/hello")
	}
	b.requireWhole(path)
	atEnd := `(l => l.scrollHeight - l.scrollTop - l.clientHeight < 2)(document.querySelector("#lines"))`
	b.await("the log is at its end", atEnd)
	eval[int](b, `document.querySelector("#lines").scrollTop = 100`)
	b.await("there is a way back", `!document.querySelector("#newest").hidden`)
	get(t, p.url+"/hello")
	b.await("new lines are counted", `document.querySelector("#newest").textContent === "1 new"`)
	assert.Equal(t, 100, eval[int](b, `document.querySelector("#lines").scrollTop`))
	b.do(chromedp.Click("#newest"))
	b.await("the log is at its end again", atEnd+` && document.querySelector("#newest").hidden`)

	// The page keeps a bounded number of lines.
	for range 30 {
		b.do(chromedp.Click("#twenty"))
	}
	b.await("old lines go", `document.querySelectorAll("#lines .line").length === 500`)
	b.requireWhole(path)
	assert.Empty(t, b.complaints())
}

func TestBrowserReconnectsAfterADrop(t *testing.T) {
	b := newTab(t)
	path := t.TempDir() + "/access.log"
	p := runProgram(t, "127.0.0.1:0", path)
	b.open(p.url)
	for i := 1; i <= 2; i++ {
		b.do(chromedp.Click("#drop"))
		b.await("the page says that it retries", `[...document.querySelectorAll(".state")].every(s => /^retrying in \d/.test(s.textContent))`)
		get(t, p.url+"/hello?missed")
		b.await("both streams are open", bothOpen)
		assert.Equal(t, fmt.Sprintf("%d%[1]d", i), eval[string](b, `[...document.querySelectorAll(".reconnects")].map(r => r.textContent).join("")`))
		b.await("the page says where it goes on", fmt.Sprintf(`document.querySelectorAll("#lines .notice").length === %d`, 2*i))
		b.requireWhole(path)
	}
	assert.Equal(t, 2, strings.Count(read(t, path), "/hello?missed"))
	// After the page has reconnected, it gets the samples that it missed.
	b.await("the outage is drawn", `document.querySelector("#cpu .band")`)
	b.await("the chart has no hole", `document.querySelectorAll("#cpu .chart path.first:not(.area)").length === 1`)
	assert.Empty(t, b.complaints())
}

func TestBrowserReconnectsAfterARestart(t *testing.T) {
	b := newTab(t)
	path := t.TempDir() + "/access.log"
	p := runProgram(t, "127.0.0.1:0", path)
	addr := strings.TrimPrefix(p.url, "http://")
	b.open(p.url)
	b.do(chromedp.Click("#twenty"))

	for range 2 {
		require.NoError(t, p.stop())
		b.await("the page says that it retries", `document.querySelector("#wire-log").dataset.state === "retrying"`)
		time.Sleep(500 * time.Millisecond)
		p = runProgram(t, addr, path)
		for i := range 10 { // before the page reconnects
			get(t, fmt.Sprintf("%s/hello?meanwhile=%d", p.url, i))
		}
		b.await("both streams are open", bothOpen)
		b.do(chromedp.Click("#one"))
		b.requireWhole(path)
	}
	for _, m := range b.complaints() { // the browser reports each attempt that fails
		assert.Regexp(t, "ERR_CONNECTION_REFUSED|ERR_SOCKET_NOT_CONNECTED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE", m)
	}
}

// If a response is not a stream, a browser gives up forever. The page tries again.
func TestBrowserReconnectsAfterAProxyError(t *testing.T) {
	b := newTab(t)
	path := t.TempDir() + "/access.log"
	p := runProgram(t, "127.0.0.1:0", path)
	addr := strings.TrimPrefix(p.url, "http://")
	b.open(p.url)
	require.NoError(t, p.stop())

	listener, err := net.Listen("tcp", addr)
	require.NoError(t, err)
	var asked atomic.Int64
	proxy := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		http.Error(w, "the server is down", http.StatusBadGateway)
	})}
	go func() { _ = proxy.Serve(listener) }()
	require.Eventually(t, func() bool { return asked.Load() >= 4 }, 2*patience, 10*time.Millisecond)
	require.NoError(t, proxy.Close())

	p = runProgram(t, addr, path)
	get(t, p.url+"/hello")
	b.await("both streams are open", bothOpen)
	b.requireWhole(path)
}

// A hidden page has no connections, and misses nothing.
func TestBrowserPausesWhileHidden(t *testing.T) {
	b := newTab(t)
	path := t.TempDir() + "/access.log"
	p := runProgram(t, "127.0.0.1:0", path)
	b.open(p.url)
	get(t, p.url+"/hello")
	b.requireWhole(path)
	hide := func(hidden bool) {
		eval[bool](b, fmt.Sprintf(`Object.defineProperty(document, "hidden", { value: %t, configurable: true })
			&& document.dispatchEvent(new Event("visibilitychange"))`, hidden))
	}
	hide(true)
	b.await("the streams pause", `[...document.querySelectorAll(".wire")].every(w => w.dataset.state === "paused")`)
	require.Eventually(t, func() bool { return strings.Count(read(t, path), "?page=") == 2 }, patience, 10*time.Millisecond)
	get(t, p.url+"/hello?meanwhile")
	hide(false)
	b.await("both streams are open", bothOpen)
	b.requireWhole(path)
	assert.Empty(t, b.complaints())
}

// The navigation marks the page that is open, in each theme.
func TestBrowserMarksTheCurrentPage(t *testing.T) {
	b := newTab(t)
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	for path, want := range map[string]string{"/": "Machine", "/chat": "Chat"} {
		b.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(p.url+path))
		assert.Equal(t, []string{want}, eval[[]string](b, `[...document.querySelectorAll("nav a[aria-current=page]")].map(a => a.textContent)`))
		assert.Equal(t, path, eval[string](b, `document.querySelector("nav a[aria-current]").pathname`))
		for _, theme := range []string{"light", "dark"} {
			b.setTheme(theme)
			style := func(link string) map[string]string {
				return eval[map[string]string](b, fmt.Sprintf(`(({ color, backgroundColor, borderBottomColor, fontWeight }) =>
					({ color, backgroundColor, borderBottomColor, fontWeight }))(getComputedStyle(document.querySelector(%q)))`, link))
			}
			marked, other := style("nav a[aria-current]"), style("nav a:not([aria-current])")
			for property := range marked {
				assert.NotEqual(t, other[property], marked[property], "%s of %s, %s", property, want, theme)
			}
		}
	}
}

// The pages and the Go programs format durations by the same rule.
func TestBrowserFormatsDurations(t *testing.T) {
	b := newTab(t)
	b.open(runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log").url)
	var want []string
	durations := []float64{0, 0.34, 9.876, 10, 843, 9999, 10_000, 12_345, 90_000, 599_000, 600_000, 5_400_000, 36_000_000, 90_000_000}
	for _, ms := range durations {
		want = append(want, elapsed.Text(time.Duration(ms*float64(time.Millisecond))))
	}
	list, err := json.Marshal(durations)
	require.NoError(t, err)
	eval[int](b, fmt.Sprintf(`setTimeout(async () => { window.texts = %s.map((await import("./took.js")).took); })`, list))
	b.await("the module is loaded", `window.texts`)
	assert.Equal(t, want, eval[[]string](b, `window.texts`))
}

func TestBrowserLooks(t *testing.T) {
	b := newTab(t)
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	b.open(p.url)
	b.do(chromedp.Click("#twenty"), chromedp.Click("#drop"))
	b.await("the page says where it goes on", `document.querySelectorAll("#lines .notice").length === 2`)
	b.requireLooks()
	assert.Empty(t, b.complaints())
}
