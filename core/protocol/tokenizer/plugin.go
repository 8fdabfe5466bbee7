package tokenizer

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"edged/core/protocol/edgedpb"
)

// Plugin is a tokenizer as go-plugin sees it. A plugin's main sets Impl; the daemon leaves it nil and dispenses a
// Tokenizer.
type Plugin struct {
	goplugin.NetRPCUnsupportedPlugin
	Impl Tokenizer
}

var _ goplugin.GRPCPlugin = Plugin{}

// GRPCServer registers Impl; go-plugin calls it in the plugin's process.
func (p Plugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if p.Impl == nil {
		return errors.New("tokenizer: plugin without an implementation")
	}
	RegisterServer(s, p.Impl)
	return nil
}

// GRPCClient returns a Tokenizer that talks over conn; go-plugin calls it in the daemon.
func (Plugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

// RegisterServer serves impl on s.
func RegisterServer(s grpc.ServiceRegistrar, impl Tokenizer) {
	edgedpb.RegisterTokenizerServer(s, &server{impl: impl})
}

// NewClient returns a Tokenizer that talks over conn.
func NewClient(conn grpc.ClientConnInterface) Tokenizer {
	return &client{rpc: edgedpb.NewTokenizerClient(conn)}
}
