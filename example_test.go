package sse_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html/template"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"time"

	"github.com/go-chi/chi/v5"
	"github.com/go-chi/chi/v5/middleware"
	"github.com/go-chi/render"

	"github.com/chi-sse/sse"
)

func ExampleInstall() {
	r := sse.Install(chi.NewRouter(), sse.Config{Retry: 2 * time.Second}) // first, before other middleware
	r.Use(middleware.Compress(5), middleware.Timeout(30*time.Second))     // neither harms a stream

	r.SSE("/greetings", func(s *sse.ServerSession) error {
		return s.Send(sse.Event{ID: "1", Name: "greeting", Data: "hello\nworld"})
	})

	srv := httptest.NewServer(r)
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/greetings")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.Header.Get("Content-Type"))
	fmt.Printf("%s", body)
	// Output:
	// text/event-stream
	// retry: 2000
	//
	// event: greeting
	// data: hello
	// data: world
	// id: 1
}

func ExampleRouter_SSE() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/countdown/{from}", func(s *sse.ServerSession) error {
		from, err := strconv.Atoi(chi.URLParam(s.Call(), "from"))
		if err != nil {
			return sse.Error(http.StatusBadRequest, err)
		}
		for i := from; i > 0; i-- {
			if err := s.Send(sse.Event{Data: strconv.Itoa(i)}); err != nil {
				return err
			}
			select {
			case <-s.Done(): // for example because the client has left
				return nil
			case <-time.After(time.Millisecond):
			}
		}
		return nil // returning ends the stream
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/countdown/3", nil))
	fmt.Print(w.Body)
	// Output:
	// data: 3
	//
	// data: 2
	//
	// data: 1
}

// SSEHandler returns an http.Handler, which can be mounted wherever chi takes one.
func ExampleRouter_SSEHandler() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	echo := r.SSEHandler(func(s *sse.ServerSession) error {
		question, err := io.ReadAll(s.Call().Body) // read the body before the first send
		if err != nil {
			return err
		}
		return s.SendData("you said " + string(question))
	})
	r.Method("POST", "/chat", echo)

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/chat", http.NoBody))
	fmt.Print(w.Body)
	// Output:
	// data: you said
}

// Handle adds a route to any router.
func ExampleHandle() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	auth := func(http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "log in first", http.StatusUnauthorized) })
	}
	greet := func(s *sse.ServerSession) error {
		return s.SendData("welcome to room " + chi.URLParam(s.Call(), "room"))
	}
	sse.Handle(r.With(auth), "/private", greet)
	r.Route("/rooms/{room}", func(r chi.Router) { sse.Handle(r, "/", greet) })
	sub := chi.NewRouter()
	sse.Handle(sub, "/events", greet)
	r.Mount("/more/{room}", sub)

	for _, path := range []string{"/private", "/rooms/blue", "/more/red/events"} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, http.NoBody))
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 401 log in first
	// 200 data: welcome to room blue
	// 200 data: welcome to room red
}

