package mqtt

import (
	"encoding/json"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"edged/core/config"
	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

var testTopics = Topics{Node: "pi", Group: "g"}

// schema compiles one definition of the published schema.
func schema(tb testing.TB, name string) *jsonschema.Schema {
	tb.Helper()
	const path = "../../../../docs/mqtt.schema.json"
	text, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(strings.NewReader(string(text)))
	if err != nil {
		tb.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft2020)
	if err := c.AddResource("mqtt.schema.json", doc); err != nil {
		tb.Fatal(err)
	}
	s, err := c.Compile("mqtt.schema.json#/$defs/" + name)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

// valid reports whether the schema accepts a text. What is no JSON is not accepted.
func valid(s *jsonschema.Schema, text string) error {
	v, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
	if err != nil {
		return err
	}
	return s.Validate(v)
}

func parse(topic, payload string, allow ...string) (*dispatch.Request, *problem) {
	in, wrong, ok := testTopics.parse(topic)
	if !ok || wrong != "" {
		return nil, &problem{err: invalid("topic: " + wrong)}
	}
	return testTopics.parseRequest(in, topic, []byte(payload), limits{replyToAllow: allow})
}

// TestAccepted: what is taken, and what becomes of it. The published schema accepts the same.
func TestAccepted(t *testing.T) {
	tests := []struct {
		name, topic, payload string
		want                 dispatch.Request
	}{
		{
			"prompt", "edged/pi/request", `{"id":"a","prompt":"hi"}`,
			dispatch.Request{ID: "a", Reply: "edged/pi/response/a", Prompt: "hi"},
		},
		{
			"client", "edged/pi/request/kitchen", ` { "id" : "a.B-9_", "prompt" : "hi" } `,
			dispatch.Request{ID: "a.B-9_", Client: "kitchen", Reply: "edged/pi/response/kitchen/a.B-9_", Prompt: "hi"},
		},
		{
			"group", "edged/@g/request/c", `{"id":"a","prompt":"hi"}`,
			dispatch.Request{ID: "a", Client: "c", Reply: "edged/@g/response/c/a", Prompt: "hi"},
		},
		{
			"reply_to", "edged/pi/request", `{"id":"a","prompt":"hi","reply_to":"home/x/answers"}`,
			dispatch.Request{ID: "a", Reply: "home/x/answers", Prompt: "hi"},
		},
		{
			"escaped key and id", "edged/pi/request", `{"\u0069d":"\u0061","prompt":"\"\\\u00e9"}`,
			dispatch.Request{ID: "a", Reply: "edged/pi/response/a", Prompt: "\"\\é"},
		},
		{
			"messages keep their order and their keys'", "edged/pi/request",
			`{"id":"a","messages":[{"content":"S","role":"system"},{"role":"user","name":"bo","content":[{"type":"text","text":"a<b"},{"text":"c","type":"text"}]}]}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a",
				Chat: json.RawMessage(`[{"content":"S","role":"system"},{"role":"user","name":"bo","content":"a<b\nc"}]`),
			},
		},
		{
			"tool conversation", "edged/pi/request",
			`{"id":"a","messages":[{"role":"user","content":"x"},{"role":"assistant","content":null,"tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"z":1,"a":2}}}]},{"role":"tool","tool_call_id":"1","content":"y"}],"tools":[{"type":"function","function":{"name":"f","parameters":{"z":{},"a":{}}}}],"tool_choice":"auto"}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a",
				Chat:    json.RawMessage(`[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"1","type":"function","function":{"name":"f","arguments":{"z":1,"a":2}}}]},{"role":"tool","tool_call_id":"1","content":"y"}]`),
				Tools:   json.RawMessage(`[{"type":"function","function":{"name":"f","parameters":{"z":{},"a":{}}}}]`),
				Options: dispatch.Options{ToolChoice: json.RawMessage(`"auto"`)},
			},
		},
		{
			"null is absent", "edged/pi/request",
			`{"id":"a","messages":[{"role":"user","content":"x"}],"max_tokens":12,"temperature":null,"stop":null,"tools":null,"response_format":null,"seed":null,
			  "tool_choice":null,"logit_bias":null,"adapter":null,"deadline_ms":null,"reply_to":null}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a", Chat: json.RawMessage(`[{"role":"user","content":"x"}]`),
				Options: dispatch.Options{MaxTokens: new(12)},
			},
		},
		{
			"a history as clients keep it", "edged/pi/request",
			`{"id":"a","messages":[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello.","refusal":null,"annotations":[],"audio":null,
			  "function_call":null,"tool_calls":null,"name":null},{"role":"user","content":"Lamp?","volatile":null}]}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a",
				Chat: json.RawMessage(`[{"role":"user","content":"Hi"},{"role":"assistant","content":"Hello."},{"role":"user","content":"Lamp?"}]`),
			},
		},
		{
			"numbers for ids, and nulls in parts", "edged/pi/request",
			`{"id":"a","messages":[{"role":"user","content":[{"type":"text","text":"x","volatile":null,"cache_control":null}]},{"role":"assistant","tool_calls":[{"id":7,"type":"function",
			  "function":{"name":"f","arguments":""}}]},{"role":"tool","tool_call_id":7,"content":"y"}]}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a",
				Chat: json.RawMessage(`[{"role":"user","content":"x"},{"role":"assistant","tool_calls":[{"id":"7","type":"function",` +
					`"function":{"name":"f","arguments":{}}}]},{"role":"tool","tool_call_id":"7","content":"y"}]`),
			},
		},
		{
			"an answer of its own", "edged/pi/request",
			`{"id":"a","messages":[{"role":"user","content":"x"},{"role":"assistant","content":"","tool_calls":[{"id":"call_0_0","type":"function",
			  "function":{"name":"f","arguments":"{\"z\":1, \"a\":[]}"}}]},{"role":"tool","tool_call_id":"call_0_0","content":"y"}]}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a",
				Chat: json.RawMessage(`[{"role":"user","content":"x"},{"role":"assistant","content":"","tool_calls":[{"id":"call_0_0","type":"function",` +
					`"function":{"name":"f","arguments":{"z":1, "a":[]}}}]},{"role":"tool","tool_call_id":"call_0_0","content":"y"}]`),
			},
		},
		{
			"every option", "edged/pi/request",
			`{"id":"a","prompt":"p","adapter":"pirate","stream":true,"max_tokens":64.0,"temperature":0,"top_k":4e1,"top_p":0.5,"min_p":0.25,"typical_p":1,
			  "repeat_penalty":1.5,"presence_penalty":-1,"frequency_penalty":2,"logit_bias":{"0":-100,"17":1.5},"seed":18446744073709551615,"stop":["a","b"],
			  "stop_ids":[1,2],"ignore_eos":true,"n":2,"best_of":3,"logprobs":true,"top_logprobs":5,"response_format":{"type":"text"},"grammar":"root ::= \"x\"",
			  "tools":[],"tool_choice":"none","template_vars":{"b":1,"a":[true,null]},"deadline_ms":1500,"priority":-3}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a", Prompt: "p", Stream: true,
				Adapters: []dispatch.AdapterRef{{Name: "pirate", Scale: 1}}, Vars: json.RawMessage(`{"b":1,"a":[true,null]}`),
				Deadline: 1500 * time.Millisecond, Priority: -3,
				Options: dispatch.Options{
					MaxTokens: new(64), Temperature: new(float32(0)), TopK: new(40), TopP: new(float32(0.5)), MinP: new(float32(0.25)),
					TypicalP: new(float32(1)), RepeatPenalty: new(float32(1.5)), PresencePenalty: new(float32(-1)), FrequencyPenalty: new(float32(2)),
					LogitBias: map[int32]float32{0: -100, 17: 1.5}, Seed: new(uint64(18446744073709551615)), Stop: []string{"a", "b"},
					StopIDs: []int32{1, 2}, IgnoreEOS: true, N: 2, BestOf: 3, Logprobs: true, TopLogprobs: 5,
					ResponseFormat: json.RawMessage(`{"type":"text"}`), Grammar: `root ::= "x"`, ToolChoice: json.RawMessage(`"none"`),
				},
			},
		},
		{
			"adapters", "edged/pi/request", `{"id":"a","prompt":"p","adapter":[{"name":"x","scale":0.5},{"name":"y"}],"stop":"end"}`,
			dispatch.Request{
				ID: "a", Reply: "edged/pi/response/a", Prompt: "p", Options: dispatch.Options{Stop: []string{"end"}},
				Adapters: []dispatch.AdapterRef{{Name: "x", Scale: 0.5}, {Name: "y", Scale: 1}},
			},
		},
		{
			"the bare model", "edged/pi/request", `{"id":"a","prompt":"p","adapter":[]}`,
			dispatch.Request{ID: "a", Reply: "edged/pi/response/a", Prompt: "p", Adapters: []dispatch.AdapterRef{}},
		},
		{
			"embed", "edged/pi/embed", `{"id":"a","input":["x","y"]}`,
			dispatch.Request{ID: "a", Kind: dispatch.Embed, Reply: "edged/pi/response/a", Texts: []string{"x", "y"}},
		},
		{
			"embed one", "edged/pi/embed/c", `{"id":"a","input":"x","priority":1}`,
			dispatch.Request{ID: "a", Kind: dispatch.Embed, Client: "c", Reply: "edged/pi/response/c/a", Texts: []string{"x"}, Priority: 1},
		},
		{
			"embed otherwise", "edged/pi/embed", `{"id":"a","input":"x","task":"query","dimensions":128,"encoding_format":"base64","truncate":false}`,
			dispatch.Request{ID: "a", Kind: dispatch.Embed, Reply: "edged/pi/response/a", Texts: []string{"x"}, Task: "query", Dims: 128, Packed: true, Whole: true},
		},
		{
			"embed by other names", "edged/pi/embed", `{"id":"a","input":"x","prompt_name":"query","encoding_format":"float","truncate":true,"task":null}`,
			dispatch.Request{ID: "a", Kind: dispatch.Embed, Reply: "edged/pi/response/a", Texts: []string{"x"}, Task: "query"},
		},
		{
			"score text", "edged/pi/score", `{"id":"a","prompt":"x","adapter":"p"}`,
			dispatch.Request{ID: "a", Kind: dispatch.Score, Reply: "edged/pi/response/a", Prompt: "x", Adapters: []dispatch.AdapterRef{{Name: "p", Scale: 1}}},
		},
		{
			"score ids", "edged/pi/score", `{"id":"a","ids":[1,2,3]}`,
			dispatch.Request{ID: "a", Kind: dispatch.Score, Reply: "edged/pi/response/a", IDs: []int32{1, 2, 3}},
		},
		{
			"rerank", "edged/pi/rerank/c", `{"id":"a","query":"q","documents":["x",{"text":"y","title":"t"}],"top_n":1,"instruct":"i","deadline_ms":5}`,
			dispatch.Request{
				ID: "a", Kind: dispatch.Rank, Client: "c", Reply: "edged/pi/response/c/a", Query: "q", Texts: []string{"x", "y"}, Best: 1, Instruct: "i",
				Deadline: 5 * time.Millisecond,
			},
		},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			got, p := parse(test.topic, test.payload, "home/+/answers")
			if p != nil {
				t.Fatalf("refused: %v", p.err)
			}
			test.want.Door, test.want.Hash = DoorName, hashOf(test.topic, []byte(test.payload))
			if diff := cmp.Diff(&test.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
			in, _, _ := testTopics.parse(test.topic)
			if err := valid(schema(t, in.level), test.payload); err != nil {
				t.Errorf("the schema refuses it: %v", err)
			}
		})
	}
}

// refusal is a payload that is refused; looser says that the schema, which cannot say everything, accepts it.
type refusal struct {
	name, payload, want string
	looser              bool
}

func refusals() []refusal {
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	return []refusal{
		{"empty", ``, "the payload is empty", false},
		{"no JSON", `hello`, "the payload is not JSON: invalid character 'h' looking for beginning of value, at byte 1", false},
		{"cut off", `{"id":"a","prompt":`, "the payload is not JSON: unexpected end of JSON input, at byte 19", false},
		{"two values", `{"id":"a","prompt":"x"} {}`, "the payload is not JSON: invalid character '{' after top-level value, at byte 25", false},
		{"no UTF-8", "{\"id\":\"a\",\"prompt\":\"\xff\"}", "the payload is not UTF-8", true},
		{"no object", `["a"]`, "wants an object, not a list", false},
		{"nested", `{"id":"a","prompt":"x","template_vars":{"v":` + deep + `}}`, "template_vars.v" + strings.Repeat("[0]", 31) + ": is nested deeper than 32 levels", true},
		{"many values", `{"id":"a","prompt":"x","template_vars":{"v":[` + strings.Repeat("0,", 70000) + `0]}}`, "template_vars.v[65531]: the payload holds more than 65536 values", true},
		{"key twice", `{"id":"a","prompt":"x","prompt":"y"}`, "prompt: is there twice", true},
		{"key twice, escaped", `{"id":"a","prompt":"x","template_vars":{"k":{"a":1,"\u0061":2}}}`, "template_vars.k.a: is there twice", true},
		{"bad id", `{"id":"a/b","prompt":"x"}`, "id: must match [A-Za-z0-9._-]{1,64}", false},
		{"wildcard id", `{"id":"+","prompt":"x"}`, "id: must match [A-Za-z0-9._-]{1,64}", false},
		{"long id", `{"id":"` + strings.Repeat("a", 65) + `","prompt":"x"}`, "id: must match [A-Za-z0-9._-]{1,64}", false},
		{"fraction as id", `{"id":7.5,"prompt":"x"}`, "id: wants a text or a whole number, not the number 7.5", false},
		{"list as id", `{"id":[7],"prompt":"x"}`, "id: wants a text or a whole number, not a list", false},
		{"events", `{"id":"a","prompt":"x","events":"some"}`, `events: "some" is neither "all" nor "last"`, false},
		{"events and stream", `{"id":"a","prompt":"x","events":"last","stream":true}`, `events: "last" contradicts stream`, true},
		{"long user", `{"id":"a","prompt":"x","user":"` + strings.Repeat("u", 1100) + `"}`, "user: has 1102 bytes, more than 1024", true},
		{"unknown field", `{"id":"a","prompt":"x","temprature":1}`, "temprature: is not a field of this request", false},
		{"no input", `{"id":"a"}`, "messages: is missing: the request needs messages or prompt", false},
		{"two inputs", `{"id":"a","prompt":"x","messages":[{"role":"user","content":"x"}]}`, "prompt: cannot stand beside messages", false},
		{"empty prompt", `{"id":"a","prompt":""}`, "prompt: is empty", false},
		{"null prompt", `{"id":"a","prompt":null}`, "messages: is missing: the request needs messages or prompt", false},
		{"no messages", `{"id":"a","messages":[]}`, "messages: holds no message", false},
		{"messages of another kind", `{"id":"a","messages":{"role":"user"}}`, "messages: wants a list, not an object", false},
		{"message of another kind", `{"id":"a","messages":["x"]}`, "messages[0]: wants an object, not a text", false},
		{"no role", `{"id":"a","messages":[{"content":"x"}]}`, "messages[0].role: is missing", false},
		{"bad role", `{"id":"a","messages":[{"role":"wizard","content":"x"}]}`, `messages[0].role: "wizard" is none of "system", "developer", "user", "assistant", "tool"`, false},
		{"no content", `{"id":"a","messages":[{"role":"user","content":"x"},{"role":"user"}]}`, "messages[1].content: is missing", false},
		{"null role", `{"id":"a","messages":[{"role":null,"content":"x"}]}`, "messages[0].role: wants a text, not null", false},
		{"null id", `{"id":null,"prompt":"x"}`, "id: wants a text or a whole number, not null", false},
		{"a refusal", `{"id":"a","messages":[{"role":"assistant","content":"x","refusal":"no"}]}`, "messages[0].refusal: is not a field of a message", false},
		{"null content", `{"id":"a","messages":[{"role":"user","content":null}]}`, "messages[0].content: is missing", false},
		{"bad content", `{"id":"a","messages":[{"role":"user","content":3}]}`, "messages[0].content: wants a text or a list of parts, not the number 3", false},
		{"message field", `{"id":"a","messages":[{"role":"user","content":"x","mood":"y"}]}`, "messages[0].mood: is not a field of a message", false},
		{"part type", `{"id":"a","messages":[{"role":"user","content":[{"type":"image_url","text":"x"}]}]}`, `messages[0].content[0].type: "image_url" is not served, only "text"`, false},
		{"part without text", `{"id":"a","messages":[{"role":"user","content":[{"type":"text"}]}]}`, "messages[0].content[0].text: is missing", false},
		{"part without type", `{"id":"a","messages":[{"role":"user","content":[{"text":"x"}]}]}`, "messages[0].content[0].type: is missing", false},
		{"part field", `{"id":"a","messages":[{"role":"user","content":[{"type":"text","text":"x","url":"y"}]}]}`, "messages[0].content[0].url: is not a field of a text part", false},
		{"part kind", `{"id":"a","messages":[{"role":"user","content":["x"]}]}`, "messages[0].content[0]: wants an object, not a text", false},
		{"volatile kind", `{"id":"a","messages":[{"role":"user","content":"x","volatile":1}]}`, "messages[0].volatile: wants true or false, not the number 1", false},
		{"volatile answer", `{"id":"a","messages":[{"role":"assistant","content":"x","volatile":true}]}`, `messages[0].volatile: is for system and user messages, not for role "assistant"`, true},
		{"tool_calls kind", `{"id":"a","messages":[{"role":"assistant","content":"x","tool_calls":["f"]}]}`, "messages[0].tool_calls[0]: wants an object, not a text", false},
		{"text for a number", `{"id":"a","prompt":"x","max_tokens":"many"}`, "max_tokens: wants a whole number, not a text", false},
		{"fraction", `{"id":"a","prompt":"x","max_tokens":1.5}`, "max_tokens: wants a whole number, not 1.5", false},
		{"too small", `{"id":"a","prompt":"x","max_tokens":0}`, "max_tokens: 0 is outside 1 to 4194304", false},
		{"huge", `{"id":"a","prompt":"x","max_tokens":1e300}`, "max_tokens: 1e300 is outside 1 to 4194304", false},
		{"temperature", `{"id":"a","prompt":"x","temperature":-0.1}`, "temperature: -0.1 is outside 0 to 100", false},
		{"temperature kind", `{"id":"a","prompt":"x","temperature":true}`, "temperature: wants a number, not true", false},
		{"top_p", `{"id":"a","prompt":"x","top_p":1.00000001}`, "top_p: 1.00000001 is outside 0 to 1", false},
		{"infinite", `{"id":"a","prompt":"x","temperature":1e999}`, "temperature: 1e999 is outside 0 to 100", false},
		{"seed", `{"id":"a","prompt":"x","seed":-1}`, "seed: -1 is no whole number from 0 to 18446744073709551615", false},
		{"seed too large", `{"id":"a","prompt":"x","seed":18446744073709551616}`, "seed: 18446744073709551616 is no whole number from 0 to 18446744073709551615", false},
		{"stop kind", `{"id":"a","prompt":"x","stop":[1]}`, "stop[0]: wants a text, not the number 1", false},
		{"stop empty", `{"id":"a","prompt":"x","stop":[""]}`, "stop[0]: is empty", false},
		{"stops", `{"id":"a","prompt":"x","stop":[` + strings.Repeat(`"x",`, 16) + `"x"]}`, "stop[16]: more than 16 texts are too many", false},
		{"stop_ids", `{"id":"a","prompt":"x","stop_ids":[-1]}`, "stop_ids[0]: -1 is outside 0 to 2147483647", false},
		{"bias key", `{"id":"a","prompt":"x","logit_bias":{"x":1}}`, "logit_bias.x: is no token id", false},
		{"bias twice", `{"id":"a","prompt":"x","logit_bias":{"1":1,"01":2}}`, "logit_bias.01: is there twice", true},
		{"bias value", `{"id":"a","prompt":"x","logit_bias":{"1":"2"}}`, "logit_bias.1: wants a number, not a text", false},
		{"n", `{"id":"a","prompt":"x","n":17}`, "n: 17 is outside 1 to 16", false},
		{"best_of", `{"id":"a","prompt":"x","n":3,"best_of":2}`, "best_of: 2 is less than n", true},
		{"top_logprobs alone", `{"id":"a","prompt":"x","top_logprobs":2}`, "top_logprobs: needs logprobs to be true", false},
		{"stream kind", `{"id":"a","prompt":"x","stream":"yes"}`, "stream: wants true or false, not a text", false},
		{"adapter name", `{"id":"a","prompt":"x","adapter":"../x"}`, `adapter: "../x" must match [A-Za-z0-9._-]{1,64}; an empty list asks for the bare model`, false},
		{"adapter kind", `{"id":"a","prompt":"x","adapter":{"name":"x"}}`, "adapter: wants a list, not an object", false},
		{"adapter no name", `{"id":"a","prompt":"x","adapter":[{"scale":1}]}`, "adapter[0].name: is missing", false},
		{"adapter field", `{"id":"a","prompt":"x","adapter":[{"name":"x","weight":1}]}`, "adapter[0].weight: is not a field of an adapter", false},
		{"adapter scale", `{"id":"a","prompt":"x","adapter":[{"name":"x","scale":1e9}]}`, "adapter[0].scale: 1e9 is outside -100 to 100", false},
		{"adapter twice", `{"id":"a","prompt":"x","adapter":[{"name":"x"},{"name":"x"}]}`, `adapter[1].name: "x" is there twice`, true},
		{"adapters", `{"id":"a","prompt":"x","adapter":[{"name":"a1"},{"name":"a2"},{"name":"a3"},{"name":"a4"},{"name":"a5"},{"name":"a6"},{"name":"a7"},{"name":"a8"},{"name":"a9"}]}`, "adapter[8]: more than 8 adapters are too many", false},
		{"response_format", `{"id":"a","prompt":"x","response_format":"json"}`, "response_format: wants an object, not a text", false},
		{"tools kind", `{"id":"a","prompt":"x","tools":["f"]}`, "tools[0]: wants an object, not a text", false},
		{"tool_choice", `{"id":"a","prompt":"x","tools":[{}],"tool_choice":"maybe"}`, `tool_choice: "maybe" is none of "auto", "none", "required"`, false},
		{"tool_choice alone", `{"id":"a","prompt":"x","tool_choice":"auto"}`, "tool_choice: needs tools", false},
		{"template_vars kind", `{"id":"a","prompt":"x","template_vars":[1]}`, "template_vars: wants an object, not a list", false},
		{"template_vars name", `{"id":"a","prompt":"x","template_vars":{"messages":[]}}`, "template_vars.messages: is edged's own variable", false},
		{"deadline", `{"id":"a","prompt":"x","deadline_ms":0}`, "deadline_ms: 0 is outside 1 to 604800000", false},
		{"priority", `{"id":"a","prompt":"x","priority":11}`, "priority: 11 is outside -10 to 10", false},
		{"reply_to wildcard", `{"id":"a","prompt":"x","reply_to":"home/+/answers"}`, "reply_to: holds a wildcard, '+' or '#'", false},
		{"reply_to elsewhere", `{"id":"a","prompt":"x","reply_to":"garden/answers"}`, "reply_to: matches none of mqtt.reply_to_allow", true},
		{"reply_to input", `{"id":"a","prompt":"x","reply_to":"edged/pi/ask"}`, "reply_to: is a topic of edged's own; below edged/ only response and answer topics can be named", true},
		{"reply_to another node's input", `{"id":"a","prompt":"x","reply_to":"edged/other/request/x"}`, "reply_to: is a topic of edged's own; below edged/ only response and answer topics can be named", true},
		{"reply_to state", `{"id":"a","prompt":"x","reply_to":"edged/pi/availability"}`, "reply_to: is a topic of edged's own; below edged/ only response and answer topics can be named", true},
		{"reply_to broker's", `{"id":"a","prompt":"x","reply_to":"$SYS/x"}`, "reply_to: begins with '$', as the broker's own topics do", false},
		{"reply_to control", `{"id":"a","prompt":"x","reply_to":"home/\u0000/answers"}`, "reply_to: holds a control character", false},
		{"reply_to empty", `{"id":"a","prompt":"x","reply_to":""}`, "reply_to: is empty", false},
		{"reply_to kind", `{"id":"a","prompt":"x","reply_to":1}`, "reply_to: wants a text, not the number 1", false},
		{"reply_to long", `{"id":"a","prompt":"x","reply_to":"` + strings.Repeat("a", 1025) + `"}`, "reply_to: is longer than 1024 bytes", false},
	}
}

// TestRefused: what is refused, with the field that is wrong. The schema refuses the same as far as it can.
func TestRefused(t *testing.T) {
	s := schema(t, "request")
	for _, test := range refusals() {
		t.Run(test.name, func(t *testing.T) {
			_, p := parse("edged/pi/request/c", test.payload, "home/+/answers")
			if p == nil {
				t.Fatal("was taken")
			}
			if p.err.Code != dispatch.CodeInvalidRequest || p.err.Message != test.want {
				t.Errorf("got  %v\nwant %s", p.err, test.want)
			}
			// With an id that can be used, the client is told on its response topic.
			if p.id != "" && p.reply != "edged/pi/response/c/"+p.id || p.id == "" && p.reply != "" {
				t.Errorf("id %q, reply %q", p.id, p.reply)
			}
			if err := valid(s, test.payload); (err == nil) != test.looser {
				t.Errorf("the schema says %v", err)
			}
		})
	}
}

func TestRefusedElsewhere(t *testing.T) {
	tests := []struct{ topic, payload, want string }{
		{"edged/pi/embed", `{"id":"a"}`, "input: is missing"},
		{"edged/pi/embed", `{"id":"a","input":[]}`, "input: holds no text"},
		{"edged/pi/embed", `{"id":"a","input":[""]}`, "input[0]: is empty"},
		{"edged/pi/embed", `{"id":"a","input":"x","temperature":1}`, "temperature: is not a field of this request"},
		{"edged/pi/embed", `{"id":"a","input":"x","messages":[]}`, "messages: is not a field of this request"},
		{"edged/pi/embed", `{"id":"a","input":"x","dimensions":0}`, "dimensions: 0 is outside 1 to 1048576"},
		{"edged/pi/embed", `{"id":"a","input":"x","encoding_format":"int8"}`, `encoding_format: "int8" is neither "float" nor "base64"`},
		{"edged/pi/embed", `{"id":"a","input":"x","truncate":1}`, "truncate: wants true or false, not the number 1"},
		{"edged/pi/score", `{"id":"a"}`, "prompt: is missing: the request needs prompt or ids"},
		{"edged/pi/score", `{"id":"a","prompt":"x","ids":[1]}`, "ids: cannot stand beside prompt"},
		{"edged/pi/score", `{"id":"a","ids":[]}`, "ids: holds no token"},
		{"edged/pi/score", `{"id":"a","ids":[1,"2"]}`, "ids[1]: wants a whole number, not a text"},
		{"edged/pi/score", `{"id":"a","prompt":"x","stream":true}`, "stream: is not a field of this request"},
		{"edged/pi/rerank", `{"id":"a","documents":["x"]}`, "query: is missing"},
		{"edged/pi/rerank", `{"id":"a","query":"x"}`, "documents: is missing"},
		{"edged/pi/rerank", `{"id":"a","query":"","documents":["x"]}`, "query: is empty"},
		{"edged/pi/rerank", `{"id":"a","query":"x","documents":[]}`, "documents: holds no document"},
		{"edged/pi/rerank", `{"id":"a","query":"x","documents":["a",""]}`, "documents[1]: is empty"},
		{"edged/pi/rerank", `{"id":"a","query":"x","documents":["a",{"title":"b"}]}`, "documents[1].text: is missing"},
		{"edged/pi/rerank", `{"id":"a","query":"x","documents":["a"],"top_n":0}`, "top_n: 0 is outside 1 to 2147483647"},
		{"edged/pi/rerank", `{"id":"a","query":"x","documents":["a"],"input":"b"}`, "input: is not a field of this request"},
	}
	for _, test := range tests {
		_, p := parse(test.topic, test.payload)
		if p == nil || p.err.Message != test.want {
			t.Errorf("%s %s: got %v, want %s", test.topic, test.payload, p, test.want)
		}
		in, _, _ := testTopics.parse(test.topic)
		if valid(schema(t, in.level), test.payload) == nil {
			t.Errorf("%s %s: the schema accepts it", test.topic, test.payload)
		}
	}
	if _, p := parse("edged/pi/embed", `{"id":"a","input":"x","task":"query","prompt_name":"document"}`); p == nil || p.err.Message != `prompt_name: "document" is not the "query" that the other of task and prompt_name says` {
		t.Errorf("got %v", p)
	}
	if _, p := parse("edged/pi/request", `{"id":"a","prompt":"x","reply_to":"home/x"}`); p == nil || p.err.Message != "reply_to: is not allowed: mqtt.reply_to_allow is empty on this node" {
		t.Errorf("got %v", p)
	}
}

func TestHash(t *testing.T) {
	a, _ := parse("edged/pi/request/c", `{"id":"a","prompt":"x"}`)
	b, _ := parse("edged/pi/request/c", `{"id":"a","prompt":"x"}`)
	c, _ := parse("edged/pi/request/c", `{"id":"a","prompt":"y"}`)
	d, _ := parse("edged/@g/request/c", `{"id":"a","prompt":"x"}`)
	if a.Hash != b.Hash {
		t.Error("a repeat has another hash")
	}
	if a.Hash == c.Hash || a.Hash == d.Hash {
		t.Error("another request has the same hash")
	}
}

func TestCancelPayload(t *testing.T) {
	s := schema(t, "cancel")
	for payload, want := range map[string]string{
		"*": "*", "abc": "abc", `{"id":"abc"}`: "abc", ` {"id" : "a.b"} `: "a.b",
		"": "!a cancel is an id, plain or as {\"id\":…}: the payload is empty", "a b": "!a cancel is an id", `{"id":1}`: "1", `{"id":1.5}`: "!id: must match", `{"id":"a/b"}`: "!id: must match",
		`{}`: "!id: is missing", `{"id":"a","x":1}`: "!x: is not a field of a cancel", `"abc"`: "!wants an object, not a text", "a\xff": "!a cancel is an id",
	} {
		id, err := parseCancel([]byte(payload))
		if msg, bad := strings.CutPrefix(want, "!"); bad {
			if err == nil || !strings.HasPrefix(err.Error(), msg) {
				t.Errorf("%q: %q, %v", payload, id, err)
			}
			if json.Valid([]byte(payload)) && valid(s, payload) == nil {
				t.Errorf("%q: the schema accepts it", payload)
			}
			continue
		}
		if err != nil || id != want {
			t.Errorf("%q: %q, %v", payload, id, err)
		}
		if json.Valid([]byte(payload)) && valid(s, payload) != nil {
			t.Errorf("%q: the schema refuses it", payload)
		}
	}
}

// FuzzRequest: any payload on any input topic is taken or refused with a message, never a panic, within an allocation
// bound; what is taken survives the journal, and the schema accepts it.
func FuzzRequest(f *testing.F) {
	for _, r := range refusals() {
		if len(r.payload) < 1<<14 {
			f.Add([]byte(r.payload), "edged/pi/request")
		}
	}
	f.Add([]byte(`{"id":"a","messages":[{"role":"user","content":[{"type":"text","text":"x","volatile":true},{"type":"text","text":"y"}]}]}`), "edged/pi/request/c")
	f.Add([]byte(`{"id":"a","input":["x"]}`), "edged/pi/embed")
	f.Add([]byte(`{"id":"a","ids":[1]}`), "edged/pi/score/x")
	f.Add([]byte(`{"input":"x","task":"a","prompt_name":"a","dimensions":3,"encoding_format":"base64","truncate":false}`), "edged/pi/embed")
	f.Add([]byte(`{"query":"a","documents":["b",{"text":"c"}],"top_n":1,"instruct":"d"}`), "edged/pi/rerank")
	f.Add([]byte(`{"id":"a"}`), "edged/@g/cancel")
	schemas := map[string]*jsonschema.Schema{}
	for _, level := range []string{levelRequest, levelEmbed, levelScore, levelRerank, levelCancel} {
		schemas[level] = schema(f, level)
	}
	f.Fuzz(func(t *testing.T, payload []byte, topic string) {
		in, wrong, ok := testTopics.parse(topic)
		if !ok || wrong != "" {
			return
		}
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _ = parseCancel(payload)
		req, p := testTopics.parseRequest(in, topic, payload, limits{replyToAllow: []string{"#"}})
		runtime.ReadMemStats(&after)
		if most := uint64(1<<20 + 512*len(payload)); after.TotalAlloc-before.TotalAlloc > most {
			t.Errorf("%d bytes of payload took %d bytes of memory", len(payload), after.TotalAlloc-before.TotalAlloc)
		}
		if p != nil {
			if p.err.Message == "" {
				t.Error("refused without a word")
			}
			return
		}
		if in.level == levelAsk || in.level == levelCancel {
			return // their payloads are not read as requests
		}
		if err := valid(schemas[in.level], string(payload)); err != nil {
			t.Errorf("%s: taken, and the schema refuses it: %v", payload, err)
		}
		if _, err := json.Marshal(req); err != nil {
			t.Errorf("%s: taken, and cannot be journalled: %v", payload, err)
		}
		for _, raw := range []json.RawMessage{req.Chat, req.Tools, req.Vars, req.Options.ResponseFormat, req.Options.ToolChoice} {
			if raw != nil && !json.Valid(raw) {
				t.Errorf("%s: made %s, which is no JSON", payload, raw)
			}
		}
	})
}

// page is the API's documentation.
func page(tb testing.TB) string {
	tb.Helper()
	text, err := os.ReadFile("../../../../docs/mqtt.md")
	if err != nil {
		tb.Fatal(err)
	}
	return string(text)
}

// TestCodesAreDocumented: the closed list of codes stands in the schema and in the API's page.
func TestCodesAreDocumented(t *testing.T) {
	s := schema(t, "error")
	for _, code := range []dispatch.Code{
		dispatch.CodeInvalidRequest, dispatch.CodeAdapterNotFound, dispatch.CodeModelNotFound, dispatch.CodePromptNotFound, dispatch.CodeContextLength, dispatch.CodeQueueFull, dispatch.CodeDeadline,
		dispatch.CodeIDConflict, dispatch.CodeBackendUnavailable, dispatch.CodeQuarantined, dispatch.CodeStorage, dispatch.CodeUnsupported,
		dispatch.CodeTooLarge, dispatch.CodeShuttingDown, dispatch.CodeInternal,
	} {
		data, err := fields.Encode(Error{Code: code, Message: "m"})
		if err != nil {
			t.Fatal(err)
		}
		if err := valid(s, string(data)); err != nil {
			t.Errorf("%s: %v", code, err)
		}
		if page := page(t); !strings.Contains(page, "| `"+string(code)+"` |") {
			t.Errorf("docs/mqtt.md does not explain %s", code)
		}
	}
}

// TestIDs: a number is an id, a request without one gets one, and what the client sent beside it comes back.
func TestIDs(t *testing.T) {
	for payload, want := range map[string]string{
		`{"id":7,"prompt":"x"}`:                            "7",
		`{"id":7.0,"prompt":"x"}`:                          "7",
		`{"id":-3,"prompt":"x"}`:                           "-3",
		`{"id":1700000000123,"prompt":"x"}`:                "1700000000123",
		`{"id":"a.b","prompt":"x"}`:                        "a.b",
		`{"user":{"transaction":4},"id":"u","prompt":"x"}`: "u",
	} {
		topic := "edged/pi/request/c"
		in, _, _ := testTopics.parse(topic)
		req, p := testTopics.parseRequest(in, topic, []byte(payload), limits{})
		if p != nil || req.ID != want || req.Reply != "edged/pi/response/c/"+want {
			t.Errorf("%s: %+v, %+v", payload, req, p)
			continue
		}
		if want == "u" && string(eventOf(req, dispatch.Event{Accepted: &dispatch.Accepted{}}).User) != `{"transaction":4}` {
			t.Errorf("%s: its own value does not come back", payload)
		}
	}
	topic := "edged/pi/request"
	in, _, _ := testTopics.parse(topic)
	one, p := testTopics.parseRequest(in, topic, []byte(`{"prompt":"x","events":"last"}`), limits{})
	other, q := testTopics.parseRequest(in, topic, []byte(`{"prompt":"x"}`), limits{})
	if p != nil || q != nil || !config.ValidName(one.ID) || one.ID == other.ID || one.Reply != "edged/pi/response/"+one.ID || !one.LastOnly {
		t.Errorf("without an id: %+v, %+v", one, other)
	}
}
