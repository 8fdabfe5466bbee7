package cli

import (
	"context"
	"net"
)

// Free tells whether an address can be listened on.
func Free(ctx context.Context, address string) error {
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return err
	}
	return l.Close()
}
