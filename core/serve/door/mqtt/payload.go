package mqtt

import (
	"edged/core/serve/dispatch"
	"edged/core/serve/door/mqtt/payload"
)

// The door's payloads under the door's name, so that callers that set a state or read an answer need no other package.

//nolint:revive // package payload says what each is
type (
	Event          = payload.Event
	Of             = payload.Of
	Result         = payload.Result
	Vector         = payload.Vector
	Ranked         = payload.Ranked
	Choice         = payload.Choice
	ToolCall       = payload.ToolCall
	Logprob        = payload.Logprob
	Usage          = payload.Usage
	Timings        = payload.Timings
	AdapterUsed    = payload.AdapterUsed
	Error          = payload.Error
	Complaint      = payload.Complaint
	Status         = payload.Status
	StatusGroup    = payload.StatusGroup
	StatusModel    = payload.StatusModel
	StatusBackend  = payload.StatusBackend
	StatusAdapter  = payload.StatusAdapter
	StatusPrompt   = payload.StatusPrompt
	StatusPower    = payload.StatusPower
	StatusQueue    = payload.StatusQueue
	Adapter        = payload.Adapter
	Model          = payload.Model
	Stats          = payload.Stats
	StatsHistogram = payload.StatsHistogram
	StatsBackend   = payload.StatsBackend
	StatsAdapters  = payload.StatsAdapters
)

// The states of a node, of an adapter and of a model.
const (
	StateStarting    = payload.StateStarting
	StateReady       = payload.StateReady
	StateDegraded    = payload.StateDegraded
	StateStopping    = payload.StateStopping
	StateStopped     = payload.StateStopped
	AdapterSettling  = payload.AdapterSettling
	AdapterVerifying = payload.AdapterVerifying
	AdapterActive    = payload.AdapterActive
	AdapterRejected  = payload.AdapterRejected
	AdapterDraining  = payload.AdapterDraining
	ModelSettling    = payload.ModelSettling
	ModelAvailable   = payload.ModelAvailable
	ModelLoading     = payload.ModelLoading
	ModelLoaded      = payload.ModelLoaded
	ModelUnloading   = payload.ModelUnloading
	ModelRejected    = payload.ModelRejected
)

// The functions of package payload, under names that variables called payload do not hide.

func eventOf(req *dispatch.Request, ev dispatch.Event) Event { return payload.EventOf(req, ev) }
func errorOf(err *dispatch.Error) *Error                     { return payload.ErrorOf(err) }
func encodeEvent(e Event, most int) []byte                   { return payload.Encode(e, most) }
func failed(e Event, code dispatch.Code, message string) Event {
	return payload.Failed(e, code, message)
}
func plainText(l *dispatch.Last, most int) []byte { return payload.PlainText(l, most) }
func plainError(err *dispatch.Error) []byte       { return payload.PlainError(err) }
