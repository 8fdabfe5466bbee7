package service

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"edged/cmd/edged/cli"
	"edged/cmd/edged/plugins"
	"edged/core/config"
	"edged/core/protocol"
	"edged/core/protocol/backend"
	"edged/core/serve/daemon"
	"edged/core/serve/models"
)

// one says of one model whether it can be served here, and how fast it would be. Nothing is loaded.
func (k *checker) one(ctx context.Context, f *cli.ConfigFlags, name string) {
	c, err := f.Load()
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			k.problem("config", errors.New(line), "")
		}
		return
	}
	k.c = c
	path, err := findModel(c, name)
	if err != nil {
		k.problem("model", err, "name a .gguf file, a folder, or a model that `edged models` lists")
		return
	}
	facts, err := models.Headers(path)
	if err != nil {
		k.problem("model", err, "")
		return
	}
	k.ok("model", "%s: %s, %s, %s parameters, %d positions", filepath.Base(path), facts.Family, facts.Kind, countText(facts.Parameters), facts.Context)
	shares, err := models.Formats(path)
	if err != nil {
		k.problem("formats", err, "")
		return
	}
	var parts []string
	for _, s := range shares {
		parts = append(parts, fmt.Sprintf("%s %s in %d matrices", s.Format, cli.BytesText(s.Bytes), s.Matrices))
	}
	k.ok("formats", "%s", strings.Join(parts, ", "))
	s, done := k.plugins(ctx)
	defer done()
	if s == nil || !k.tokenizer(ctx, s, path) {
		return
	}
	req := daemon.LoadRequest(c)
	req.Path, req.DraftModel = path, ""
	if k.memory(ctx, s, req) {
		k.speed(ctx, s, facts.Kind, req)
	}
}

// countText is a number of parameters as people say it.
func countText(n int64) string {
	if n >= 1e9 {
		return fmt.Sprintf("%.2f billion", float64(n)/1e9)
	}
	return fmt.Sprintf("%.1f million", float64(n)/1e6)
}

// findModel is the path of a model that is named by its path, or by its name in the models folder.
func findModel(c *config.Config, name string) (string, error) {
	_, err := os.Stat(name)
	if err == nil {
		return filepath.Abs(name)
	}
	if c.Models.Dir != "" && config.ValidName(name) {
		for _, path := range []string{filepath.Join(c.Models.Dir, name), filepath.Join(c.Models.Dir, name+".gguf")} {
			if _, err := os.Stat(path); err == nil {
				return filepath.Abs(path)
			}
		}
		return "", fmt.Errorf("%w, and models.dir %s holds no model of that name", err, c.Models.Dir)
	}
	return "", err
}

// speed tells how fast a model would be.
func (k *checker) speed(ctx context.Context, s *plugins.Session, kind string, req backend.LoadRequest) {
	f, ok := s.Backend.(backend.Forecaster)
	if !ok {
		return
	}
	forecast, err := f.Forecast(ctx, req)
	switch {
	case errors.Is(err, protocol.ErrUnsupported): // a backend of somebody else's
		k.unseen("speed", "this backend makes no forecast; `edged bench` measures")
	case err != nil:
		k.problem("speed", s.Dead(err), "")
	default:
		k.ok("speed", "%s", forecastText(kind, forecast))
	}
}

// forecastText says what a forecast comes to for a model of some kind.
func forecastText(kind string, f backend.Forecast) string {
	prompt := fmt.Sprintf("%v for 1,000 tokens of a prompt (%.0f billion multiply-adds a second)",
		f.Prompt(1000).Round(time.Millisecond), f.ProductsPerSecond/1e9)
	if kind == "encoder" {
		return prompt
	}
	return fmt.Sprintf("at most %.1f tokens/s (a token reads %s, memory gives %.1f GB/s), and %s", f.TokensPerSecond(), cli.BytesText(f.TokenBytes), f.BytesPerSecond/1e9, prompt)
}
