package main

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
)

// A page of another site, which happens to be open in the same browser, can neither join the
// chat nor post to it.
func TestBrowserRefusesTheChatToOtherSites(t *testing.T) {
	otter := newTab(t)
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	otter.openChat(p.url, "Teal Otter")

	other := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, `<!doctype html><title>another site</title><link rel="icon" href="data:,">`)
	}))
	t.Cleanup(other.Close)
	foreign := otter.another()
	for _, site := range []string{strings.Replace(other.URL, "127.0.0.1", foreignHost, 1), other.URL} { // another site, and another port
		foreign.do(chromedp.Navigate(site + "/"))
		eval[bool](foreign, fmt.Sprintf(`(() => {
			window.source = new EventSource("%s/chat/events?name=Intruder");
			window.frame = document.body.appendChild(document.createElement("iframe"));
			frame.src = "%[1]s/chat/events?name=Intruder";
			frame.onload = () => { window.framed = true; };
			const form = new URLSearchParams({ name: "Intruder", text: "Hello" });
			fetch("%[1]s/chat/messages", { method: "POST", mode: "no-cors", body: form }).finally(() => { window.posted = true; });
			return true;
		})()`, p.url))
		foreign.await("the browser has all responses", `source.readyState === EventSource.CLOSED && window.posted && window.framed`)
	}

	// A link on one of this server's own pages may lead to the stream.
	viewer := otter.another()
	viewer.do(chromedp.Navigate(p.url + "/hello"))
	eval[int](viewer, fmt.Sprintf(`setTimeout(() => { location = "%s/chat/events?name=Amber+Heron"; })`, p.url))
	otter.await("the own origin joins", whoIsHere+` === "2: Amber Heron, Teal Otter"`)
	otter.say("Hello")
	otter.awaitSaid("You joined as Teal Otter.", "Amber Heron joined.", "1 Teal Otter: Hello")
	assert.Empty(t, otter.complaints())
}
