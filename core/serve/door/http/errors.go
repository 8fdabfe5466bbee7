package http

import (
	"errors"
	"math"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"edged/core/serve/dispatch"
	"edged/core/serve/door/fields"
)

// form is the shape of what a path answers.
type form int

// The forms. Their errors differ: OpenAI's clients read an object, Ollama's a text, and each loses the other's.
const (
	openAI form = iota
	ollama
)

// Codes of this door alone; the others are dispatch's.
const (
	codeForbidden    dispatch.Code = "forbidden"
	codeUnauthorized dispatch.Code = "invalid_api_key"
	codeNotFound     dispatch.Code = "not_found"
	codeMethod       dispatch.Code = "method_not_allowed"
	codeCancelled    dispatch.Code = "cancelled"
)

// statusOf is the status of an error. Clients try 408, 409, 429 and what begins with 5 again, and nothing else: so what
// another try cannot mend has another status, or says so in a header (see refuse).
func statusOf(code dispatch.Code) int {
	switch code {
	case dispatch.CodeInvalidRequest, dispatch.CodeContextLength, dispatch.CodeUnsupported:
		return http.StatusBadRequest
	case dispatch.CodeAdapterNotFound, dispatch.CodeModelNotFound, dispatch.CodePromptNotFound, codeNotFound:
		return http.StatusNotFound
	case dispatch.CodeQueueFull:
		return http.StatusTooManyRequests
	case dispatch.CodeDeadline:
		return http.StatusGatewayTimeout
	case dispatch.CodeBackendUnavailable, dispatch.CodeShuttingDown, dispatch.CodeStorage:
		return http.StatusServiceUnavailable
	case dispatch.CodeQuarantined, dispatch.CodeTooLarge:
		return http.StatusUnprocessableEntity
	}
	return http.StatusInternalServerError
}

// errorBody is OpenAI's form of an error.
type errorBody struct {
	Message string        `json:"message"`
	Type    string        `json:"type"`
	Code    dispatch.Code `json:"code"`
	Param   *string       `json:"param"`
}

// pluginParts are words at the beginning of plugins' errors that name no field of a request.
var pluginParts = []string{"backend", "bpe", "chat", "dispatch", "engine", "protocol", "tokenizer", "transformer", "weights"} //nolint:gochecknoglobals // a table

// bodyOf is an error in a form, as a value that can be encoded.
func bodyOf(f form, status int, err *dispatch.Error) any {
	if f == ollama {
		return map[string]string{"error": err.Message}
	}
	b := errorBody{Message: err.Message, Type: typeOf(status), Code: err.Code}
	// Refusals begin with the field that they are about, and those of a plugin with its name for the part of
	// it that refuses.
	if field, _, ok := strings.Cut(err.Message, ": "); ok && !slices.Contains(pluginParts, field) && (status == http.StatusBadRequest || err.Code == dispatch.CodePromptNotFound) && !strings.ContainsAny(field, " \"") {
		b.Param = &field
	}
	if err.Code == dispatch.CodeModelNotFound {
		field := "model"
		b.Param = &field
	}
	return map[string]any{"error": b}
}

func typeOf(status int) string {
	switch {
	case status == http.StatusUnauthorized:
		return "authentication_error"
	case status == http.StatusTooManyRequests:
		return "rate_limit_error"
	case status >= http.StatusInternalServerError:
		return "server_error"
	}
	return "invalid_request_error"
}

// Retry-After is obeyed up to a minute; what is longer, clients wait for twice or not at all.
const (
	retryLeast = time.Second
	retryMost  = time.Minute
)

// refuse answers with an error.
func refuse(w http.ResponseWriter, f form, status int, err *dispatch.Error) {
	h := w.Header()
	switch status {
	case http.StatusTooManyRequests, http.StatusServiceUnavailable:
		wait := min(max(err.Retry, retryLeast), retryMost)
		h.Set("Retry-After", strconv.Itoa(int(math.Ceil(wait.Seconds()))))
	case http.StatusGatewayTimeout, http.StatusInternalServerError:
		h.Set("X-Should-Retry", "false") // the same would take as long, or fail as well
	}
	writeJSON(w, status, bodyOf(f, status, err))
}

// refuseError answers with an error that has a status of its own.
func refuseError(w http.ResponseWriter, f form, err *dispatch.Error) {
	refuse(w, f, statusOf(err.Code), err)
}

func invalid(err *fields.Error) *dispatch.Error {
	return &dispatch.Error{Code: err.Code(), Message: err.Error()}
}

// asError is a Submit's error.
func asError(err error) *dispatch.Error {
	if e, ok := errors.AsType[*dispatch.Error](err); ok {
		return e
	}
	return &dispatch.Error{Code: dispatch.CodeInternal, Message: err.Error()}
}

func isTooLarge(err error) bool {
	_, ok := errors.AsType[*http.MaxBytesError](err)
	return ok
}

// writeJSON answers with a value.
func writeJSON(w http.ResponseWriter, status int, v any) {
	data, err := fields.Encode(v)
	if err != nil {
		status, data = http.StatusInternalServerError, []byte(`{"error":"the answer cannot be written as JSON"}`)
	}
	h := w.Header()
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)))
	control := http.NewResponseController(w)
	_ = control.SetWriteDeadline(time.Now().Add(answerTime)) // a connection that has none is a test's
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may have gone
	_ = control.Flush()
}

// answerTime is how long a whole answer may take to leave.
const answerTime = 30 * time.Second
