// Package edgedpb is the wire form of the plugin protocol: the .proto files, which document every message, and the code
// that is generated from them.
//
// Only core/protocol/backend and core/protocol/tokenizer import it; they translate to plain Go structs.
package edgedpb
