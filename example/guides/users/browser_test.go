package main

import (
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/browser"
)

const (
	stateText = `document.querySelector("#state").textContent`
	noteTexts = `[...document.querySelectorAll("#notes li")].map(line => line.textContent).join("|")`
)

// open opens the page.
func open(b *browser.Tab, url string) {
	b.Do(chromedp.EmulateViewport(1000, 700), chromedp.Navigate(url+"/"))
	b.Await("the page is there", `document.querySelector("#login")?.onsubmit`)
}

func awaitState(b *browser.Tab, want string) {
	b.Await(want, fmt.Sprintf("%s === %q", stateText, want))
}

func logIn(b *browser.Tab, name string) {
	b.Await("the form is there", `!document.querySelector("#login").hidden`)
	b.Do(chromedp.SendKeys("#login input", name), chromedp.Click("#login button"))
}

func sendNote(b *browser.Tab, text string) {
	b.Do(chromedp.SendKeys("#note input", text), chromedp.Click("#note button"))
}

// watch makes the page keep what it has shown, and when it has shown a logout.
const watch = `(() => {
	const now = () => performance.timeOrigin + performance.now();
	window.seen = [];
	new MutationObserver(() => {
		if (document.querySelector("#state").textContent === "You have logged out.") window.knew = now();
	}).observe(document.querySelector("#state"), { childList: true });
	new MutationObserver(changes => changes.forEach(change => change.addedNodes.forEach(line => seen.push(line.textContent))))
		.observe(document.querySelector("#notes"), { childList: true });
	document.querySelector("#logout").addEventListener("click", () => { window.clicked = now(); }, { capture: true });
	return true;
})()`

// A user with five tabs logs out in one of them.
func TestBrowserLogout(t *testing.T) {
	s := start(t, options{})
	tabs := []*browser.Tab{browser.New(t)}
	open(tabs[0], s.url)
	awaitState(tabs[0], "You are not logged in.")
	logIn(tabs[0], "Ann")
	for range 4 {
		b := tabs[0].Another()
		open(b, s.url)
		tabs = append(tabs, b)
	}
	phone := s.visitor("Ann")
	phoneTab := phone.open()
	for _, b := range tabs {
		awaitState(b, "You are Ann.")
		browser.Eval[bool](b, watch)
	}
	require.Eventually(t, func() bool { return s.streams.Len() == 6 }, patience, time.Millisecond)
	evil := `<img src=x onerror="document.title='broken'">`
	sendNote(tabs[1], evil)
	for _, b := range tabs {
		b.Await("the note has come", fmt.Sprintf("%s === %q", noteTexts, evil))
	}
	tabs[0].Picture("users-inside")

	browser.Eval[bool](tabs[4], `(document.querySelector("#note input").value = "before", document.querySelector("#note").requestSubmit(), true)`)
	phoneTab.expect("note", evil)
	phoneTab.expect("note", "before")
	browser.Eval[bool](tabs[3], `(document.querySelector("#logout").click(), true)`)
	for _, b := range tabs {
		b.Await("it knows", "window.knew")
	}
	phone.note("after")
	phoneTab.expect("note", "after")

	clicked := browser.Eval[float64](tabs[3], "window.clicked")
	var took []float64
	for i, b := range tabs {
		took = append(took, browser.Eval[float64](b, "window.knew")-clicked)
		assert.Equal(t, []string{evil, "before"}, browser.Eval[[]string](b, "seen"), "tab %d", i)
		assert.Equal(t, "Notes to yourself", browser.Eval[string](b, "document.title"))
	}
	slices.Sort(took)
	t.Logf("from the click to the tabs' knowing: %.1f ms; the last one after %.1f ms", took, took[len(took)-1])
	time.Sleep(3 * time.Second) // three times as long as an EventSource waits here
	assert.EqualValues(t, 6, s.opened.Load(), "no stream was opened again")
	assert.Equal(t, 1, s.streams.Len(), "the phone's")
	for _, b := range tabs {
		awaitState(b, "You have logged out.")
		assert.Empty(t, browser.Eval[string](b, noteTexts))
		assert.NotContains(t, strings.Join(b.Complaints(), "\n"), "/events")
	}
	tabs[0].Picture("users-logged-out")
	tabs[0].RequireLooks()
	logIn(tabs[0], "Bob")
	awaitState(tabs[0], "You are Bob.")
	tabs[0].RequireLooks()
	assert.Empty(t, browser.Eval[string](tabs[0], noteTexts))
}

