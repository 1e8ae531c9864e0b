package main

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse"
	"github.com/chi-sse/sse/example/internal/browser"
	"github.com/chi-sse/sse/example/internal/nginx"
	"github.com/chi-sse/sse/internal/testkit"
)

const (
	answerText = `document.querySelector("#answer").textContent`
	stateText  = `document.querySelector("#state").textContent`
)

// open opens the page.
func open(b *browser.Tab, url string) {
	b.Do(chromedp.EmulateViewport(1000, 700), chromedp.Navigate(url+"/"))
	b.Await("the page is there", `document.querySelector("form").onsubmit`)
}

func click(b *browser.Tab, button string) {
	browser.Eval[bool](b, fmt.Sprintf("(document.querySelector(%q).click(), true)", button))
}

// shows waits until the page shows this.
func shows(b *browser.Tab, answer, state string) {
	b.Await(answer+" / "+state, fmt.Sprintf("%s === %q && %s === %q", answerText, answer, stateText, state))
}

// behindNginx starts nginx with the guide's configuration.
func behindNginx(t *testing.T, url string) string {
	t.Helper()
	return nginx.Start(t, testkit.ReadFile(t, "nginx.conf"), url)
}

// The page asks the program, directly and behind nginx. The prompt says what the model does.
func TestBrowser(t *testing.T) {
	asked, steps := make(chan bool), make(chan []string)
	left := make(chan time.Time, 1)
	s := start(t, func(a *api) {
		asked <- true
		switch a.prompt {
		case "busy":
			refuses(429, "Retry-After", "7")(a)
			return
		case "late":
			a.send(": nothing yet\n\n")
		default:
			a.send(role)
		}
		for {
			select {
			case events := <-steps:
				if events == nil {
					panic(http.ErrAbortHandler)
				}
				a.send(events...)
				if events[len(events)-1] == done {
					return
				}
			case <-a.ctx.Done():
				left <- time.Now()
				return
			}
		}
	}, testkit.Patience, sse.Config{})
	first := browser.New(t)
	for name, url := range map[string]string{"direct": s.url, "nginx": behindNginx(t, s.url)} {
		t.Run(name, func(t *testing.T) {
			b := first.Another()
			open(b, url)
			ask := func(prompt string) {
				browser.Eval[string](b, fmt.Sprintf(`document.querySelector("[name=prompt]").value = %q`, prompt))
				click(b, "#ask")
				testkit.Receive(t, asked)
			}
			ask("all")
			shows(b, "", "Waiting for the model.")
			steps <- []string{token("Hi, "), token(hostile)} // they are shown before the model goes on
			shows(b, "Hi, "+strings.ReplaceAll(hostile, "\r\n", "\n"), "The model answers.")
			steps <- []string{token(" Bye."), ended, done}
			shows(b, "Hi, "+strings.ReplaceAll(hostile, "\r\n", "\n")+" Bye.", "")
			assert.Equal(t, "Ask", browser.Eval[string](b, "document.title"))

			ask("stopped")
			steps <- []string{token("Once upon a time")}
			shows(b, "Once upon a time", "The model answers.")
			b.Picture("answer-" + name)
			clicked := time.Now()
			click(b, "#stop")
			shows(b, "Once upon a time", "Stopped.")
			t.Logf("from the click to the API: %v", testkit.Receive(t, left).Sub(clicked))

			ask("late")
			shows(b, "", "Waiting for the model.")
			click(b, "#stop")
			shows(b, "", "Stopped.")
			testkit.Receive(t, left)

			ask("closed")
			steps <- []string{token("Once")}
			shows(b, "Once", "The model answers.")
			b.Do(chromedp.Navigate("about:blank"))
			testkit.Receive(t, left)
			open(b, url)

			ask("busy")
			shows(b, "", "Trouble: the model is busy; try again in 7 seconds.")
			browser.Eval[bool](b, `(document.querySelector("[name=prompt]").value = "x".repeat(70_000), document.querySelector("#ask").click(), true)`)
			shows(b, "", "Trouble: the body must be JSON with a prompt, of at most 64 KiB.")
			ask("broken")
			steps <- []string{token("Once")}
			shows(b, "Once", "The model answers.")
			steps <- nil
			shows(b, "Once", "Trouble: the model has broken off.")
			ask("cut off")
			steps <- []string{token("Once"), strings.Replace(ended, `"stop"`, `"length"`, 1), done}
			shows(b, "Once", "Trouble: the answer is not complete (length).")
			b.Picture("answer-trouble-" + name)
			b.RequireLooks()
		})
	}
}

// If the connection to the program breaks, the page does not take the answer for complete.
func TestBrowserLosesTheProgram(t *testing.T) {
	s := start(t, func(a *api) { a.send(role, token("Once")); <-a.ctx.Done() }, testkit.Patience, sse.Config{})
	b := browser.New(t)
	open(b, behindNginx(t, s.url))
	click(b, "#ask")
	shows(b, "Once", "The model answers.")
	s.cut()
	b.Await("trouble", stateText+`.startsWith("Trouble: ")`)
	assert.Equal(t, "Once", browser.Eval[string](b, answerText))
}

