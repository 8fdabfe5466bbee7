// Package protocol holds what both plugin contracts share: the handshake, the plugin names, the limits of a
// message, and the sentinel errors with their gRPC codes. It must not know either contract, and nothing of
// MQTT or of models.
package protocol

import (
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
)

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

// Version is the major version of the protocol: what core/protocol/edgedpb/edged/v1 describes.
const Version = 1

// Names under which a plugin process serves its one contract.
const (
	PluginBackend   = "backend"
	PluginTokenizer = "tokenizer"
)

// The magic cookie: a plugin that does not find this variable with this value in its environment was started by hand.
const (
	CookieKey   = "EDGED_PLUGIN"
	CookieValue = "edged-plugin-protocol"
)

// EnvLifeline is a variable in a plugin's environment, besides go-plugin's own and pluginlog.EnvLevel: its
// value is "stdin" where standard input is a pipe that ends when the daemon dies, however it dies.
const EnvLifeline = "EDGED_PLUGIN_LIFELINE"

// Message sizes, in bytes of the encoded message.
const (
	// PartBytes is the target size of one message of a value that is sent in parts. gRPC's own default limit is
	// 4 MiB; a part 16 times smaller keeps cancelling quick and buffers small.
	PartBytes = 256 << 10
	// MaxMessage is the largest message that either side accepts. Our own parts stay below 1 MiB; a plugin of
	// another author may cut less finely.
	MaxMessage = 16 << 20
	// MaxValue bounds a value that is put together from parts on the plugin's side: a text of 16 MiB passes, with its
	// template around it.
	MaxValue = 64 << 20
)

// Handshake returns the version and magic cookie on which daemon and plugin must agree before they talk.
func Handshake() goplugin.HandshakeConfig {
	return goplugin.HandshakeConfig{ProtocolVersion: Version, MagicCookieKey: CookieKey, MagicCookieValue: CookieValue}
}