// Somebody blocks the user in the database. The page learns it from the answer to the request
// that the browser makes by itself.
func TestBrowserBlocked(t *testing.T) {
	s := start(t, options{recheck: 50 * time.Millisecond})
	b := browser.New(t)
	open(b, s.url)
	logIn(b, "Ann")
	awaitState(b, "You are Ann.")
	require.Eventually(t, func() bool { return s.app.hub.Count("user/1") == 1 }, patience, time.Millisecond)
	_, err := s.app.store.db.Exec(`UPDATE users SET blocked = 1`)
	require.NoError(t, err)
	awaitState(b, "You are not logged in.")
	assert.EqualValues(t, 2, s.opened.Load(), "the browser has asked once more")
}

// A tab beyond the limit waits, and gets its stream when another one is closed.
func TestBrowserLimit(t *testing.T) {
	s := start(t, options{})
	b := browser.New(t)
	open(b, s.url)
	logIn(b, "Ann")
	awaitState(b, "You are Ann.")
	phone := s.visitor("Ann")
	var others []*tab
	for range maxStreams - 1 {
		others = append(others, phone.open())
	}
	late := b.Another()
	open(late, s.url)
	awaitState(late, "You are Ann.")
	require.Eventually(t, func() bool { return s.opened.Load() > maxStreams+1 }, patience, time.Millisecond, "it tries again")
	others[0].session.Close()
	require.Eventually(t, func() bool {
		phone.note("hello")
		return browser.Eval[string](late, noteTexts) != ""
	}, patience, 100*time.Millisecond)
}

// A page of another origin logs in and out, and has its stream meanwhile.
func TestBrowserOtherOrigin(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	friend := "http://" + listener.Addr().String()
	s := start(t, options{origin: friend})
	site := start(t, options{api: s.url}, listener)
	b := browser.New(t)
	open(b, friend)
	logIn(b, "Ann")
	awaitState(b, "You are Ann.")
	sendNote(b, "hello")
	b.Await("the note has come", noteTexts+` === "hello"`)

	// It comes back as it does to its own origin.
	_, err = s.app.hub.Kick(t.Context(), "user/1", nil)
	require.NoError(t, err)
	s.visitor("Ann").note("meanwhile")
	b.Await("the note has come", noteTexts+` === "meanwhile|hello"`)
	assert.Zero(t, s.asked.Load(), "no request was preflighted")

	// The stream opens only with withCredentials, and only for this origin.
	before := s.streams.Len()
	tryIn := func(b *browser.Tab, options string) {
		browser.Eval[bool](b, fmt.Sprintf(`!!(window.other = new EventSource("%s/events", %s))`, s.url, options))
		b.Await("it is closed", "other.readyState === EventSource.CLOSED")
	}
	tryIn(b, "{}")
	stranger := start(t, options{api: s.url})
	foreign := b.Another()
	open(foreign, stranger.url)
	tryIn(foreign, "{ withCredentials: true }")
	open(foreign, strings.Replace(stranger.url, "127.0.0.1", browser.ForeignHost, 1))
	tryIn(foreign, "{ withCredentials: true }")
	assert.Equal(t, before, s.streams.Len())

	browser.Eval[bool](b, `(document.querySelector("#logout").click(), true)`)
	awaitState(b, "You have logged out.")
	assert.Zero(t, site.opened.Load())
}

// With SameSite=Lax, a page of another site is not logged in, even if its origin is allowed.
func TestBrowserOtherSite(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	friend := strings.Replace("http://"+listener.Addr().String(), "127.0.0.1", browser.ForeignHost, 1)
	s := start(t, options{origin: friend})
	start(t, options{api: s.url}, listener)
	b := browser.New(t)
	open(b, friend)
	logIn(b, "Ann")
	require.Eventually(t, func() bool {
		logins := 0
		require.NoError(t, s.app.store.db.QueryRow(`SELECT count(*) FROM logins`).Scan(&logins))
		return logins == 1
	}, patience, 10*time.Millisecond, "the request is allowed")
	time.Sleep(500 * time.Millisecond)
	awaitState(b, "You are not logged in.")
	assert.Zero(t, s.streams.Len())
	assert.Equal(t, http.StatusNoContent, s.visitor("Ann").post("/logout", nil))
}
