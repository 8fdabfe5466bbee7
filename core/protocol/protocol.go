// Package protocol holds what both plugin contracts share: the handshake, the plugin names and the sentinel errors with
// their gRPC codes. It must not know either contract, and nothing of MQTT or of models.
package protocol

import "errors"

// Sentinel errors that cross the plugin border. errors.Is works on both sides.
var (
	// ErrInvalid: the request itself is wrong; asking again gives the same answer.
	ErrInvalid = errors.New("invalid request")
	// ErrAdapterNotFound: no loaded adapter has that id or name.
	ErrAdapterNotFound = errors.New("adapter not found")
	// ErrContextLength: prompt and output do not fit the context.
	ErrContextLength = errors.New("context length exceeded")
	// ErrQueueFull: too many requests wait.
	ErrQueueFull = errors.New("queue full")
	// ErrNotLoaded: no model is loaded.
	ErrNotLoaded = errors.New("no model loaded")
	// ErrUnsupported: this plugin cannot do it.
	ErrUnsupported = errors.New("unsupported")
	// ErrModel: the model or adapter file cannot be served.
	ErrModel = errors.New("cannot serve file")
	// ErrNoMemory: the memory plan does not fit.
	ErrNoMemory = errors.New("not enough memory")
	// ErrPluginDied: the plugin's process ended while it was asked.
	ErrPluginDied = errors.New("plugin died")
)