// A handler of http.ServeMux reads the request, and then either refuses it or streams.
func ExampleServe() {
	mux := http.NewServeMux()
	mux.HandleFunc("POST /rooms/{room}", func(w http.ResponseWriter, r *http.Request) {
		question, err := io.ReadAll(r.Body)
		if err != nil || len(question) == 0 {
			http.Error(w, "ask something", http.StatusBadRequest)
			return
		}
		sse.Serve(w, r, func(s *sse.ServerSession) error {
			return s.SendData(fmt.Sprintf("%s asks: %s", r.PathValue("room"), question))
		})
	})

	for _, question := range []string{"", "who is there?"} {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/rooms/blue", strings.NewReader(question)))
		fmt.Println(w.Code, strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// 400 ask something
	// 200 data: blue asks: who is there?
}

// A POST that is answered at once, or with a stream, as the client prefers.
func ExampleNegotiate() {
	ask := func(w http.ResponseWriter, r *http.Request) {
		var question struct{ Text string }
		if err := json.NewDecoder(r.Body).Decode(&question); err != nil {
			http.Error(w, "not JSON", http.StatusBadRequest)
			return
		}
		words := strings.Fields(question.Text)
		if sse.Negotiate(w, r, "application/json", "text/event-stream") != "text/event-stream" {
			render.JSON(w, r, words)
			return
		}
		sse.Serve(w, r, func(s *sse.ServerSession) error {
			for _, word := range words {
				if err := s.SendData(word); err != nil {
					return err
				}
			}
			return nil
		})
	}

	for _, accept := range []string{"*/*", "text/event-stream, application/json;q=0.5"} {
		w := httptest.NewRecorder()
		r := httptest.NewRequest(http.MethodPost, "/ask", strings.NewReader(`{"Text": "who is"}`))
		r.Header.Set("Accept", accept)
		ask(w, r)
		fmt.Println(strings.TrimSpace(w.Body.String()))
	}
	// Output:
	// ["who","is"]
	// data: who
	//
	// data: is
}

// chi passes a plain chi.Router to the functions of nested routers. From returns it as a
// Router of the plugin.
func ExampleFrom() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.Route("/rooms/{room}", func(r chi.Router) {
		r.Get("/members", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "ann, bob") })

		sse.From(r).SSE("", func(s *sse.ServerSession) error { // at /rooms/{room} itself
			return s.SendData("welcome to " + chi.URLParam(s.Call(), "room"))
		})
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/rooms/blue", nil))
	fmt.Print(w.Body)
	// Output:
	// data: welcome to blue
}

func ExampleServerSession_SendData() {
	type Customer struct {
		ID        int    `json:"id"`
		FirstName string `json:"firstName"`
	}
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/customers", func(s *sse.ServerSession) error {
		if err := s.SendData(Customer{7, "Ann"}); err != nil { // as JSON, unless the route has another serializer
			return err
		}
		return s.SendData("a string is sent as it is")
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/customers", nil))
	fmt.Print(w.Body)
	// Output:
	// data: {"id":7,"firstName":"Ann"}
	//
	// data: a string is sent as it is
}

func ExampleServerSession_SendTyped() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/prices", func(s *sse.ServerSession) error {
		return s.SendTyped(sse.TypedEvent{ID: "42", Name: "price", Data: map[string]float64{"ACME": 12.5}})
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/prices", nil))
	fmt.Print(w.Body)
	// Output:
	// event: price
	// data: {"ACME":12.5}
	// id: 42
}

// Several events go out in one write, all or none.
func ExampleServerSession_SendAll() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/prices", func(s *sse.ServerSession) error {
		return s.SendAll(
			sse.Event{Name: "price", Data: "ACME 12.5"},
			sse.Event{Name: "price", Data: "EMCA 5.21"},
		)
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/prices", nil))
	fmt.Print(w.Body)
	// Output:
	// event: price
	// data: ACME 12.5
	//
	// event: price
	// data: EMCA 5.21
}

// A template writes straight into the event, line by line.
func ExampleServerSession_SendFunc() {
	rows := template.Must(template.New("rows").Parse("<tr>\n  <td>{{.}}</td>\n</tr>"))

	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/rows", func(s *sse.ServerSession) error {
		return s.SendFunc(sse.Event{Name: "row"}, func(w io.Writer) error {
			return rows.Execute(w, "Ann & Bob")
		})
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/rows", nil))
	fmt.Print(w.Body)
	// Output:
	// event: row
	// data: <tr>
	// data:   <td>Ann &amp; Bob</td>
	// data: </tr>
}

