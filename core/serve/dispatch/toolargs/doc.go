// Package toolargs corrects the arguments of tool calls by the schemas of the tools: texts that a model wrote
// as a number or an object.
//
// It must not know how calls are found in a text, which the tokenizer does. Its function may be called concurrently.
package toolargs
