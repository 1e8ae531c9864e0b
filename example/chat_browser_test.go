package main

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/chromedp/chromedp/kb"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/chat"
)

// openChat opens the chat under name, as if the user had chosen that name and reloaded.
func (b *tab) openChat(url, name string) {
	b.t.Helper()
	_, err := chromedp.Call(b.ctx, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{
		Source: fmt.Sprintf(`sessionStorage.setItem("name", %q)`, name),
	})
	require.NoError(b.t, err)
	b.do(chromedp.EmulateViewport(1280, 900), chromedp.Navigate(url+"/chat"))
	b.await("the stream is open", chatOpen)
	b.await("this window is among the people", fmt.Sprintf(`document.querySelector("#people .you")?.firstChild.data === %q`, name))
}

const (
	chatOpen  = `document.querySelector("#wire").dataset.state === "open"`
	chatLost  = `document.querySelector("#wire").dataset.state === "retrying"`
	whoIsHere = `document.querySelector("#count").textContent + ": " + [...document.querySelectorAll("#people li")].map(p => p.firstChild.data).sort().join(", ")`
	proof     = `document.querySelector("#proof").textContent`
	complaint = `document.querySelector("#error").textContent`
)

// say types a message and presses Enter.
func (b *tab) say(text string) {
	b.t.Helper()
	b.do(chromedp.SendKeys("#text", text+kb.Enter))
	b.await("the message has come", fmt.Sprintf(`[...document.querySelectorAll("#lines .line p")].at(-1)?.textContent === %q`, text))
}

