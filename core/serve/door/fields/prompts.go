package fields

import (
	"fmt"

	"edged/core/serve/dispatch"
)

// Prompts are the prompts that a request may name.
type Prompts interface {
	// Fill makes a request one that asks what the prompt asks. vars is an object of its variables; nil: it fills none.
	Fill(req *dispatch.Request, name string, vars []byte) *Error
}

// PromptAsk is the part of a request about a named prompt.
type PromptAsk struct {
	Name string // "": none is named
	Vars []byte // an object; nil: none
}

// Field reads one of the fields of a prompt with a name, or reports that key is none of them.
func (a *PromptAsk) Field(key string, raw []byte) (known bool, err *Error) {
	switch key {
	case "prompt_name":
		if a.Name, err = Text(raw, 256); err == nil && a.Name == "" {
			err = Bad("", "is empty")
		}
	case "prompt_vars":
		a.Vars, err = AnyObject(raw)
	default:
		return false, nil
	}
	return true, err
}

// Fill fills a request that names a prompt. prompts may be nil.
func (a *PromptAsk) Fill(prompts Prompts, req *dispatch.Request) *Error {
	switch {
	case a.Name == "" && a.Vars != nil:
		return Bad("prompt_vars", "needs prompt_name")
	case a.Name == "":
		return nil
	case prompts == nil:
		return NoPrompt("this node has no prompts: prompts.dir is not set")
	}
	return prompts.Fill(req, a.Name, a.Vars)
}

// NoPrompt is the error that a node does not have the prompt which a request names: another may.
func NoPrompt(format string, args ...any) *Error {
	return &Error{path: "prompt_name", why: fmt.Sprintf(format, args...), code: dispatch.CodePromptNotFound}
}
