package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// findBrowser returns a Chromium, or skips the test. With SSE_NO_SKIP=1 it fails
// it, for those who want to be sure that it ran.
func findBrowser(t *testing.T) string {
	t.Helper()
	for _, name := range []string{
		"chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "headless-shell",
		"/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
		"/Applications/Chromium.app/Contents/MacOS/Chromium",
	} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	const missing = "no Chromium or Chrome found; install one, such as with apt install chromium, and have it on the PATH"
	if os.Getenv("SSE_NO_SKIP") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// tab is a page in a headless browser of its own.
type tab struct {
	t       *testing.T
	ctx     context.Context
	mu      sync.Mutex
	console []chromedp.ConsoleMessage
}

func newTab(t *testing.T) *tab {
	t.Helper()
	browser := findBrowser(t)
	data := t.TempDir()
	ctx, cancelAllocator := chromedp.NewExecAllocator(context.Background(),
		chromedp.ExecPath(browser),
		chromedp.UserDataDir(data),
		chromedp.Headless,
		chromedp.NoSandbox,
		chromedp.DisableGPU,
		chromedp.NoFirstRun,
		chromedp.NoDefaultBrowserCheck,
		chromedp.Flag("disable-background-networking", true),
		chromedp.Flag("disable-component-update", true),
		chromedp.Flag("disable-default-apps", true),
		chromedp.Flag("disable-extensions", true),
		chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-dev-shm-usage", true),
		chromedp.Flag("no-proxy-server", true),
	)
	t.Cleanup(cancelAllocator)
	return newTabIn(ctx, t)
}

// another returns another page in the same browser.
func (b *tab) another() *tab {
	b.t.Helper()
	return newTabIn(b.ctx, b.t)
}

func newTabIn(ctx context.Context, t *testing.T) *tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx)
	b := &tab{t: t, ctx: ctx}
	t.Cleanup(func() {
		ctx, stop := context.WithTimeout(ctx, patience)
		defer stop()
		_ = chromedp.Cancel(ctx)
		cancel()
	})
	require.NoError(t, chromedp.Do(ctx))
	messages := chromedp.Console(ctx)
	go func() {
		for m, err := range messages {
			if err != nil {
				return
			}
			b.mu.Lock()
			b.console = append(b.console, m)
			b.mu.Unlock()
		}
	}()
	return b
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, steps...))
}

func (b *tab) open(url string) {
	b.t.Helper()
	b.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url+"/"))
	b.await("both streams are open", bothOpen)
}

const bothOpen = `[...document.querySelectorAll(".wire")].every(w => w.dataset.state === "open")`

// eval returns the value of an expression.
func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err, expression)
	return v
}

// await waits until an expression is true.
func (b *tab) await(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		if eval[bool](b, "Boolean("+expression+")") {
			return
		}
		if time.Now().After(deadline) {
			require.Fail(b.t, "it never came that "+what, "%s\n%s", expression, eval[string](b, "document.body.innerText"))
		}
	}
}

// complaints returns what the browser had to say that no good page makes it say.
func (b *tab) complaints() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.console {
		all = append(all, m.String())
	}
	return all
}

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

// requireWhole requires that the page shows the file, from its first line shown to
// the end, with no line lost and none repeated; and that it says so itself.
func (b *tab) requireWhole(path string) {
	b.t.Helper()
	var text string
	var got []shownLine
	require.Eventually(b.t, func() bool {
		text = read(b.t, path)
		got = b.shown()
		return len(got) > 0 && got[len(got)-1].End == int64(len(text))
	}, patience, 20*time.Millisecond, "the page does not come to the end of the file")
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

	// Who comes again finds the history there.
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

	// Strangers write in this log.
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
	// The samples of the time without connection came after it.
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
		for i := range 10 { // before the page is back
			get(t, fmt.Sprintf("%s/hello?meanwhile=%d", p.url, i))
		}
		b.await("both streams are open", bothOpen)
		b.do(chromedp.Click("#one"))
		b.requireWhole(path)
	}
	for _, m := range b.complaints() { // the browser finds nobody there, and says so
		assert.Regexp(t, "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE", m)
	}
}

// A browser gives up for ever on an answer that is no stream. The page does not.
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
		http.Error(w, "nobody home", http.StatusBadGateway)
	})}
	go func() { _ = proxy.Serve(listener) }()
	require.Eventually(t, func() bool { return asked.Load() >= 4 }, 2*patience, 10*time.Millisecond)
	require.NoError(t, proxy.Close())

	p = runProgram(t, addr, path)
	get(t, p.url+"/hello")
	b.await("both streams are open", bothOpen)
	b.requireWhole(path)
}

// A page that nobody looks at holds no connections, and misses nothing.
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

func TestBrowserLooks(t *testing.T) {
	b := newTab(t)
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	b.open(p.url)
	b.do(chromedp.Click("#twenty"), chromedp.Click("#drop"))
	b.await("the page says where it goes on", `document.querySelectorAll("#lines .notice").length === 2`)
	b.requireLooks()
	assert.Empty(t, b.complaints())
}

// requireLooks has the page drawn for each theme, on phones and desktops.
func (b *tab) requireLooks() {
	b.t.Helper()
	grounds := map[string]string{}
	for _, theme := range []string{"light", "dark"} {
		_, err := chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
			Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
		})
		require.NoError(b.t, err)
		grounds[theme] = eval[string](b, "getComputedStyle(document.body).backgroundColor")
		for _, width := range []int64{320, 360, 390, 768, 1280, 1400, 1920} {
			name := fmt.Sprintf("%s at %d px", theme, width)
			b.do(chromedp.EmulateViewport(width, 844))
			assert.Equal(b.t, width, eval[int64](b, "document.documentElement.scrollWidth"), "%s: it must not scroll sideways", name)
			assert.Empty(b.t, eval[[]string](b, tooWide), "%s: cut off", name)
		}
		assert.Empty(b.t, eval[[]string](b, tooFaint), theme)
	}
	assert.NotEqual(b.t, grounds["light"], grounds["dark"])
}

// tooWide lists the elements that stick out of the page.
const tooWide = `[...document.querySelectorAll("body *:not(.unseen)")]
	.filter(e => !e.closest("svg") && e.getBoundingClientRect().right > innerWidth + 1)
	.map(e => e.outerHTML.slice(0, 80))`

// tooFaint lists the texts whose contrast to their ground is below 4.5 to 1, which
// is what WCAG 2 asks for at level AA.
const tooFaint = `(() => {
	const rgb = color => color.match(/[\d.]+/g).map(Number);
	const light = color => {
		const [r, g, b] = rgb(color).map(c => c / 255).map(c => c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4);
		return .2126 * r + .7152 * g + .0722 * b;
	};
	const ground = e => {
		const color = getComputedStyle(e).backgroundColor;
		return rgb(color)[3] === 0 && e.parentElement ? ground(e.parentElement) : color;
	};
	return [...document.querySelectorAll("body *")]
		.filter(e => [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim()))
		.map(e => {
			const [a, b] = [light(getComputedStyle(e).color), light(ground(e))].sort((a, b) => b - a);
			return [(a + .05) / (b + .05), e.outerHTML.slice(0, 80)];
		})
		.filter(([ratio]) => ratio < 4.5)
		.map(([ratio, html]) => ratio.toFixed(2) + " " + html);
})()`
