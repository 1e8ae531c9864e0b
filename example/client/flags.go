package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/chi-sse/sse/client"
)

const usage = `Usage: client [flags] URL

Follows the event stream at URL and prints its events. When the stream breaks,
or its server ends it, the client connects again and resumes after the last
event. A URL without a scheme is an https one, or http on this machine.

Request
  -H "NAME: VALUE"  send this header field (repeatable)
  -d DATA           POST this body; @FILE sends a file, @- what stdin holds.
                    It is application/json if it is JSON, and else text/plain
  -X METHOD         use this method
  -id ID            start after the event with this id
  -k                trust any certificate

Connection
  -retries N        connect again at most N times in a row, the first connection
                    included; 0 is never, -1 for ever. Without this flag: for
                    ever once the stream was open, never if it does not open
  -resend           connect again even if that repeats a POST
  -t DURATION       after so long a silence, such as 45s, the stream is broken
  -n COUNT          stop after so many events
  -done TEXT        the event with this data, such as '[DONE]', is the stream's
                    end, and is not shown; a stream that ends without it broke

Output
  -e, -event NAME   show the events of this name (repeatable); an event without
                    a name is a message
  -data             print the data only
  -json             print a JSON object per event: time, event, id, data, and
                    what else it has. Data is an object or array if it holds
                    one, and else a string
  -comments         show comments
  -no-color         no colors, as when NO_COLOR is set or stdout is no terminal
  -s                do not tell how the connection is

Events go to stdout, all else to stderr. What could drive the terminal is shown
as \x1b or the like; only -data to a pipe or file is as it came.

Exit codes
  0    the server ended the stream for good, -n is reached, or stdout was closed
  1    the stream broke, or could not be opened
  2    wrong usage
  3    the server refused: another status than 200, or no event stream
  130  interrupted

Examples
  client localhost:8080/vitals
  client -e vitals -json localhost:8080/vitals | jq .data.cpu.total
  client -H "Authorization: Bearer $KEY" -d @ask.json -done '[DONE]' \
      -data api.example.com/v1/chat/completions
`

// options is what the user asks for.
type options struct {
	url      string
	method   string
	header   []field
	data     *string // of -d, as given
	body     []byte  // of -d, as sent
	lastID   string
	insecure bool

	retries      int
	firstRetried bool // -retries was given
	resend       bool
	idle         time.Duration
	count        int
	done         *string

	names    []string
	format   format
	comments bool
	noColor  bool
	silent   bool

	help bool
}

// field is one of a header.
type field struct{ name, value string }

// parse returns the options that args ask for. Flags may stand before and after the
// URL.
func parse(args []string) (*options, error) {
	o := &options{retries: client.Unlimited}
	var dataOnly, jsonLines bool
	flags := flag.NewFlagSet("client", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("H", "", o.addHeader)
	flags.Func("d", "", once(&o.data))
	flags.StringVar(&o.method, "X", "", "")
	flags.StringVar(&o.lastID, "id", "", "")
	flags.BoolVar(&o.insecure, "k", false, "")
	flags.IntVar(&o.retries, "retries", o.retries, "")
	flags.BoolVar(&o.resend, "resend", false, "")
	flags.DurationVar(&o.idle, "t", 0, "")
	flags.IntVar(&o.count, "n", 0, "")
	flags.Func("done", "", once(&o.done))
	flags.Func("e", "", o.addName)
	flags.Func("event", "", o.addName)
	flags.BoolVar(&dataOnly, "data", false, "")
	flags.BoolVar(&jsonLines, "json", false, "")
	flags.BoolVar(&o.comments, "comments", false, "")
	flags.BoolVar(&o.noColor, "no-color", false, "")
	flags.BoolVar(&o.silent, "s", false, "")

	var urls []string
	for {
		if err := flags.Parse(args); errors.Is(err, flag.ErrHelp) {
			o.help = true
			return o, nil
		} else if err != nil {
			return nil, err
		}
		if flags.NArg() == 0 {
			break
		}
		urls, args = append(urls, flags.Arg(0)), flags.Args()[1:]
	}
	flags.Visit(func(f *flag.Flag) { o.firstRetried = o.firstRetried || f.Name == "retries" })

	switch {
	case len(urls) == 0 || urls[0] == "":
		return nil, errors.New("which URL?")
	case len(urls) > 1:
		return nil, fmt.Errorf("one URL is enough, and there is a second: %s", urls[1])
	case o.retries < client.Unlimited:
		return nil, errors.New("-retries is below -1, which is for ever")
	case o.idle < 0:
		return nil, errors.New("-t is negative")
	case o.count < 0:
		return nil, errors.New("-n is negative")
	case o.done != nil && *o.done == "":
		return nil, errors.New("-done wants the text of an event")
	case dataOnly && jsonLines:
		return nil, errors.New("-data and -json exclude each other")
	case dataOnly && o.comments:
		return nil, errors.New("-data and -comments exclude each other")
	case dataOnly:
		o.format = dataLines
	case jsonLines:
		o.format = jsonObjects
	}
	o.url = withScheme(urls[0])
	return o, nil
}

// once returns what sets *to by a flag that may be given once.
func once(to **string) func(string) error {
	return func(value string) error {
		if *to != nil {
			return errors.New("is given twice")
		}
		*to = &value
		return nil
	}
}

func (o *options) addHeader(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New(`has no colon; a header field is "Name: value"`)
	}
	o.header = append(o.header, field{name, strings.TrimSpace(value)})
	return nil
}

func (o *options) addName(name string) error {
	o.names = append(o.names, name)
	return nil
}

// withScheme returns a URL as its user means it.
func withScheme(address string) string {
	if before, _, ok := strings.Cut(address, "://"); ok && !strings.ContainsAny(before, ":/?#") {
		return address
	}
	scheme := "https://"
	if u, err := url.Parse("//" + address); err == nil {
		ip, _ := netip.ParseAddr(u.Hostname())
		if strings.EqualFold(u.Hostname(), "localhost") || ip.IsLoopback() {
			scheme = "http://"
		}
	}
	return scheme + address
}

// readBody sets o.body. It returns at the end of ctx, even if stdin goes on.
func (o *options) readBody(ctx context.Context, stdin io.Reader) (err error) {
	if o.data == nil {
		return nil
	}
	switch path, isFile := strings.CutPrefix(*o.data, "@"); {
	case !isFile:
		o.body = []byte(*o.data)
	case path == "-":
		read := make(chan struct{})
		var body []byte
		var readErr error
		go func() {
			defer close(read)
			body, readErr = io.ReadAll(stdin)
		}()
		select {
		case <-read:
			o.body, err = body, readErr
		case <-ctx.Done():
			err = ctx.Err()
		}
	default:
		o.body, err = os.ReadFile(path)
	}
	if err != nil {
		return fmt.Errorf("-d: %w", err)
	}
	return nil
}

// bodyType returns the Content-Type of o.body, unless the user gives one.
func (o *options) bodyType() string {
	for _, f := range o.header {
		if strings.EqualFold(f.name, "Content-Type") {
			return ""
		}
	}
	switch {
	case len(o.body) == 0:
		return ""
	case json.Valid(o.body):
		return "application/json"
	default:
		return "text/plain"
	}
}

// flagOf returns the flag that sets what client calls option.
func flagOf(option string) string {
	switch option {
	case "url":
		return "the URL"
	case "WithMethod":
		return "-X"
	case "WithHeader":
		return "-H"
	case "WithLastEventID":
		return "-id"
	default:
		return option
	}
}