// said returns the messages and notices that the window shows.
func (b *tab) said() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("#lines > *")].map(row => row.matches(".line")
		? row.querySelector(".at").textContent + " " + row.querySelector(".who").textContent + ": " + row.querySelector("p").textContent + (row.matches(".missed") ? " (missed)" : "")
		: row.textContent.replace(/\d+(\.\d)? (ms|s)\b/, "N s"))`)
}

// awaitSaid waits until the window shows exactly these messages and notices.
func (b *tab) awaitSaid(want ...string) {
	b.t.Helper()
	assert.EventuallyWithT(b.t, func(c *assert.CollectT) {
		assert.Equal(c, want, b.said())
	}, 2*patience, 50*time.Millisecond)
}

// twoWindows starts the program and opens its chat in two windows.
func twoWindows(t *testing.T) (p *program, otter, heron *tab) {
	t.Helper()
	otter = newTab(t)
	heron = otter.another()
	p = runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	otter.openChat(p.url, "Teal Otter")
	heron.openChat(p.url, "Amber Heron")
	otter.await("the other is here", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
	return p, otter, heron
}

func TestBrowserChat(t *testing.T) {
	p, otter, heron := twoWindows(t)
	heron.await("both are here", whoIsHere+` === "2: Amber Heron, Teal Otter"`)

	otter.say("Hello")
	heron.await("it has come", proof+` === "Message 1: none lost, none repeated."`)
	heron.say("Hello yourself")
	evil := `<img src=x onerror="document.title='broken'"><script>document.title='broken'</script>`
	heron.say(evil)
	otter.awaitSaid("You joined as Teal Otter.", "Amber Heron joined.",
		"1 Teal Otter: Hello", "2 Amber Heron: Hello yourself", "3 Amber Heron: "+evil)
	heron.awaitSaid("You joined as Amber Heron.",
		"1 Teal Otter: Hello", "2 Amber Heron: Hello yourself", "3 Amber Heron: "+evil)
	assert.Zero(t, eval[int](otter, `document.querySelectorAll("#lines img, #lines script").length`))
	assert.Equal(t, "Chat room, live", eval[string](otter, "document.title"))

	// A new window shows the messages so far and the people.
	lynx := otter.another()
	lynx.openChat(p.url, "Rust Lynx")
	lynx.awaitSaid("1 Teal Otter: Hello", "2 Amber Heron: Hello yourself", "3 Amber Heron: "+evil, "You joined as Rust Lynx.")
	for _, b := range []*tab{otter, heron, lynx} {
		b.await("three are here", whoIsHere+` === "3: Amber Heron, Rust Lynx, Teal Otter"`)
	}
	leave := func() {
		eval[int](lynx, `setTimeout(() => document.querySelector("nav a").click())`)
		lynx.await("it is elsewhere", `location.pathname === "/"`)
		for _, b := range []*tab{otter, heron} {
			b.await("two are left", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
		}
	}
	leave()
	eval[int](lynx, `setTimeout(() => history.back())`) // the browser may have kept the page open
	lynx.await("it is here again", `location.pathname === "/chat"`)
	for _, b := range []*tab{otter, heron, lynx} {
		b.await("it is back", whoIsHere+` === "3: Amber Heron, Rust Lynx, Teal Otter"`)
	}
	assert.Equal(t, "Messages 1 to 3: none lost, none repeated.", eval[string](lynx, proof))
	leave()

	// The keyboard is enough, and the page shows errors.
	heron.do(chromedp.SendKeys("#text", "  "+kb.Enter))
	heron.await("it says why not", complaint+` === "the text must not be empty"`)
	long := strings.Repeat("x", chat.MaxText+1)
	eval[string](heron, fmt.Sprintf(`document.querySelector("#text").value = %q`, long))
	heron.do(chromedp.SendKeys("#text", kb.Enter))
	heron.await("it says why not", complaint+` === "the text has 501 characters; it must have at most 500"`)
	assert.Equal(t, long, eval[string](heron, `document.querySelector("#text").value`), "the page must keep what was typed")
	eval[string](heron, `document.querySelector("#text").value = ""`)
	heron.say("short")
	assert.Empty(t, eval[string](heron, complaint))

	// For a new name the page opens a new EventSource, which resumes where the old one was.
	eval[string](heron, `document.querySelector("#name").value = "Olive Owl"`)
	heron.do(chromedp.SendKeys("#name", kb.Enter))
	for _, b := range []*tab{otter, heron} {
		b.await("it has another name", whoIsHere+` === "2: Olive Owl, Teal Otter"`)
	}
	heron.say("Still here")
	otter.await("all has come", proof+` === "Messages 1 to 5: none lost, none repeated."`)
	heron.await("all has come", proof+` === "Messages 1 to 5: none lost, none repeated."`)
	assert.Empty(t, otter.complaints())
	for _, m := range heron.complaints() {
		assert.Contains(t, m, "400 (Bad Request)") // the browser reports error responses
	}
}

func TestBrowserChatResumes(t *testing.T) {
	_, otter, heron := twoWindows(t)
	otter.say("I am going")
	for i := range 2 {
		otter.do(chromedp.Click("#cut"))
		otter.await("the connection is lost", chatLost)
		heron.await("the other has left", whoIsHere+` === "1: Amber Heron"`)
		for n := range 3 {
			heron.say(fmt.Sprintf("%d.%d", i+1, n+1))
		}
		assert.True(t, eval[bool](otter, chatLost), "the window must have missed all of them")
		otter.await("the connection is back", chatOpen)
		heron.await("the other is back", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
	}
	otter.say("I am back")
	otter.awaitSaid(
		"You joined as Teal Otter.", "Amber Heron joined.", "1 Teal Otter: I am going",
		"The connection was lost.",
		"2 Amber Heron: 1.1 (missed)", "3 Amber Heron: 1.2 (missed)", "4 Amber Heron: 1.3 (missed)",
		"Resumed after N s: 3 missed messages.",
		"The connection was lost.",
		"5 Amber Heron: 2.1 (missed)", "6 Amber Heron: 2.2 (missed)", "7 Amber Heron: 2.3 (missed)",
		"Resumed after N s: 3 missed messages.",
		"8 Teal Otter: I am back",
	)
	otter.await("both are here", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
	assert.Equal(t, "Messages 1 to 8: none lost, none repeated.", eval[string](otter, proof))
	assert.Equal(t, "2", eval[string](otter, `document.querySelector("#wire .reconnects").textContent`))
	assert.Empty(t, otter.complaints())
	assert.Empty(t, heron.complaints())
}

func TestBrowserChatTellsOfAGap(t *testing.T) {
	p, otter, heron := twoWindows(t)
	otter.say("of the past")
	require.NoError(t, p.stop())
	for _, b := range []*tab{otter, heron} {
		b.await("the connection is lost", chatLost)
	}
	p = runProgram(t, strings.TrimPrefix(p.url, "http://"), t.TempDir()+"/access.log")
	say(t, p.url, "Rust Lynx", "of the present") // before the windows reconnect
	for _, b := range []*tab{otter, heron} {
		b.await("the gap is told", `document.querySelector("#lines .gap")`)
		b.await("both are back", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
		said := b.said()
		require.GreaterOrEqual(t, len(said), 3)
		assert.Equal(t, []string{
			"Some events are missing: the server has restarted and has lost its earlier events. This is the room as it is now.",
			"1 Rust Lynx: of the present",
		}, said[:2])
		assert.Contains(t, said, "Reconnected after N s, with a new snapshot.")
		assert.Equal(t, "Message 1: none lost, none repeated.", eval[string](b, proof))
	}
	heron.say("once")
	otter.await("it has come", proof+` === "Messages 1 to 2: none lost, none repeated."`)
	for _, m := range append(otter.complaints(), heron.complaints()...) { // the browser reports each attempt that fails
		assert.Regexp(t, "ERR_CONNECTION_REFUSED|ERR_SOCKET_NOT_CONNECTED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE", m)
	}
}

// The form for messages is in the window without scrolling, and the log is above it. This must
// hold for a short log, for a long one, and while a keyboard takes a part of the window.
func TestBrowserChatShowsItsForm(t *testing.T) {
	b := newTab(t)
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	b.openChat(p.url, "Teal Otter")
	type box struct{ Top, Bottom, Height float64 }
	boxOf := func(selector string) box {
		return eval[box](b, fmt.Sprintf(`(({ top, bottom, height }) => ({ Top: top, Bottom: bottom, Height: height }))(document.querySelector(%q).getBoundingClientRect())`, selector))
	}
	check := func(what string) {
		for _, window := range []struct{ width, height, log int64 }{ // log is the least height of the log
			{390, 844, 300}, {390, 450, 250}, {360, 640, 100}, {320, 568, 60}, {844, 390, 200}, // phones, one with a keyboard, one on its side
			{768, 1024, 400}, {1280, 900, 300}, {1280, 700, 200}, {1920, 1080, 400},
		} {
			name := fmt.Sprintf("%s, %d x %d", what, window.width, window.height)
			b.do(chromedp.EmulateViewport(window.width, window.height))
			require.Zero(t, eval[int](b, "scrollY"), name)
			say, log := boxOf("#say"), boxOf("#lines")
			assert.Less(t, say.Bottom, float64(window.height), "%s: the form is below the window", name)
			assert.Positive(t, say.Height, name)
			assert.GreaterOrEqual(t, log.Height, float64(window.log), "%s: the log is not high enough", name)
			assert.GreaterOrEqual(t, log.Top, 0.0, name)
			assert.LessOrEqual(t, log.Bottom, say.Top, "%s: the log covers the form", name)
			b.await(name+": the log is at its end", `(l => l.scrollHeight - l.scrollTop - l.clientHeight < 2)(document.querySelector("#lines"))`)
		}
	}
	check("short log")
	for range 100 {
		say(t, p.url, "Amber Heron", strings.Repeat("Hello ", 40))
	}
	b.await("all messages are shown", `document.querySelectorAll("#lines .line").length === 100`)
	check("long log")

	// Some browsers let the keyboard cover the page, and shrink only its visual viewport.
	b.do(chromedp.EmulateViewport(390, 844), chromedp.Focus("#text"))
	eval[bool](b, `Object.defineProperty(visualViewport, "height", { value: 430, configurable: true })
		&& visualViewport.dispatchEvent(new Event("resize"))`)
	assert.Less(t, boxOf("#say").Bottom, 430.0)
	assert.Greater(t, boxOf("#lines").Height, 250.0)
	b.do(chromedp.SendKeys("#text", "typed"+kb.Enter))
	b.await("the message has come", `[...document.querySelectorAll("#lines .line p")].at(-1)?.textContent === "typed"`)
	assert.Empty(t, b.complaints())
}

func TestBrowserChatLooks(t *testing.T) {
	p, otter, heron := twoWindows(t)
	long := strings.Repeat("W", chat.MaxName)
	say(t, p.url, long, strings.Repeat("w", chat.MaxText))
	heron.openChat(p.url, long)
	otter.do(chromedp.Click("#cut"))
	otter.await("the connection is lost", chatLost)
	say(t, p.url, long, "missed")
	otter.requireLooks()
	otter.await("the connection is back", `document.querySelector("#lines .resumed")`)
	otter.do(chromedp.SendKeys("#text", kb.Enter))
	otter.await("it says why not", complaint)
	otter.requireLooks()
}
