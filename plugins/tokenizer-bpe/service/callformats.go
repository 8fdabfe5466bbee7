package service

import "strings"

// callFormat is how a family writes calls, as the templates write them into a history. In its texts §N is a
// name, §A the arguments, §K and §V the key and the value of one argument, §I the number of the call from 0
// on, §R nine letters or digits of the model's own.
type callFormat struct {
	shows []string // all of them stand in the templates of the family
	lacks string   // and this does not
	begin string   // what calls begin with and nothing else does; "": they cannot be told by their beginning
	open  string   // before the first call
	call  string   // one call
	join  string   // between calls
	close string   // behind the last one
	most  int      // calls in one answer; 0: any number. Numbered ones are counted up to maxNumbered.

	// Where text is empty, the arguments are JSON. Otherwise each stands alone:
	text   string   // one whose value is a text, or of unknown type
	other  string   // one of another type; "": as text
	gap    string   // between arguments
	values spelling // of values that are no texts
}

// spelling is how values are spelt outside of JSON.
type spelling uint8

const (
	asJSON   spelling = iota
	asWords           // lists and objects as JSON, but True, False and None alone
	asPython          // as Python prints them
	asMarked          // likewise, and texts with special characters between marks
	asRepr            // what Python prints inside of lists and objects
	asCall            // Python's call: texts in quotes, lists as Python, objects as JSON (LFM2)
	asGemma           // bare keys in their order, texts between marks, no blanks
)

const maxNumbered = 8