func ExampleWithSerializer() {
	indented := sse.SerializerFunc(func(dst []byte, v any) ([]byte, error) {
		text, err := json.MarshalIndent(v, "", "  ")
		return append(dst, text...), err
	})
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/text", func(s *sse.ServerSession) error { return s.SendData(90 * time.Second) }, sse.WithSerializer(sse.Text))
	r.SSE("/pretty", func(s *sse.ServerSession) error { return s.SendData([]int{1, 2}) }, sse.WithSerializer(indented))

	for _, path := range []string{"/text", "/pretty"} {
		w := httptest.NewRecorder()
		r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		fmt.Print(w.Body)
	}
	// Output:
	// data: 1m30s
	//
	// data: [
	// data:   1,
	// data:   2
	// data: ]
}

// Before its first send a handler can still refuse the request with a status.
func ExampleError() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/private", func(s *sse.ServerSession) error {
		if _, _, ok := s.Call().BasicAuth(); !ok {
			return sse.Error(http.StatusForbidden, errors.New("members only"))
		}
		return s.SendData("welcome")
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/private", nil))
	fmt.Print(w.Code, " ", w.Body)
	// Output:
	// 403 {"status":403,"error":"members only"}
}

func ExampleServerSession_Heartbeat() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/load", func(s *sse.ServerSession) error {
		beats := 0
		err := s.Heartbeat(sse.Heartbeat{
			Period: 5 * time.Millisecond,
			Provider: func() sse.Event {
				if beats++; beats == 3 {
					defer s.Close()
				}
				return sse.Event{Name: "load", Data: strconv.Itoa(beats * 10)}
			},
		})
		if err != nil {
			return err
		}
		<-s.Done() // the heartbeat needs no loop in the handler
		return nil
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/load", nil))
	fmt.Print(w.Body)
	// Output:
	// event: load
	// data: 10
	//
	// event: load
	// data: 20
}

// A session ends when its token does. The client comes back, and needs a new one.
func ExampleServerSession_EndAt() {
	errToken := errors.New("the token has expired")
	r := sse.Install(chi.NewRouter(), sse.Config{
		Logger:  slog.New(slog.DiscardHandler),
		OnClose: func(_ *sse.ServerSession, end sse.End) { fmt.Println(end.Reason, errors.Is(end.Err, errToken)) },
	})
	r.SSE("/events", func(s *sse.ServerSession) error {
		expires := time.Now().Add(300 * time.Millisecond) // of the token
		s.EndAt(expires, errToken)
		if err := s.SendData("hello"); err != nil {
			return err
		}
		<-s.Done()
		return nil
	})

	w := httptest.NewRecorder()
	r.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/events", nil))
	fmt.Print(w.Body)
	// Output:
	// expired true
	// data: hello
}

func ExamplePlugin_Shutdown() {
	r := sse.Install(chi.NewRouter(), sse.Config{ShutdownSpread: time.Nanosecond}) // so small that every client is told 3000 ms
	r.SSE("/events", func(s *sse.ServerSession) error {
		if err := s.SendData("hello"); err != nil {
			return err
		}
		<-s.Done()
		return nil
	})
	srv := httptest.NewServer(r)
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/events")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	fmt.Println(r.Plugin().Len(), "session, shutdown:", r.Plugin().Shutdown(ctx))
	body, _ := io.ReadAll(resp.Body)
	fmt.Printf("%s", body)
	// Output:
	// 1 session, shutdown: <nil>
	// data: hello
	//
	// retry: 3000
}

func ExamplePlugin_Attach() {
	r := sse.Install(chi.NewRouter(), sse.Config{})
	r.SSE("/events", func(s *sse.ServerSession) error {
		if err := s.Open(); err != nil {
			return err
		}
		<-s.Done()
		return nil
	})

	srv := httptest.NewUnstartedServer(r)
	r.Plugin().Attach(srv.Config) // once, before the server starts
	srv.Start()
	defer srv.Close()
	resp, err := http.Get(srv.URL + "/events")
	if err != nil {
		panic(err)
	}
	defer resp.Body.Close()

	fmt.Println(srv.Config.Shutdown(context.Background())) // without Attach it would wait forever
	fmt.Println(r.Plugin().Len(), "sessions")
	// Output:
	// <nil>
	// 0 sessions
}
