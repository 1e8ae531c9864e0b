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
)

// openChat opens the room under a name, as it is after a change of name and a reload.
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

// said returns what the window shows of the talk, and of what happened to it.
func (b *tab) said() []string {
	b.t.Helper()
	return eval[[]string](b, `[...document.querySelectorAll("#lines > *")].map(row => row.matches(".line")
		? row.querySelector(".at").textContent + " " + row.querySelector(".who").textContent + ": " + row.querySelector("p").textContent + (row.matches(".missed") ? " (missed)" : "")
		: row.textContent.replace(/\d+\.\d s/, "N s"))`)
}

func (b *tab) awaitSaid(want ...string) {
	b.t.Helper()
	assert.EventuallyWithT(b.t, func(c *assert.CollectT) {
		assert.Equal(c, want, b.said())
	}, 2*patience, 50*time.Millisecond)
}

// twoWindows opens the room in two windows.
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
	assert.Equal(t, "One room, live", eval[string](otter, "document.title"))

	// A newcomer sees what was said, and who is here.
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
	eval[int](lynx, `setTimeout(() => history.back())`) // the browser may have kept the page
	lynx.await("it is here again", `location.pathname === "/chat"`)
	for _, b := range []*tab{otter, heron, lynx} {
		b.await("it is back", whoIsHere+` === "3: Amber Heron, Rust Lynx, Teal Otter"`)
	}
	assert.Equal(t, "Messages 1 to 3: none lost, none repeated.", eval[string](lynx, proof))
	leave()

	// The keyboard is enough, and what is wrong is said.
	heron.do(chromedp.SendKeys("#text", "  "+kb.Enter))
	heron.await("it says why not", complaint+` === "the text is empty"`)
	long := strings.Repeat("x", maxText+1)
	eval[string](heron, fmt.Sprintf(`document.querySelector("#text").value = %q`, long))
	heron.do(chromedp.SendKeys("#text", kb.Enter))
	heron.await("it says why not", complaint+` === "the text is too long: 501 characters, of at most 500"`)
	assert.Equal(t, long, eval[string](heron, `document.querySelector("#text").value`), "what was typed is kept")
	eval[string](heron, `document.querySelector("#text").value = ""`)
	heron.say("short")
	assert.Empty(t, eval[string](heron, complaint))

	// A new name takes a new EventSource, which goes on where the old one was.
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
		assert.Contains(t, m, "400 (Bad Request)") // the browser tells of what it is answered
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
		assert.True(t, eval[bool](otter, chatLost), "all of it was missed")
		otter.await("the connection is back", chatOpen)
		heron.await("the other is back", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
	}
	otter.say("I am back")
	otter.awaitSaid(
		"You joined as Teal Otter.", "Amber Heron joined.", "1 Teal Otter: I am going",
		"The connection is gone.",
		"2 Amber Heron: 1.1 (missed)", "3 Amber Heron: 1.2 (missed)", "4 Amber Heron: 1.3 (missed)",
		"Resumed after N s: 3 missed messages.",
		"The connection is gone.",
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
	say(t, p.url, "Rust Lynx", "of the present") // before they are back
	for _, b := range []*tab{otter, heron} {
		b.await("the gap is told", `document.querySelector("#lines .gap")`)
		b.await("both are back", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
		said := b.said()
		require.GreaterOrEqual(t, len(said), 3)
		assert.Equal(t, []string{
			"A gap: the server was started anew, and what it knew is gone. So this is the room as the server has it now.",
			"1 Rust Lynx: of the present",
		}, said[:2])
		assert.Contains(t, said, "Connected again after N s, with a new snapshot.")
		assert.Equal(t, "Message 1: none lost, none repeated.", eval[string](b, proof))
	}
	heron.say("once")
	otter.await("it has come", proof+` === "Messages 1 to 2: none lost, none repeated."`)
	for _, m := range append(otter.complaints(), heron.complaints()...) { // the browser finds nobody there, and says so
		assert.Regexp(t, "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE", m)
	}
}

func TestBrowserChatLooks(t *testing.T) {
	p, otter, heron := twoWindows(t)
	long := strings.Repeat("W", maxName)
	say(t, p.url, long, strings.Repeat("w", maxText))
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