// callFormats are tried in this order. The last one is everybody's.
func callFormats() []callFormat {
	const begin, sep, end = "<｜tool▁call▁begin｜>", "<｜tool▁sep｜>", "<｜tool▁call▁end｜>"
	object := func(key string) string { return `{"name": §N, "` + key + `": §A}` }
	tagged := callFormat{ // Qwen 3.5, Qwen 3 Coder, Nemotron 3
		shows: []string{callStart, "<function="}, begin: callStart, join: "\n",
		call: "<tool_call>\n<function=§N>\n§A</function>\n</tool_call>", text: "<parameter=§K>\n§V\n</parameter>\n", values: asWords,
	}
	stepFun := tagged
	stepFun.shows, stepFun.join = []string{callStart, "<function=", `<|im_start|>tool_response`}, ""
	keyed := callFormat{ // GLM 4.5, 4.6
		shows: []string{callStart, "</arg_key>\n<arg_value>"}, begin: callStart, join: "\n",
		call: "<tool_call>§N\n§A</tool_call>", text: "<arg_key>§K</arg_key>\n<arg_value>§V</arg_value>\n",
	}
	laguna, ling, close := keyed, keyed, keyed
	laguna.shows = []string{callStart, `</arg_key>\n<arg_value>`, `</tool_call>\n`}
	ling.shows, ling.call, ling.text = []string{
		callStart,
		`'\n</tool_call>'`,
		"<arg_key>",
	}, "<tool_call>§N\n§A\n</tool_call>", "<arg_key>§K</arg_key>\n<arg_value>§V</arg_value>"
	close.shows, close.call, close.text, close.join = []string{
		callStart,
		"<arg_key>",
	}, "<tool_call>§N§A</tool_call>", "<arg_key>§K</arg_key><arg_value>§V</arg_value>", ""
	dsml := callFormat{ // DeepSeek V3.2
		shows: []string{"｜DSML｜", "function_calls"}, begin: "<｜DSML｜function_calls>", open: "<｜DSML｜function_calls>\n",
		call: "<｜DSML｜invoke name=\"§N\">\n§A</｜DSML｜invoke>\n", close: "</｜DSML｜function_calls>",
		text:  "<｜DSML｜parameter name=\"§K\" string=\"true\">§V</｜DSML｜parameter>\n",
		other: "<｜DSML｜parameter name=\"§K\" string=\"false\">§V</｜DSML｜parameter>\n",
	}
	dsml4 := dsml
	dsml4.shows, dsml4.begin, dsml4.open, dsml4.close = []string{
		"｜DSML｜",
	}, "<｜DSML｜tool_calls>", "<｜DSML｜tool_calls>\n", "</｜DSML｜tool_calls>"
	dsml4.call, dsml4.gap = "<｜DSML｜invoke name=\"§N\">\n§A\n</｜DSML｜invoke>\n", "\n"
	dsml4.text, dsml4.other = strings.TrimSuffix(dsml.text, "\n"), strings.TrimSuffix(dsml.other, "\n")
	const actions = `{"tool_call_id": "§I", "tool_name": §N, "parameters": §A}`
	hermes := callFormat{ // Hermes, Qwen 2.5 and 3, Granite 4, Reka
		shows: []string{callStart}, begin: callStart, join: "\n", call: "<tool_call>\n" + object("arguments") + "\n</tool_call>",
	}
	return []callFormat{
		{ // MiniMax M3 has lists and objects as elements: such calls are read and not demanded
			shows: []string{elementMark}, most: -1,
		},
		{ // MiniMax M3, whose template puts its mark together
			shows: []string{"]<]", "minimax"}, most: -1,
		},
		{
			shows: []string{"<seed:tool_call>"}, begin: "<seed:tool_call>", join: "\n", values: asPython,
			call: "<seed:tool_call>\n<function=§N>\n§A</function>\n</seed:tool_call>", text: "<parameter=§K>§V</parameter>\n",
		},
		{ // MiniMax M2
			shows: []string{"<minimax:tool_call>"}, begin: "<minimax:tool_call>", open: "<minimax:tool_call>\n",
			call: "<invoke name=\"§N\">\n§A</invoke>\n", close: "</minimax:tool_call>", text: "<parameter name=\"§K\">§V</parameter>\n",
		},
		dsml, dsml4,
		{ // Kimi K3 names the type of each argument: such calls are read and not demanded
			shows: []string{"<|open|>", "<|close|>", "<|sep|>"}, most: -1,
		},
		{
			shows: []string{"<|tool_calls_section_begin|>"}, begin: "<|tool_calls_section_begin|>", open: "<|tool_calls_section_begin|>",
			call:  "<|tool_call_begin|>functions.§N:§I<|tool_call_argument_begin|>§A<|tool_call_end|>",
			close: "<|tool_calls_section_end|>",
		},
		{ // DeepSeek R1
			shows: []string{"<｜tool▁calls▁begin｜>", "```json"}, begin: "<｜tool▁calls▁begin｜>", open: "<｜tool▁calls▁begin｜>",
			call: begin + "function" + sep + "§N\n```json\n§A\n```" + end, join: "\n", close: "<｜tool▁calls▁end｜>",
		},
		{ // DeepSeek V3.1
			shows: []string{"<｜tool▁calls▁begin｜>"}, begin: "<｜tool▁calls▁begin｜>", open: "<｜tool▁calls▁begin｜>",
			call: begin + "§N" + sep + "§A" + end, close: "<｜tool▁calls▁end｜>",
		},
		{
			shows: []string{"<|START_ACTION|>"}, begin: "<|START_ACTION|>", open: "<|START_ACTION|>[\n    ",
			call: actions, join: ",\n    ", close: "\n]<|END_ACTION|>",
		},
		{
			shows: []string{"<|tools_prefix|>"}, begin: "<|tools_prefix|>", open: "<|tools_prefix|>[",
			call: "{§N: §A}", join: ", ", close: "]<|tools_suffix|>",
		},
		{
			shows: []string{"<TOOLCALL>"}, begin: "<TOOLCALL>", open: "<TOOLCALL>[",
			call: object("arguments"), join: ", ", close: "]</TOOLCALL>",
		},
		{ // LFM2
			shows: []string{"<|tool_call_start|>"}, begin: "<|tool_call_start|>", open: "<|tool_call_start|>[",
			call: "§N(§A)", join: ", ", close: "]<|tool_call_end|>", text: "§K=§V", gap: ", ", values: asCall,
		},
		{ // LFM2, whose template shows only results
			shows: []string{"<|tool_response_start|>"}, begin: "<|tool_call_start|>", open: "<|tool_call_start|>[",
			call: "§N(§A)", join: ", ", close: "]<|tool_call_end|>", text: "§K=§V", gap: ", ", values: asCall,
		},
		{
			shows: []string{"<|tool_call>"}, begin: "<|tool_call>", call: "<|tool_call>call:§N{§A}<tool_call|>",
			text: "§K:§V", gap: ",", values: asGemma,
		},
		{ // gpt-oss: a message to a function. <|call|>, which ends it, ends the answer.
			shows: []string{"functions.", "<|channel|>commentary"}, begin: " to=functions.", most: 1,
			call: " to=functions.§N<|channel|>commentary json<|message|>§A",
		},
		{ // Solar Open; its ids are the caller's business
			shows: []string{"<|tool_call:begin|>"}, begin: "<|tool_calls|>", open: "<|tool_calls|>",
			call:  "<|tool_call:begin|>§R<|tool_call:name|>§N<|tool_call:args|>§A<|tool_call:end|>",
			close: "<|calls|>",
		},
		{
			shows: []string{"<|function_call|>"}, begin: "<|function_call|>", call: "<|function_call|>" + object("arguments"), most: 1,
		},
		{ // Granite 3
			shows: []string{"<|tool_call|>"}, begin: "<|tool_call|>", open: "<|tool_call|>[",
			call: object("arguments"), join: ", ", close: "]",
		},
		{ // Phi-4-mini
			shows: []string{"<|tool|>", "<|/tool|>"}, begin: "<|tool_call|>", open: "<|tool_call|>[",
			call: object("arguments"), join: ", ", close: "]<|/tool_call|>",
		},
		{ // Mistral Small 3.2
			shows: []string{callsMark, "[CALL_ID]"}, begin: callsMark, call: "[TOOL_CALLS]§N[CALL_ID]§R[ARGS]§A",
		},
		{ // Ministral 3, Devstral 2
			shows: []string{callsMark, argsMark}, begin: callsMark, call: "[TOOL_CALLS]§N[ARGS]§A",
		},
		{ // Mistral 7B, Nemo
			shows: []string{callsMark}, begin: callsMark, open: "[TOOL_CALLS][", call: object("arguments"), join: ", ", close: "]",
		},
		{ // MiniMax M1
			shows: []string{"<tool_calls>", "\\n</tool_calls>"}, begin: "<tool_calls>", open: "<tool_calls>\n",
			call: object("arguments"), join: "\n", close: "\n</tool_calls>",
		},
		{ // Apriel
			shows: []string{"<tool_calls>["}, begin: "<tool_calls>", open: "<tool_calls>[",
			call: object("arguments"), join: ", ", close: "]</tool_calls>",
		},
		{ // Hunyuan
			shows: []string{"tool_calls:opensource"}, most: -1,
		},
		{ // MiniCPM 5
			shows: []string{`<function name="`}, begin: `<function name="`, call: `<function name="§N">§A</function>`, join: "\n",
			text: `<param name="§K">§V</param>`, values: asMarked,
		},
		stepFun, tagged, ling, keyed, laguna, close,
		hermes,
		{ // functionary 3.1
			shows: []string{"<function="}, begin: "<function=", call: "<function=§N>§A</function>",
		},
		{shows: []string{`role_sep="<|role_sep|>`}, call: object("arguments"), most: 1}, // GigaChat 3
		{shows: []string{pythonTag}, call: object("parameters"), most: 1},               // Llama 3
		{shows: []string{`"parameters"`}, call: object("parameters"), most: 1},
		{call: object("arguments"), most: 1},
	}
}

// callFormatOf is the format in which the family of a chat template writes calls.
func callFormatOf(template string) callFormat {
	for _, f := range callFormats() {
		if f.in(template) {
			return f
		}
	}
	return callFormat{most: -1}
}

func (f *callFormat) in(template string) bool {
	for _, s := range f.shows {
		if !strings.Contains(template, s) {
			return false
		}
	}
	return f.lacks == "" || !strings.Contains(template, f.lacks)
}
