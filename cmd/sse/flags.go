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

const usage = `Usage: sse follow [flags] URL

Follows the event stream at URL and prints its events. If the stream breaks or
the server ends it, the client connects again and resumes after the last event.
A URL without a scheme gets http:// if its host is this machine, or https://.

Request
  -H "NAME: VALUE"  send this header field; can be repeated
  -d DATA           POST DATA, or the contents of a file (@FILE) or of stdin
                    (@-). The Content-Type is application/json if the body is
                    JSON, or text/plain, unless -H sets another
  -X METHOD         use this method
  -id ID            start after the event with this id
  -k                accept any TLS certificate

Connection
  -retries N        connect again at most N times in a row; 0 means never and -1
                    forever. This includes the first connection. By default, a
                    stream that has been open is retried forever, and a first
                    connection that fails is not retried
  -retry-refused    connect again even if the server refuses, such as with
                    status 404. This includes the first connection
  -resend           connect again even if this repeats a request that is not
                    idempotent, such as a POST
  -open-timeout D   give up a connection that does not open within D, such as
                    5s. The default is 30s, or 10m with -d
  -idle-timeout D   treat the stream as broken if nothing comes for D
  -event-timeout D  treat the stream as broken if no event comes for D, even if
                    comments do
  -type TYPE        accept a response with this Content-Type too, such as
                    text/plain; any accepts every response with status 200

End
  -n COUNT          stop after this many events
  -done TEXT        treat the event with this data, such as '[DONE]', as the end
                    of the stream, and do not print it. A stream that ends
                    without this event is truncated
  -done-event NAME  treat the event with this name, such as message_stop, as the
                    end of the stream, and print it. A stream that ends without
                    this event is truncated
  -checkpoint FILE  resume after the event whose id is in FILE, and keep the id
                    of the last printed event there. If FILE does not exist,
                    start as without this flag. After a crash, the events of the
                    last 100 ms or so may be printed again, but none is missing

Output
  -e, -event NAME   print only the events with this name; can be repeated. The
                    name of an event without one is "message"
  -data             print only the data
  -json             print one JSON object for each event, with time, event, id,
                    data, comment, and retry. Data is an object or array if it
                    contains one, or a string
  -comments         print comments
  -no-color         print no colors. This is the default if NO_COLOR is set,
                    TERM is dumb, or the output is not a terminal
  -s                do not print the connection's status

Events go to stdout, and everything else to stderr. Characters that could affect
the terminal are printed as \x1b and the like. Only -data to a pipe or a file
prints the data unchanged.

Exit codes
  0    complete: the server ended the stream for good, the event of -done or
       -done-event came, -n was reached, or the reader of stdout has left
  1    failed: the first connection could not be made, or stdout or the
       checkpoint could not be written
  2    the arguments are invalid, or the checkpoint is damaged
  3    refused: the status was not 200 or 204, or the response was not an event
       stream
  4    truncated: the stream broke, or ended before the event of -done or
       -done-event, or within an event, and may not be retried
  5    used up: all attempts of -retries have failed
  130  interrupted by Ctrl-C or SIGTERM

Examples
  sse follow localhost:8080/vitals
  sse follow -e vitals -json localhost:8080/vitals | jq .data.cpu.total
  sse follow -json -checkpoint orders.checkpoint example.com/orders >> orders
  sse follow -H "Authorization: Bearer $KEY" -d @ask.json -done '[DONE]' \
      -data api.example.com/v1/chat/completions
`

// options are the values of the flags and the URL.
type options struct {
	url      string
	method   string
	header   []field
	data     *string // the value of -d; nil without -d
	body     []byte  // the body that -d asks for
	lastID   string
	insecure bool

	retries      int
	firstRetried bool // -retries was given, so it applies to the first connection too
	retryRefused bool
	resend       bool
	openTimeout  time.Duration // 0 is the client's default
	idleTimeout  time.Duration // 0 is no limit
	eventTimeout time.Duration // 0 is no limit
	mediaType    string        // of -type

	count      int     // 0 is no limit
	done       *string // nil without -done
	doneEvent  *string // nil without -done-event
	checkpoint string  // the file; "" is none

	names    []string
	format   format
	comments bool
	noColor  bool
	silent   bool

	help bool
}

