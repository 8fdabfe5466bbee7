// Command tokenizer-bpe is the plugin that turns text into token ids: byte-level BPE, SentencePiece BPE and
// WordPiece. It also renders chat templates, which are a model's code: here they can be killed.
package main

import (
	"fmt"
	"os"

	"edged/core/pluginlog"
	"edged/core/protocol"
	"edged/core/protocol/tokenizer"
	"edged/plugins/tokenizer-bpe/service"
)

func main() {
	log := pluginlog.New()
	err := protocol.ServePlugin(protocol.ServeConfig{
		Name:   protocol.PluginTokenizer,
		Plugin: tokenizer.Plugin{Impl: &service.Service{Log: log}},
		Log:    log,
	})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
