package client

import (
	"context"
	"strings"

	"github.com/spf13/cobra"

	"edged/cmd/edged/cli"
	"edged/core/config"
	"edged/core/serve/door/mqtt/askclient"
	"edged/core/serve/door/mqtt/link"
)

// clientFlags say which node is asked, and how.
type clientFlags struct {
	cli.ConfigFlags
	broker      string
	node        string
	client      string
	groups      bool // a group may be asked too
	model       string
	adapter     string
	system      string
	maxTokens   int
	temperature float64
	seed        uint64
	stop        []string
}

func (f *clientFlags) register(c *cobra.Command) {
	f.ConfigFlags.Register(c)
	f.groups = true
	fl := c.Flags()
	fl.StringVar(&f.broker, "broker", "", "URL of the broker, for example tcp://192.168.1.2:1883 (default: the configuration's)")
	fl.StringVar(&f.node, "node", "", "name of the node that is asked, or @GROUP for a group of nodes (default: the configuration's node)")
	fl.StringVar(
		&f.client,
		"client",
		"",
		"CLIENT in the request's topic, where the broker's access list wants a certain one (default: a random one)",
	)
	fl.StringVar(&f.model, "model", "", "model to answer with, of those that 'edged models' lists (default: the node's)")
	fl.StringVar(&f.adapter, "adapter", "", "adapter to answer with (default: the node's)")
	fl.StringVar(&f.system, "system", "", "system message before the prompt")
	fl.IntVarP(&f.maxTokens, "max-tokens", "n", 0, "new tokens at most (default: the node's)")
	fl.Float64Var(&f.temperature, "temperature", 0, "0 takes the most likely token (default: the node's)")
	fl.Uint64Var(&f.seed, "seed", 0, "random seed (default: drawn)")
	fl.StringArrayVar(&f.stop, "stop", nil, "end before this text; may be repeated")
}

// dial connects to the broker that the flags, or the configuration, name.
func (f *clientFlags) dial(ctx context.Context) (*askclient.Client, error) {
	c, err := f.settings()
	if err != nil {
		return nil, err
	}
	return f.connect(ctx, c)
}

// settings are the configuration's with what the flags change.
func (f *clientFlags) settings() (*config.Config, error) {
	c, err := f.Load()
	if err != nil {
		return nil, err
	}
	if f.broker != "" {
		c.MQTT.Broker = config.BrokerURL(f.broker)
		if err := c.Validate(); err != nil {
			return nil, cli.Usagef("%s", cli.OneSentence(err))
		}
	}
	if f.node != "" {
		name, group := strings.CutPrefix(f.node, "@")
		switch {
		case group && !f.groups:
			return nil, cli.Usagef("--node %s: a group has no state of its own: name one of its nodes", f.node)
		case !config.ValidName(name) && f.groups:
			return nil, cli.Usagef("--node %q must match "+config.NamePattern+", with @ before it for a group", f.node)
		case !config.ValidName(name):
			return nil, cli.Usagef("--node %q must match "+config.NamePattern, f.node)
		}
		c.Node.Name = f.node
	}
	if f.model != "" && !config.ValidName(f.model) {
		return nil, cli.Usagef(
			"--model %q must match "+config.NamePattern+": it is the name that 'edged models' lists, not a path",
			f.model,
		)
	}
	if f.client != "" && !config.ValidName(f.client) {
		return nil, cli.Usagef("--client %q must match "+config.NamePattern, f.client)
	}
	return c, nil
}

// connect connects to the broker of these settings.
func (f *clientFlags) connect(ctx context.Context, c *config.Config) (*askclient.Client, error) {
	return askclient.Dial(
		ctx,
		askclient.Options{Settings: link.From(&c.MQTT, c.MQTT.Listen), Base: c.MQTT.Base, Node: c.Node.Name, Client: f.client},
	)
}

// request is a request without its messages. changed tells which flags were given.
func (f *clientFlags) request(changed func(string) bool) askclient.Request {
	r := askclient.Request{Model: f.model, Adapter: f.adapter, MaxTokens: f.maxTokens, Stop: f.stop}
	if changed("temperature") {
		r.Temperature = &f.temperature
	}
	if changed("seed") {
		r.Seed = &f.seed
	}
	return r
}
