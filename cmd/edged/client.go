package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"edged/core/config"
	"edged/core/serve/door/mqtt"
	"edged/core/serve/door/mqtt/askclient"
	"edged/core/serve/door/mqtt/link"
)

// clientFlags say which node is asked, and how.
type clientFlags struct {
	configFlags
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
	f.configFlags.register(c)
	f.groups = true
	fl := c.Flags()
	fl.StringVar(&f.broker, "broker", "", "URL of the broker, for example tcp://192.168.1.2:1883 (default: the configuration's)")
	fl.StringVar(&f.node, "node", "", "name of the node that is asked, or @GROUP for a group of nodes (default: the configuration's node)")
	fl.StringVar(&f.client, "client", "", "CLIENT in the request's topic, where the broker's access list wants a certain one (default: a random one)")
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
	c, err := f.load()
	if err != nil {
		return nil, err
	}
	if f.broker != "" {
		c.MQTT.Broker = config.BrokerURL(f.broker)
		if err := c.Validate(); err != nil {
			return nil, &usageError{oneSentence(err)}
		}
	}
	if f.node != "" {
		name, group := strings.CutPrefix(f.node, "@")
		switch {
		case group && !f.groups:
			return nil, usagef("--node %s: a group has no state of its own: name one of its nodes", f.node)
		case !config.ValidName(name) && f.groups:
			return nil, usagef("--node %q must match "+config.NamePattern+", with @ before it for a group", f.node)
		case !config.ValidName(name):
			return nil, usagef("--node %q must match "+config.NamePattern, f.node)
		}
		c.Node.Name = f.node
	}
	if f.model != "" && !config.ValidName(f.model) {
		return nil, usagef("--model %q must match "+config.NamePattern+": it is the name that 'edged models' lists, not a path", f.model)
	}
	if f.client != "" && !config.ValidName(f.client) {
		return nil, usagef("--client %q must match "+config.NamePattern, f.client)
	}
	return askclient.Dial(ctx, askclient.Options{Settings: link.From(&c.MQTT, c.MQTT.Listen), Base: c.MQTT.Base, Node: c.Node.Name, Client: f.client})
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

// ink writes an answer as it comes. When the node begins an answer anew, which gives the same text, what is written already
// is not written again.
type ink struct {
	w       io.Writer
	written strings.Builder
	again   strings.Builder // since the last restart, as long as it only repeats
	repeats bool
	err     error
}

func (k *ink) delta(text string) {
	if k.repeats {
		k.again.WriteString(text)
		seen, new := k.written.String(), k.again.String()
		if len(new) <= len(seen) && strings.HasPrefix(seen, new) {
			return
		}
		k.repeats = false
		var same bool
		if text, same = strings.CutPrefix(new, seen); !same {
			text = "\n" + new // another text after all: it stands on lines of its own
			k.written.Reset()
		}
	}
	k.written.WriteString(text)
	if _, err := io.WriteString(k.w, text); err != nil && k.err == nil {
		k.err = err
	}
}

func (k *ink) restart() {
	k.repeats = true
	k.again.Reset()
}

// end ends the line.
func (k *ink) end() {
	if text := k.written.String(); text != "" && !strings.HasSuffix(text, "\n") {
		_, _ = io.WriteString(k.w, "\n")
	}
}

// why puts a node's refusal into a sentence.
func why(err error) error {
	var refused *askclient.RequestError
	if !errors.As(err, &refused) {
		return err
	}
	if ms := refused.Reason.RetryMS; ms > 0 {
		return fmt.Errorf("the node says %s: %s; try again in %d s", refused.Reason.Code, refused.Reason.Message, (ms+999)/1000)
	}
	return fmt.Errorf("the node says %s: %s", refused.Reason.Code, refused.Reason.Message)
}

// speed tells how fast an answer came.
func speed(t mqtt.Timings, u mqtt.Usage) string {
	return fmt.Sprintf("%d tokens, %.1f tokens/s, first token after %.0f ms (%d prompt tokens, %d of them cached)",
		u.Completion, t.DecodeTPS, t.FirstToken, u.Prompt, u.Cached)
}
