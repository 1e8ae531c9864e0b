package main

import (
	"context"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/chi-sse/sse/example/internal/browser"
)

const foreignHost = browser.ForeignHost

// tab is a page in a headless browser, with the verbs of this program's pages.
type tab struct {
	*browser.Tab
	t   *testing.T
	ctx context.Context
}

func newTab(t *testing.T) *tab {
	t.Helper()
	b := browser.New(t)
	return &tab{b, t, b.Context}
}

func (b *tab) another() *tab {
	b.t.Helper()
	other := b.Another()
	return &tab{other, b.t, other.Context}
}

func (b *tab) do(steps ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	b.Do(steps...)
}

func (b *tab) await(what, expression string) {
	b.t.Helper()
	b.Await(what, expression)
}

func eval[T any](b *tab, expression string) T {
	b.t.Helper()
	return browser.Eval[T](b.Tab, expression)
}

func (b *tab) complaints() []string { return b.Complaints() }
func (b *tab) requireLooks()        { b.t.Helper(); b.RequireLooks() }
func (b *tab) setTheme(name string) { b.t.Helper(); b.SetTheme(name) }
