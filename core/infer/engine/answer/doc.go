// Package answer holds what a request may be answered with and what it was answered so far: checks of the
// request, the vocabulary, one Choice for each answer with its tokens, text, stop strings, grammar and
// thinking, and the drawing of a token from logits.
//
// All of it is a function of the request and of the logits, so that another attempt, a draft or a batch
// changes nothing. The package knows no model, no sequence and no batch; who computes the logits, and when,
// is the engine's. A Vocabulary may be used concurrently, Answers and their Choices by one goroutine at a
// time.
package answer