// field is a header field.
type field struct{ name, value string }

// parse parses args, and returns an error if they are invalid. Flags may come before and
// after the URL.
func parse(args []string) (*options, error) {
	o := &options{retries: client.Unlimited}
	var dataOnly, jsonLines bool
	flags := flag.NewFlagSet("follow", flag.ContinueOnError)
	flags.SetOutput(io.Discard)
	flags.Func("H", "", o.addHeader)
	flags.Func("d", "", once(&o.data))
	flags.StringVar(&o.method, "X", "", "")
	flags.StringVar(&o.lastID, "id", "", "")
	flags.BoolVar(&o.insecure, "k", false, "")
	flags.IntVar(&o.retries, "retries", o.retries, "")
	flags.BoolVar(&o.retryRefused, "retry-refused", false, "")
	flags.BoolVar(&o.resend, "resend", false, "")
	flags.DurationVar(&o.openTimeout, "open-timeout", 0, "")
	flags.DurationVar(&o.idleTimeout, "idle-timeout", 0, "")
	flags.DurationVar(&o.eventTimeout, "event-timeout", 0, "")
	flags.StringVar(&o.mediaType, "type", "", "")
	flags.IntVar(&o.count, "n", 0, "")
	flags.Func("done", "", once(&o.done))
	flags.Func("done-event", "", once(&o.doneEvent))
	flags.StringVar(&o.checkpoint, "checkpoint", "", "")
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
		return nil, errors.New("the URL is missing")
	case len(urls) > 1:
		return nil, fmt.Errorf("there must be only one URL, but there is a second: %s", urls[1])
	case o.retries < client.Unlimited:
		return nil, errors.New("-retries must be -1 (forever), 0 (never), or a positive number")
	case o.openTimeout < 0:
		return nil, errors.New("-open-timeout must not be negative")
	case o.idleTimeout < 0:
		return nil, errors.New("-idle-timeout must not be negative")
	case o.eventTimeout < 0:
		return nil, errors.New("-event-timeout must not be negative")
	case o.count < 0:
		return nil, errors.New("-n must not be negative")
	case o.done != nil && *o.done == "":
		return nil, errors.New("-done must not be empty")
	case o.doneEvent != nil && *o.doneEvent == "":
		return nil, errors.New("-done-event must not be empty")
	case dataOnly && jsonLines:
		return nil, errors.New("-data and -json cannot be used together")
	case dataOnly && o.comments:
		return nil, errors.New("-data and -comments cannot be used together")
	case dataOnly:
		o.format = dataLines
	case jsonLines:
		o.format = jsonObjects
	}
	o.url = withScheme(urls[0])
	return o, nil
}

// once returns a function for flag.Func that sets *to, and fails if it is called twice.
func once(to **string) func(string) error {
	return func(value string) error {
		if *to != nil {
			return errors.New("the flag can be used only once")
		}
		*to = &value
		return nil
	}
}

// addHeader adds the header field in line.
func (o *options) addHeader(line string) error {
	name, value, ok := strings.Cut(line, ":")
	if !ok {
		return errors.New(`a header field must have a colon, as in "Name: value"`)
	}
	o.header = append(o.header, field{name, strings.TrimSpace(value)})
	return nil
}

// addName adds the name of events to print.
func (o *options) addName(name string) error {
	o.names = append(o.names, name)
	return nil
}

// withScheme returns address as a URL with a scheme. If it has none, the scheme is http
// for localhost and loopback addresses, or https.
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

// readBody sets o.body from -d, reading a file or stdin if -d says so. It returns when ctx
// ends, even if stdin has no end yet.
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

// bodyType returns the Content-Type of o.body. It returns "" if the body is empty, or if
// the user sets the Content-Type with -H.
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
