package natslog

import (
	"strings"
)

// A topic becomes one token of a subject. Letters, digits and the characters of plain stay as
// they are. Every other byte becomes a percent sign and two hexadecimal digits, so no topic
// can have a wildcard, a separator or a control character in its subject. A percent sign alone
// is the empty topic. Each topic has one token, and each token at most one topic.

const (
	plain     = "-_/:@"
	hexDigits = "0123456789ABCDEF"
	noTopic   = "%"

	// maxSubject is the length of the longest subject, in bytes. A server takes 4,096 bytes
	// for a subject, a reply subject and two numbers, unless its max_control_line is higher.
	maxSubject = 3072
)

func isPlain(c byte) bool {
	return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || strings.IndexByte(plain, c) >= 0
}

// encodeTopic returns the token of topic.
func encodeTopic(topic string) string {
	if topic == "" {
		return noTopic
	}
	extra := 0
	for i := range len(topic) {
		if !isPlain(topic[i]) {
			extra += 2
		}
	}
	if extra == 0 {
		return topic
	}
	b := make([]byte, 0, len(topic)+extra)
	for i := range len(topic) {
		if c := topic[i]; isPlain(c) {
			b = append(b, c)
		} else {
			b = append(b, '%', hexDigits[c>>4], hexDigits[c&15])
		}
	}
	return string(b)
}

// decodeTopic returns the topic whose token is token. It returns false if there is none.
func decodeTopic(token string) (string, bool) {
	if token == noTopic {
		return "", true
	}
	b := make([]byte, 0, len(token))
	for i := 0; i < len(token); i++ {
		c := token[i]
		if c == '%' && i+2 < len(token) {
			high, low := strings.IndexByte(hexDigits, token[i+1]), strings.IndexByte(hexDigits, token[i+2])
			if high < 0 || low < 0 {
				return "", false
			}
			b = append(b, byte(high<<4|low))
			i += 2
			continue
		}
		b = append(b, c)
	}
	if topic := string(b); topic != "" && encodeTopic(topic) == token {
		return topic, true
	}
	return "", false
}

// subject returns the subject of topic.
func (l *Log) subject(topic string) string { return l.cfg.Subject + "." + encodeTopic(topic) }

// topic returns the topic of a subject. It returns false if the subject is no topic's: a message
// with it is not from a hub.
func (l *Log) topic(subject string) (topic string, ok bool) {
	token, ok := strings.CutPrefix(subject, l.cfg.Subject+".")
	if !ok {
		return "", false
	}
	return decodeTopic(token)
}
