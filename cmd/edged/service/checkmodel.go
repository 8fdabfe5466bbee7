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
	k.ok(
		"model",
		"%s: %s, %s, %s parameters, %d positions; for: %s",
		filepath.Base(path),
		facts.Family,
		facts.Kind,
		countText(facts.Parameters),
		facts.Context,
		facts.Tasks,
	)
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

// findModel is the path of a model that is named as requests name it, or else by its path.
func findModel(c *config.Config, name string) (string, error) {
	if c.Models.Dir != "" && config.ValidName(name) {
		if path, err := models.Find(c.Models.Dir, name); err == nil {
			return filepath.Abs(path)
		}
	}
	info, err := os.Stat(name)
	switch {
	case err != nil && c.Models.Dir != "" && config.ValidName(name):
		return "", fmt.Errorf("%w, and models.dir %s holds no model of that name", err, c.Models.Dir)
	case err != nil:
		return "", err
	case !info.IsDir() && (strings.HasSuffix(name, ".safetensors") || strings.HasSuffix(name, ".json")):
		return "", fmt.Errorf("%s is a part of a model: name the folder that it is in, %s", name, filepath.Dir(name))
	}
	return filepath.Abs(name)
}

// speed tells how fast a model would be.
func (k *checker) speed(ctx context.Context, s *plugins.Session, kind string, req backend.LoadRequest) {
	f, ok := s.Backend.(backend.Forecaster)
	if !ok {
		return
	}
	loaded := busy() // before the measurement, which is load too
	forecast, err := f.Forecast(ctx, req)
	switch {
	case errors.Is(err, protocol.ErrUnsupported): // a backend of somebody else's
		k.unseen("speed", "this backend makes no forecast; `edged bench` measures")
	case err != nil:
		k.problem("speed", s.Dead(err), "")
	default:
		k.ok("speed", "%s", forecastText(kind, forecast, loaded))
	}
}

// forecastText says what a forecast comes to for a model of some kind.
func forecastText(kind string, f backend.Forecast, busy bool) string {
	text := fmt.Sprintf("%v for 1,000 tokens of a prompt, attention aside (%.3g billion multiply-adds a second)",
		f.Prompt(1000).Round(time.Millisecond), f.ProductsPerSecond/1e9)
	if kind != "encoder" {
		text = fmt.Sprintf(
			"%.1f tokens/s (a token reads %s, memory gives %.1f GB/s), and %s",
			f.TokensPerSecond(),
			cli.BytesText(f.TokenBytes),
			f.BytesPerSecond/1e9,
			text,
		)
	}
	if text = "about " + text; busy {
		text += "; other programs kept this machine busy meanwhile, without them it is faster"
	}
	return text
}

// busy tells whether other programs have computed in the last minute, by half a core or more.
func busy() bool {
	text, err := os.ReadFile("/proc/loadavg")
	if err != nil {
		return false
	}
	var load float64
	_, err = fmt.Sscan(string(text), &load)
	return err == nil && load > 0.5
}
