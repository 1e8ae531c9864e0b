// Package browser drives a headless Chromium for the tests of this module's pages.
package browser

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// patience is how long a step may take.
const patience = 10 * time.Second

// ForeignHost is the name of a site that is not the server's. The browser resolves it to this
// machine.
const ForeignHost = "foreign.example"

// find returns the path of a Chromium or Chrome. If there is none, it skips the test,
// or fails it if SSE_NO_SKIP=1 is set, so that a run can require the browser tests.
func find(t *testing.T) string {
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
	const missing = "no Chromium or Chrome found; install one, such as with apt-get install chromium, and put it on the PATH"
	if os.Getenv("SSE_NO_SKIP") == "1" {
		t.Fatal(missing)
	}
	t.Skip(missing)
	return ""
}

// Tab is a page in a headless browser.
type Tab struct {
	Context context.Context // for package chromedp
	t       *testing.T
	mu      sync.Mutex
	console []chromedp.ConsoleMessage
}

// New opens a page in a new browser. The end of the test closes it. If the machine has no
// browser, New skips the test, or fails it if SSE_NO_SKIP=1 is set.
func New(t *testing.T) *Tab {
	t.Helper()
	browser := find(t)
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
		chromedp.Flag("host-resolver-rules", "MAP "+ForeignHost+" 127.0.0.1"),
	)
	t.Cleanup(cancelAllocator)
	return newTabIn(ctx, t)
}

// Another opens another page in the same browser. The two have the same cookies.
func (b *Tab) Another() *Tab {
	b.t.Helper()
	return newTabIn(b.Context, b.t)
}

// newTabIn opens a page in the browser of ctx.
func newTabIn(ctx context.Context, t *testing.T) *Tab {
	t.Helper()
	ctx, cancel := chromedp.NewContext(ctx)
	b := &Tab{Context: ctx, t: t}
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

// Do runs steps in order.
func (b *Tab) Do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.Context, patience)
	defer cancel()
	require.NoError(b.t, chromedp.Do(ctx, steps...))
}

// Eval returns the value of an expression.
func Eval[T any](b *Tab, expression string) T {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.Context, patience)
	defer cancel()
	v, err := chromedp.Run(ctx, chromedp.Evaluate[T](expression))
	require.NoError(b.t, err, expression)
	return v
}

// Await waits until an expression is true.
func (b *Tab) Await(what, expression string) {
	b.t.Helper()
	for deadline := time.Now().Add(2 * patience); ; time.Sleep(20 * time.Millisecond) {
		if Eval[bool](b, "Boolean("+expression+")") {
			return
		}
		if time.Now().After(deadline) {
			require.Fail(b.t, "this has not happened: "+what, "%s\n%s", expression, Eval[string](b, "document.body.innerText"))
		}
	}
}

// Complaints returns the messages on the browser's console.
func (b *Tab) Complaints() (all []string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, m := range b.console {
		all = append(all, m.String())
	}
	return all
}

// Picture stores a picture of the page in the directory SSE_PICTURES, if that is set.
func (b *Tab) Picture(name string) {
	b.t.Helper()
	dir := os.Getenv("SSE_PICTURES")
	if dir == "" {
		return
	}
	picture, err := chromedp.Run(b.Context, chromedp.CaptureScreenshot())
	require.NoError(b.t, err)
	require.NoError(b.t, os.WriteFile(filepath.Join(dir, name+".png"), picture, 0o600))
}

// RequireLooks checks the page in each theme, on phones and desktops: all of it must be in the
// window's width, and all text must be readable.
func (b *Tab) RequireLooks() {
	b.t.Helper()
	grounds := map[string]string{}
	for _, theme := range []string{"light", "dark"} {
		b.SetTheme(theme)
		grounds[theme] = Eval[string](b, "getComputedStyle(document.body).backgroundColor")
		for _, width := range []int64{320, 360, 390, 768, 1280, 1400, 1920} {
			name := fmt.Sprintf("%s at %d px", theme, width)
			b.Do(chromedp.EmulateViewport(width, 844))
			assert.Equal(b.t, width, Eval[int64](b, "document.documentElement.scrollWidth"), "%s: the page must not scroll sideways", name)
			assert.Empty(b.t, Eval[[]string](b, tooWide), "%s: these elements are cut off", name)
		}
		assert.Empty(b.t, Eval[[]string](b, tooFaint), theme)
	}
	assert.NotEqual(b.t, grounds["light"], grounds["dark"])
}

// SetTheme sets the theme that the user prefers: light or dark.
func (b *Tab) SetTheme(theme string) {
	b.t.Helper()
	_, err := chromedp.Call(b.Context, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{
		Features: []*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: theme}},
	})
	require.NoError(b.t, err)
}

// tooWide lists the elements that stick out of the page.
const tooWide = `[...document.querySelectorAll("body *:not(.unseen)")]
	.filter(e => !e.closest("svg") && e.getBoundingClientRect().right > innerWidth + 1)
	.map(e => e.outerHTML.slice(0, 80))`

// tooFaint lists the texts whose contrast to their background is below 4.5 to 1, which WCAG 2
// requires at level AA.
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
