// Command edged answers prompts on small machines: a service that speaks MQTT, and the tools around it.
//
// This package puts the commands of the packages below it together. Package cli is what they share, service
// has those of the service's own machine, client those that ask a running service, offline those that run a
// model without one, demo the demonstration. None of them may know how tokens are made or computed; that is
// the plugins' side, and the daemon's.
package main

import (
	"context"
	"os"

	"edged/cmd/edged/cli"
)

func main() {
	os.Exit(cli.Execute(context.Background(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}, os.Args[1:], root))
}
