package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"

	"github.com/modelcontextprotocol/go-sdk/jsonrpc"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/internal/testkit"
)

// sdkTransport lets a client of the SDK use a transport.
type sdkTransport struct {
	http *http.Client
	url  string
}

func (s *sdkTransport) Connect(context.Context) (mcp.Connection, error) {
	c := &sdkConn{in: make(chan jsonrpc.Message)}
	c.ctx, c.stop = context.WithCancel(context.Background())
	c.t = newTransport(s.http, s.url, c.received)
	retrySoon(c.t, s.http)
	return c, nil
}

type sdkConn struct {
	t    *transport
	in   chan jsonrpc.Message
	ctx  context.Context
	stop context.CancelFunc
	end  sync.Once
	wg   sync.WaitGroup
}

func (c *sdkConn) received(msg []byte) {
	if m, err := jsonrpc.DecodeMessage(msg); err == nil {
		select {
		case c.in <- m:
		case <-c.ctx.Done():
		}
	}
}

func (c *sdkConn) Read(ctx context.Context) (jsonrpc.Message, error) {
	select {
	case m := <-c.in:
		return m, nil
	case <-c.ctx.Done():
		return nil, io.EOF
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (c *sdkConn) Write(ctx context.Context, m jsonrpc.Message) error {
	msg, err := jsonrpc.EncodeMessage(m)
	if err != nil {
		return err
	}
	req, ok := m.(*jsonrpc.Request)
	if !ok || !req.IsCall() {
		_, err := c.t.send(ctx, msg)
		if err == nil && ok && req.Method == "notifications/initialized" {
			c.wg.Go(func() { _ = c.t.listen(c.ctx) })
		}
		return err
	}
	c.wg.Go(func() {
		response, err := c.t.send(ctx, msg)
		if err != nil {
			response, _ = jsonrpc.EncodeMessage(&jsonrpc.Response{ID: req.ID, Error: errors.New(err.Error())})
		}
		c.received(response)
	})
	return nil
}

func (c *sdkConn) Close() (err error) {
	c.end.Do(func() {
		err = c.t.close(context.Background())
		c.stop()
		c.wg.Wait()
	})
	return err
}

func (c *sdkConn) SessionID() string { return "" }

// The SDK's own client works over the transport, as over its own, on connections that break.
func TestClientOfTheSDK(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]mcp.StreamableHTTPOptions{
		"with ids": resumable(), "JSON": {JSONResponse: true}, "stateless": {Stateless: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const calls, n = 10, 20
			s := serve(t, options, nil)
			hc, cut := http.DefaultClient, &cutter{limit: 300}
			if options.EventStore != nil {
				hc = &http.Client{Transport: cut}
			}
			reports := n
			if options.JSONResponse {
				reports = 0 // there is no stream to send them by
			}
			mcp.AddTool(s.mcp, &mcp.Tool{Name: "ask"}, func(ctx context.Context, req *mcp.CallToolRequest, _ struct{}) (*mcp.CallToolResult, any, error) {
				answer, err := req.Session.Elicit(ctx, &mcp.ElicitParams{Message: "Go on?", RequestedSchema: map[string]any{"type": "object"}})
				if err != nil {
					return nil, nil, err
				}
				return &mcp.CallToolResult{Content: []mcp.Content{&mcp.TextContent{Text: answer.Action}}}, nil, nil
			})

			var mu sync.Mutex
			got := map[any][]int{}
			c := mcp.NewClient(&mcp.Implementation{Name: "c", Version: "1"}, &mcp.ClientOptions{
				ElicitationHandler: func(context.Context, *mcp.ElicitRequest) (*mcp.ElicitResult, error) {
					return &mcp.ElicitResult{Action: "accept"}, nil
				},
				ProgressNotificationHandler: func(_ context.Context, req *mcp.ProgressNotificationClientRequest) {
					mu.Lock()
					defer mu.Unlock()
					got[req.Params.ProgressToken] = append(got[req.Params.ProgressToken], int(req.Params.Progress))
				},
			})
			cs, err := c.Connect(t.Context(), &sdkTransport{hc, s.url}, &mcp.ClientSessionOptions{ProtocolVersion: "2025-11-25"})
			require.NoError(t, err)
			s.waitForListener(t, 1)

			var wg sync.WaitGroup
			for i := range calls {
				wg.Go(func() {
					name := fmt.Sprint("call-", i)
					params := &mcp.CallToolParams{Name: "count", Arguments: countArgs{Name: name, N: reports}}
					params.SetProgressToken(name)
					result, err := cs.CallTool(t.Context(), params)
					if assert.NoError(t, err) && assert.Len(t, result.Content, 1) {
						assert.Equal(t, name+" is done", result.Content[0].(*mcp.TextContent).Text)
						assert.EqualValues(t, 1, s.called(name))
					}
				})
			}
			wg.Wait()
			if options.EventStore != nil {
				result, err := cs.CallTool(t.Context(), &mcp.CallToolParams{Name: "ask"})
				require.NoError(t, err)
				require.Equal(t, "accept", result.Content[0].(*mcp.TextContent).Text)
				require.Positive(t, cut.cuts.Load())
			}
			for i := range calls {
				testkit.Eventually(t, func() bool { // the SDK may still be handing them out
					mu.Lock()
					defer mu.Unlock()
					return len(got[fmt.Sprint("call-", i)]) >= reports
				}, "all notifications")
				mu.Lock()
				assert.Equal(t, upTo(reports), append([]int{}, got[fmt.Sprint("call-", i)]...))
				mu.Unlock()
			}
			require.NoError(t, cs.Close())
		})
	}
}