// nginx passes each event on at once, also if it speaks HTTP/1.0, because of the header that the
// plugin sends.
func TestNginxBuffersWithoutTheHeader(t *testing.T) {
	s := start(t, func(a *api) { a.send(role, token("Once")); <-a.ctx.Done() }, testkit.Patience, sse.Config{})
	config := testkit.ReadFile(t, "nginx.conf")
	old := strings.Replace(config, "proxy_http_version 1.1", "proxy_http_version 1.0", 1)
	deaf := strings.Replace(old, "proxy_read_timeout", "proxy_ignore_headers X-Accel-Buffering;\n\t\tproxy_read_timeout", 1)
	for _, tt := range []struct {
		config   string
		patience time.Duration
	}{{config, testkit.Patience}, {old, testkit.Patience}, {deaf, 500 * time.Millisecond}} {
		ctx, cancel := context.WithTimeout(t.Context(), tt.patience)
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, nginx.Start(t, tt.config, s.url)+"/answers", strings.NewReader(hello))
		require.NoError(t, err)
		req.Header.Set("Accept", stream)
		resp, err := http.DefaultClient.Do(req)
		if err == nil {
			_, err = io.ReadFull(resp.Body, make([]byte, len("event: text\ndata: Once\n\n")))
			_ = resp.Body.Close()
		}
		cancel()
		if tt.config == deaf {
			require.ErrorIs(t, err, context.DeadlineExceeded)
			continue
		}
		require.NoError(t, err)
		assert.Empty(t, resp.Header.Get("X-Accel-Buffering"), "it is for nginx")
	}
}

// nginx passes on that a stream is cut off.
func TestNginxCutsOff(t *testing.T) {
	s := start(t, breaks(role, token("Once")), testkit.Patience, sse.Config{})
	events, err := ask(t, behindNginx(t, s.url))
	require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	assert.Equal(t, []string{"text Once", "failed the model has broken off"}, events)
}

// Behind nginx, too, a client that does not read holds back the API, and then the API is left.
func TestNginxHoldsBack(t *testing.T) {
	var sent atomic.Int64
	const all = 200 << 20
	s := start(t, endless(&sent, all), testkit.Patience, sse.Config{WriteTimeout: 300 * time.Millisecond})
	resp := post(t, behindNginx(t, s.url), stream, hello)
	defer resp.Body.Close()
	assert.Equal(t, sse.EndWriteTimeout, testkit.Receive(t, s.ends).Reason)
	assert.Less(t, sent.Load(), int64(all)/4)
	t.Logf("the API has sent %d KiB", sent.Load()>>10)
}

// events.js finds the same events as EventSource, wherever the stream is cut.
func TestEventsLikeEventSource(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	lines := []string{"", "", "", "data", "data: x", "data:y", "data:  z", "data:", "event: a", "event:b", "event", ":", ": comment", "id: 7", "id:8", "id", "nothing: here", "data: é日🙂\u2028\u0085", "datax: y", " data: x", "\ufeff"}
	breaks := []string{"\n", "\n", "\r", "\r\n"}
	var streams []string
	for range 60 {
		text := []string{"data: first\n", "\ufeffdata: first\n"}[rng.IntN(2)] // Chromium overlooks a line break that follows a byte order mark at once
		for range rng.IntN(40) {
			text += lines[rng.IntN(len(lines))] + breaks[rng.IntN(len(breaks))]
		}
		streams = append(streams, text+[]string{"", "data: not whole"}[rng.IntN(2)])
	}
	mux := http.NewServeMux()
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "<!doctype html>") })
	mux.HandleFunc("/events.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFileFS(w, r, files, "events.js") })
	mux.HandleFunc("/stream", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", stream)
		var n int
		_, _ = fmt.Sscan(r.URL.Query().Get("n"), &n)
		cut := rand.New(rand.NewPCG(3, uint64(n)))
		for text := []byte(streams[n]); len(text) > 0; {
			length := min(len(text), 1+cut.IntN(5))
			_, _ = w.Write(text[:length])
			_ = http.NewResponseController(w).Flush()
			text = text[length:]
		}
	})
	b := browser.New(t)
	b.Do(chromedp.Navigate(testkit.Serve(t, mux).URL + "/"))
	browser.Eval[bool](b, fmt.Sprintf(`(async () => {
		const { events } = await import("/events.js");
		window.found = [];
		for (let n = 0; n < %d; n++) {
			const ours = [], theirs = [];
			for await (const event of events((await fetch("/stream?n=" + n)).body)) if (event.name) ours.push([event.name, event.data, event.id]);
			await new Promise(resolve => {
				const source = new EventSource("/stream?n=" + n);
				for (const name of ["message", "a", "b"]) source.addEventListener(name, e => theirs.push([e.type, e.data, e.lastEventId]));
				source.onerror = () => { source.close(); resolve(); };
			});
			found.push([JSON.stringify(ours), JSON.stringify(theirs)]);
		}
	})(), true`, len(streams)))
	b.Await("all have been read", fmt.Sprintf("window.found?.length === %d", len(streams)))
	some := 0
	for n, found := range browser.Eval[[][2]string](b, "window.found") {
		assert.Equal(t, found[1], found[0], "%q", streams[n])
		some += strings.Count(found[1], "[")
	}
	assert.Greater(t, some, 100)
}
