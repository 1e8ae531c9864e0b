package main

import (
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/browser"
	"github.com/chi-sse/sse/example/internal/nginx"
	"github.com/chi-sse/sse/internal/testkit"
)

// shown is what the page shows: a line for each column.
const shown = `[...document.querySelectorAll("main ul")].map(column =>
	column.id + ": " + [...column.querySelectorAll("li > span")].map(text => JSON.stringify(text.textContent)).join(" ")).join("\n")`

func shows(b *browser.Tab, todo, doing, done string) {
	want := strings.TrimSpace("todo: "+todo) + "\n" + strings.TrimSpace("doing: "+doing) + "\n" + strings.TrimSpace("done: "+done)
	b.Await(want, "("+shown+").replaceAll(/ $/gm, '') === "+quote(want))
}

func click(b *browser.Tab, button string) {
	browser.Eval[bool](b, "(document.querySelector("+quote(button)+").click(), true)")
}

// hostile are texts that try to be more than texts: tags, the end of an event, and a line of Datastar's.
var hostile = []string{
	`</span></ul><img src=x onerror="document.title='broken'"><script>document.title = "broken"</script>`,
	"a\nselector body\nmode inner\nelements b", "a\rselector body\r\nmode remove", "a\n\nevent: message\ndata: b\n\n",
	`{{.}} " ' hx-get="/" data-text="document.title = 'broken'"`, "data: a\u2028: b",
}

// Cards move on the pages of both libraries, directly and behind nginx.
func TestBrowser(t *testing.T) {
	first := browser.New(t)
	for _, tt := range []struct {
		library string
		nginx   bool
	}{{"htmx", false}, {"datastar", false}, {"htmx", true}, {"datastar", true}} {
		name := tt.library
		if tt.nginx {
			name += " behind nginx"
		}
		t.Run(name, func(t *testing.T) {
			s := start(t)
			url := s.url
			if tt.library == "datastar" {
				url = asBeta(t, url)
			}
			if tt.nginx {
				url = nginx.Start(t, testkit.ReadFile(t, "../answer/nginx.conf"), url)
			}
			b := first.Another()
			s.down.Store(name == "htmx") // while the page is loaded
			b.Do(chromedp.EmulateViewport(1000, 500), chromedp.Navigate(url+"/"+strings.TrimPrefix(tt.library, "htmx")))
			b.Await("the page is there", `document.readyState === "complete"`)
			s.down.Store(false)
			s.streams(1)
			shows(b, `"one" "two"`, ``, ``)
			click(b, "#card-0 button[value=doing]")
			shows(b, `"two"`, `"one"`, ``)
			s.move("1", "done")
			click(b, "#card-0 button[value=done]")
			shows(b, ``, ``, `"two" "one"`)
			browser.Eval[bool](b, `(document.querySelector("[name=text]").value = "three", document.querySelector("[action='/cards'] button").click(), true)`)
			shows(b, `"three"`, ``, `"two" "one"`)
			b.Picture("board-" + strings.ReplaceAll(name, " ", "-"))
			if tt.nginx {
				return
			}

			s.down.Store(true)
			s.cut()
			s.streams(0)
			for _, move := range []struct {
				id     int
				column string
			}{{0, "doing"}, {2, "doing"}, {0, "todo"}} { // without requests: the libraries wait longer after each attempt
				require.NoError(t, s.board.move(t.Context(), move.id, move.column))
			}
			s.down.Store(false)
			shows(b, `"one"`, `"three"`, `"two"`)
			assert.EqualValues(t, 1, s.resumed.Load())

			want := []string{"one"}
			for _, text := range hostile {
				s.add(text)
				want = append(want, strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(text))
			}
			b.Await("the texts are there", `document.querySelectorAll("#todo li").length === 7`)
			assert.Equal(t, want, browser.Eval[[]string](b, `[...document.querySelectorAll("#todo li > span")].map(text => text.textContent)`))
			time.Sleep(100 * time.Millisecond) // for what must not happen
			assert.Equal(t, "Board", browser.Eval[string](b, "document.title"))
			assert.Zero(t, browser.Eval[int](b, `document.querySelectorAll("img, body script + script").length`))
			b.RequireLooks()
		})
	}
}
