package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/example/internal/browser"
)

// keepJournal makes a page keep what its streams bring.
const keepJournal = `window.journal = [];
window.EventSource = class extends EventSource {
	constructor(url) {
		super(url);
		for (const name of ["orders", "order", "gap"]) this.addEventListener(name, event => journal.push(event.data));
	}
};`

// shown is what the page shows of the orders.
const shown = `[...document.querySelectorAll("#orders li")].map(row => [...row.querySelectorAll("span")].map(part => part.textContent).join(" ")).join("\n")`

// open opens the page of a process.
func open(b *browser.Tab, p *process) {
	_, err := chromedp.Call(b.Context, page.AddScriptToEvaluateOnNewDocument, page.AddScriptToEvaluateOnNewDocumentParams{Source: keepJournal})
	if err != nil {
		panic(err)
	}
	b.Do(chromedp.EmulateViewport(1000, 800), chromedp.Navigate(p.url+"/"))
	b.Await("it is live", `document.querySelector("#state").textContent === "Live"`)
}

// text is what the page shows for orders.
func text(orders []order) string {
	lines := make([]string, len(orders))
	for i, o := range orders {
		lines[i] = fmt.Sprintf("#%d %d × %s %s", o.ID, o.Quantity, o.Item, o.Status)
	}
	return strings.Join(lines, "\n")
}

// The server crashes, and is restarted, again and again, while pages at two processes are open and
// orders change. Nothing is lost or comes twice.
func TestBrowserWhileTheServerIsRestarted(t *testing.T) {
	s := newDatabase(t)
	a, b := start(t, options{database: s.DSN("postgres", "postgres")}), start(t, options{database: s.DSN("postgres", "postgres")})
	evil := `<img src=x onerror="document.title='broken'">`
	_, _, err := post(a.url+"/orders", url.Values{"item": {evil}, "quantity": {"1"}})
	require.NoError(t, err)
	tabs := []*browser.Tab{browser.New(t)}
	open(tabs[0], a)
	tabs = append(tabs, tabs[0].Another())
	open(tabs[1], b)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var customers sync.WaitGroup
	var done, failed atomic.Int64
	for range 3 {
		customers.Go(func() {
			for ctx.Err() == nil {
				to := []*process{a, b}[rand.IntN(2)].url
				status, _, err := post(to+"/orders", url.Values{"item": {"tea"}, "quantity": {"2"}})
				if rand.IntN(2) == 0 {
					status, _, err = post(fmt.Sprintf("%s/orders/%d/advance", to, 1+rand.IntN(20)), nil)
				}
				if err == nil && status == 200 {
					done.Add(1)
				} else {
					failed.Add(1)
				}
				time.Sleep(time.Duration(rand.IntN(150)) * time.Millisecond)
			}
		})
	}
	for i := range 3 {
		time.Sleep(500 * time.Millisecond)
		s.Signal(syscall.SIGQUIT) // as pg_ctl stop -m immediate does
		if i == 1 {
			time.Sleep(time.Second)
			tabs[0].Picture("postgres-down")
		}
		require.NoError(t, s.Start())
	}
	time.Sleep(500 * time.Millisecond)
	cancel()
	customers.Wait()
	t.Logf("%d changes, and %d requests that were refused or not answered", done.Load(), failed.Load())

	want := allOrders(t, s)
	late := tabs[0].Another()
	open(late, b)
	for _, tab := range append(tabs, late) {
		tab.Await("the page has all", fmt.Sprintf("%s === %q", shown, text(want)))
		var j journal
		for _, data := range browser.Eval[[]string](tab, "journal") {
			j = append(j, json.RawMessage(data))
		}
		j.check(t, want)
		assert.Equal(t, "Orders", browser.Eval[string](tab, "document.title"))
	}
	tabs[0].Picture("postgres-after")
	tabs[0].RequireLooks()

	// The form and the buttons work.
	tabs[0].Do(chromedp.EmulateViewport(1000, 800), chromedp.Click("#place button"))
	for _, tab := range tabs {
		tab.Await("the new order", fmt.Sprintf(`document.querySelector("#orders li").dataset.id > %d`, want[0].ID))
	}
	tabs[1].Do(chromedp.Click("#orders li:first-child button"))
	tabs[0].Await("it is packed", `document.querySelector("#orders li .status").textContent === "packed"`)
}

// While the database is down, a page that is opened tries again.
func TestBrowserOpenedWhileTheServerIsDown(t *testing.T) {
	s := newDatabase(t)
	p := start(t, options{database: s.DSN("postgres", "postgres")})
	_, _, err := post(p.url+"/orders", url.Values{"item": {"tea"}, "quantity": {"2"}})
	require.NoError(t, err)
	s.Kill()
	b := browser.New(t)
	b.Do(chromedp.EmulateViewport(1000, 800), chromedp.Navigate(p.url+"/"))
	b.Await("the page is there", `document.querySelector("#place")?.onsubmit`)
	b.Do(chromedp.Click("#place button"))
	b.Await("it says that there is trouble", `document.querySelector("#trouble").textContent.includes("not known")`)
	require.NoError(t, s.Start())
	b.Await("the page has all", shown+` === "#1 2 × tea placed"`)
}
