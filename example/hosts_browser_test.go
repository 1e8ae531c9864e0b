package main

import (
	"strings"
	"testing"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/assert"
)

// In an attack by DNS rebinding, the name of the attacker's site resolves to this machine.
func TestBrowserIsRefusedUnderAForeignHost(t *testing.T) {
	b := newTab(t)
	p := runProgram(t, "127.0.0.1:0", t.TempDir()+"/access.log")
	rebound := strings.Replace(p.url, "127.0.0.1", foreignHost, 1)
	for _, path := range []string{"/", "/chat", "/log", "/chat/events?name=Teal+Otter"} {
		b.do(chromedp.Navigate(rebound + path))
		assert.Equal(t, 421, eval[int](b, `performance.getEntriesByType("navigation")[0].responseStatus`))
		assert.Contains(t, eval[string](b, "document.body.innerText"), "this server does not answer for the host \""+strings.TrimPrefix(rebound, "http://"))
	}
}
