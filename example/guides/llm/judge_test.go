package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"testing"

	"github.com/anthropics/anthropic-sdk-go"
	anthropicoption "github.com/anthropics/anthropic-sdk-go/option"
	"github.com/openai/openai-go/v3"
	openaioption "github.com/openai/openai-go/v3/option"
	"github.com/stretchr/testify/require"

	"github.com/chi-sse/sse/client"
)

// The SDK of each provider reads the same bytes as the program, and must find the same answer.

// asOpenAI returns what the SDK of OpenAI makes of the answer at url.
func asOpenAI(ctx context.Context, url string) (answer, error) {
	c := openai.NewClient(openaioption.WithBaseURL(url), openaioption.WithAPIKey("key"), openaioption.WithMaxRetries(0))
	stream := c.Chat.Completions.NewStreaming(ctx, openai.ChatCompletionNewParams{Model: "m"})
	defer stream.Close()
	var acc openai.ChatCompletionAccumulator
	for stream.Next() {
		if !acc.AddChunk(stream.Current()) {
			return answer{}, fmt.Errorf("the accumulator refuses %s", stream.Current().RawJSON())
		}
	}
	a := answer{Usage: usage{int(acc.Usage.PromptTokens), int(acc.Usage.CompletionTokens)}}
	if len(acc.Choices) > 0 {
		m := acc.Choices[0].Message
		a.Text, a.Refusal, a.Stop = m.Content, m.Refusal, acc.Choices[0].FinishReason
		for _, call := range m.ToolCalls {
			a.ToolCalls = append(a.ToolCalls, toolCall{call.ID, call.Function.Name, call.Function.Arguments})
		}
	}
	return a, stream.Err()
}

// asAnthropic returns what the SDK of Anthropic makes of the answer at url.
func asAnthropic(ctx context.Context, url string) (answer, error) {
	c := anthropic.NewClient(anthropicoption.WithBaseURL(url), anthropicoption.WithAPIKey("key"), anthropicoption.WithMaxRetries(0))
	stream := c.Messages.NewStreaming(ctx, anthropic.MessageNewParams{Model: "m", MaxTokens: 1})
	defer stream.Close()
	var m anthropic.Message
	for stream.Next() {
		if err := m.Accumulate(stream.Current()); err != nil {
			return answer{}, err
		}
	}
	a := answer{Stop: string(m.StopReason), Usage: usage{int(m.Usage.InputTokens), int(m.Usage.OutputTokens)}}
	for _, b := range m.Content {
		switch b.Type {
		case "text":
			a.Text += b.Text
		case "tool_use":
			a.ToolCalls = append(a.ToolCalls, toolCall{b.ID, b.Name, string(b.Input)})
		}
	}
	return a, stream.Err()
}

// judge compares what ask and the SDK make of the events.
func judge(t *testing.T, rng *rand.Rand, ask asker, sdk func(context.Context, string) (answer, error), events []sent, want answer) {
	t.Helper()
	stream := streamOf(rng, events)
	url := serveIn(t, rng, stream)
	theirs, err := sdk(t.Context(), url)
	require.NoError(t, err, stream)
	require.Equal(t, want, theirs, "the SDK reads something else than was sent:\n%s", stream)
	var text string
	ours, err := ask(t.Context(), newClient(http.DefaultClient, client.ResendNever, nil), url, "key", []byte("{}"), func(s string) { text += s })
	require.NoError(t, err, stream)
	require.Equal(t, theirs, ours, stream)
	require.Equal(t, ours.Text, text, stream)
}

func TestJudgedByTheSDKs(t *testing.T) {
	t.Parallel()
	seed := rand.Uint64()
	t.Log("seed", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 50 {
		want := randomAnswer(rng)
		judge(t, rng, askOpenAI, asOpenAI, openAIEvents(rng, want), want)
		want = randomAnswer(rng)
		want.Refusal = ""
		judge(t, rng, askAnthropic, asAnthropic, anthropicEvents(rng, want), want)
	}
}

// The SDKs and the program report the same errors in mid-stream.
func TestErrorInMidStreamJudgedByTheSDKs(t *testing.T) {
	t.Parallel()
	rng := rand.New(rand.NewPCG(1, 2))
	want := randomAnswer(rng)
	for name, tt := range map[string]struct {
		ask    asker
		sdk    func(context.Context, string) (answer, error)
		events []sent
		end    sent
	}{
		"OpenAI":        {askOpenAI, asOpenAI, openAIEvents(rng, want), sent{"", openAIError}},
		"OpenAI, text":  {askOpenAI, asOpenAI, openAIEvents(rng, want), sent{"", `{"error":"The server had an error"}`}},
		"Anthropic":     {askAnthropic, asAnthropic, anthropicEvents(rng, want), sent{"error", anthropicError}},
		"error at once": {askAnthropic, asAnthropic, nil, sent{"error", anthropicError}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for n := range max(1, len(tt.events)-2) { // a ping may follow the last event
				url := serveIn(t, rand.New(rand.NewPCG(1, 2)), streamOf(rand.New(rand.NewPCG(1, 2)), append(tt.events[:n:n], tt.end)))
				theirs, theirErr := tt.sdk(t.Context(), url)
				ours, err := tt.ask(t.Context(), newClient(http.DefaultClient, client.ResendNever, nil), url, "key", []byte("{}"), func(string) {})
				var e *apiError
				require.ErrorAs(t, err, &e)
				require.Error(t, theirErr)
				require.Contains(t, theirErr.Error(), e.Message)
				require.Equal(t, theirs, ours)
			}
		})
	}
}
