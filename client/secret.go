// Secrets: a URL may hold one in its userinfo, path or query. No error text and no log
// line shows more of a URL than its scheme and host.

package client

import (
	"errors"
	"net/url"
	"strings"
)

// withoutURL returns err, of an http.Client, with scheme and host only in place of the URL
// of a [*url.Error].
func withoutURL(err error) error {
	urlErr, ok := errors.AsType[*url.Error](err)
	if !ok {
		return err
	}
	short := *urlErr
	if u, parseErr := url.Parse(urlErr.URL); parseErr == nil {
		short.URL = (&url.URL{Scheme: u.Scheme, Host: u.Host}).String()
	} else {
		short.URL = "" // it cannot be told what is secret
	}
	switch inner := urlErr.Err.(type) { //nolint:errorlint // only what the text of urlErr shows
	case nil:
	case *url.Error: // of a Transport that uses an http.Client
		short.Err = withoutURL(inner)
	default: // the errors of net/http that quote a URL
		switch text := inner.Error(); {
		case strings.HasPrefix(text, "failed to parse Location header "):
			short.Err = errors.New("redirected to a URL that cannot be parsed")
		case strings.HasPrefix(text, "http2: invalid request :path "):
			short.Err = errors.New("http2: invalid path of the URL")
		}
	}
	return &short
}

// parseProblem returns why url.Parse has failed with err, without a part of the URL. Even
// what looks like a port may belong to a password.
func parseProblem(err error) string {
	if parseErr, ok := errors.AsType[*url.Error](err); ok {
		err = parseErr.Err
	}
	text := err.Error()
	from, to := strings.IndexByte(text, '"'), strings.LastIndexByte(text, '"')
	if from < to {
		text = strings.TrimSpace(text[:from]) + text[to+1:]
	}
	return text
}
