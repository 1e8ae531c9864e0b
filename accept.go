package sse

import (
	"net/http"
	"slices"
	"strings"
)

// What a client accepts, for handlers that answer with a stream or with something else.

// Negotiate returns the one of offers that the client prefers, and adds Accept to the header Vary.
// offers are media types such as "application/json" and "text/event-stream". Call it before the
// response begins, also after the body has been read, and call [Serve] if it returns the latter.
//
// The offer with the highest quality in the header Accept wins (RFC 9110 §12.5.1). Of two with the
// same quality, the one that the client names more exactly wins, or else the first of offers. So the
// first is what clients get that send no Accept, or "*/*".
//
// Negotiate returns "" if the client accepts none of offers. The handler may answer with 406, or with
// its default. What is malformed in Accept counts as absent. The parameter charset=utf-8 is
// ignored, because JSON and event streams have no other charset. Otherwise a media range with
// parameters matches only an offer that has them.
func Negotiate(w http.ResponseWriter, r *http.Request, offers ...string) string {
	if !varies(w.Header()) {
		w.Header().Add("Vary", "Accept")
	}
	ranges := mediaRanges(r.Header["Accept"])
	if len(ranges) == 0 {
		ranges = []mediaRange{{mainType: "*", subtype: "*", quality: 1000}}
	}
	best, bestQuality, bestRank := "", 0, 0
	for _, offer := range offers {
		if quality, rank := acceptance(ranges, offer); quality > bestQuality || quality == bestQuality && quality > 0 && rank > bestRank {
			best, bestQuality, bestRank = offer, quality, rank
		}
	}
	return best
}

// varies reports whether the header Vary has Accept already.
func varies(h http.Header) bool {
	for _, v := range h["Vary"] {
		for name := range strings.SplitSeq(v, ",") {
			if name = strings.TrimSpace(name); name == "*" || strings.EqualFold(name, "Accept") {
				return true
			}
		}
	}
	return false
}

// mediaRange is an element of the header Accept.
type mediaRange struct {
	mainType, subtype string   // in lower case; "*" for any
	params            []string // "name=value", the names in lower case; without q and charset=utf-8
	quality           int      // in thousandths
}

// acceptance returns the quality of the offer, in thousandths, and the rank of the range that says so:
// the most exact one that matches.
func acceptance(ranges []mediaRange, offer string) (quality, rank int) {
	o, ok := parseMediaRange(offer)
	if !ok {
		return 0, 0
	}
	for _, m := range ranges {
		if n := m.rankFor(o); n > rank || n == rank && n > 0 && m.quality > quality {
			quality, rank = m.quality, n
		}
	}
	return quality, rank
}

// rankFor returns how exactly m matches o: 0 if it does not.
func (m mediaRange) rankFor(o mediaRange) int {
	switch {
	case m.mainType == "*":
		return 1
	case m.mainType != o.mainType:
		return 0
	case m.subtype == "*":
		return 2
	case m.subtype != o.subtype:
		return 0
	}
	for _, p := range m.params {
		if !slices.Contains(o.params, p) {
			return 0
		}
	}
	return 3 + len(m.params)
}

// mediaRanges returns the elements of the lines of Accept that are well formed.
func mediaRanges(lines []string) (ranges []mediaRange) {
	for _, line := range lines {
		for _, element := range splitQuoted(line, ',') {
			if m, ok := parseMediaRange(element); ok {
				ranges = append(ranges, m)
			}
		}
	}
	return ranges
}

func parseMediaRange(s string) (m mediaRange, ok bool) {
	parts := splitQuoted(s, ';')
	m.quality = 1000
	m.mainType, m.subtype, ok = strings.Cut(strings.ToLower(trimOWS(parts[0])), "/")
	if !ok || !isToken(m.mainType) || !isToken(m.subtype) || m.mainType == "*" && m.subtype != "*" {
		return m, false
	}
	for _, part := range parts[1:] {
		part = trimOWS(part)
		if part == "" {
			continue // RFC 9110 §5.6.6 allows it
		}
		name, value, ok := strings.Cut(part, "=")
		name = strings.ToLower(name)
		if !ok || !isToken(name) {
			return m, false
		}
		if name == "q" {
			m.quality, ok = parseQuality(value)
			return m, ok // no parameter of the media type follows
		}
		if value, ok = unquote(value); !ok {
			return m, false
		}
		if name != "charset" || !strings.EqualFold(value, "utf-8") {
			m.params = append(m.params, name+"="+value)
		}
	}
	return m, true
}

// parseQuality returns a qvalue in thousandths (RFC 9110 §12.4.2).
func parseQuality(s string) (quality int, ok bool) {
	whole, rest, dot := strings.Cut(s, ".")
	if whole != "0" && whole != "1" || len(rest) > 3 || !dot && rest != "" {
		return 0, false
	}
	for i := range 3 {
		quality *= 10
		if i < len(rest) {
			if rest[i] < '0' || rest[i] > '9' {
				return 0, false
			}
			quality += int(rest[i] - '0')
		}
	}
	if whole == "1" {
		quality += 1000
	}
	return quality, quality <= 1000
}

// unquote returns the value of a parameter, which is a token or a quoted string.
func unquote(s string) (value string, ok bool) {
	if !strings.HasPrefix(s, `"`) {
		return s, isToken(s)
	}
	var b strings.Builder
	for i := 1; i < len(s); i++ {
		switch s[i] {
		case '"':
			return b.String(), i == len(s)-1
		case '\\':
			if i++; i == len(s) {
				return "", false
			}
		}
		b.WriteByte(s[i])
	}
	return "", false
}

// splitQuoted splits s at each sep outside of quoted strings.
func splitQuoted(s string, sep byte) (parts []string) {
	quoted, start := false, 0
	for i := 0; i < len(s); i++ {
		switch c := s[i]; {
		case c == '"':
			quoted = !quoted
		case c == '\\' && quoted:
			i++
		case c == sep && !quoted:
			parts = append(parts, s[start:i])
			start = i + 1
		}
	}
	return append(parts, s[start:])
}

func trimOWS(s string) string { return strings.Trim(s, " \t") }

func isToken(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0:
		default:
			return false
		}
	}
	return s != ""
}
