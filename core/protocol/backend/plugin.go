package backend

import (
	"context"
	"errors"

	goplugin "github.com/hashicorp/go-plugin"
	"google.golang.org/grpc"

	"edged/core/protocol/edgedpb"
)

// Plugin is a backend as go-plugin sees it. A plugin's main sets Impl; the daemon leaves it nil and dispenses
// a Backend.
type Plugin struct {
	goplugin.NetRPCUnsupportedPlugin
	Impl Backend
}

var _ goplugin.GRPCPlugin = Plugin{}

// GRPCServer registers Impl; go-plugin calls it in the plugin's process.
func (p Plugin) GRPCServer(_ *goplugin.GRPCBroker, s *grpc.Server) error {
	if p.Impl == nil {
		return errors.New("backend: plugin without an implementation")
	}
	RegisterServer(s, p.Impl)
	return nil
}

// GRPCClient returns a Backend that talks over conn; go-plugin calls it in the daemon.
func (Plugin) GRPCClient(_ context.Context, _ *goplugin.GRPCBroker, conn *grpc.ClientConn) (any, error) {
	return NewClient(conn), nil
}

// RegisterServer serves impl on s. Embed, Forecast, Observe and Bench are served where impl is an Embedder, a
// Forecaster, an Observer or a Bencher.
func RegisterServer(s grpc.ServiceRegistrar, impl Backend) {
	edgedpb.RegisterBackendServer(s, &server{impl: impl})
}

// NewClient returns a Backend that talks over conn. It is an Embedder, a Forecaster, an Observer and a
// Bencher as well; whether the plugin serves those, its Description says, and a call of what it does not
// serve is protocol.ErrUnsupported.
func NewClient(conn grpc.ClientConnInterface) Backend {
	return &client{rpc: edgedpb.NewBackendClient(conn)}
}
