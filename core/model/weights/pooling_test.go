package weights

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"edged/core/model/arch"
	"edged/test/oracle"
)

// TestPooling: what sentence-transformers' files beside an encoder say, in both spellings, and what is refused.
func TestPooling(t *testing.T) {
	from := filepath.Join(oracle.Dir(t), "encoders/bert-cls/hf")
	steps := func(kinds ...string) string {
		out := "["
		for i, k := range kinds {
			if i > 0 {
				out += ","
			}
			out += `{"path":"","type":"sentence_transformers.models.` + k + `"}`
		}
		return out + "]"
	}
	with := func(path string) string {
		return `[{"path":"","type":"x.Transformer"},{"path":"` + path + `","type":"x.Pooling"}]`
	}
	for _, c := range []struct {
		name, modules, pooling string // "": the file is absent
		want                   arch.Pool
		err                    error
	}{
		{name: "no files", want: arch.Pool{Kind: arch.PoolMean}},
		{name: "transformer alone", modules: steps("Transformer"), want: arch.Pool{Kind: arch.PoolMean}},
		{name: "mode", modules: with("1_Pooling"), pooling: `{"pooling_mode":"lasttoken"}`, want: arch.Pool{Kind: arch.PoolLast}},
		{name: "flag", modules: with("1_Pooling"), pooling: `{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":false}`, want: arch.Pool{Kind: arch.PoolCLS}},
		{name: "two flags", modules: with("1_Pooling"), pooling: `{"pooling_mode_cls_token":true,"pooling_mode_mean_tokens":true}`, err: ErrUnsupported},
		{name: "max", modules: with("1_Pooling"), pooling: `{"pooling_mode":"max"}`, want: arch.Pool{Kind: arch.PoolMax}},
		{name: "weighted", modules: with("1_Pooling"), pooling: `{"pooling_mode_weightedmean_tokens":true}`, want: arch.Pool{Kind: arch.PoolRise}},
		{name: "root", modules: with("1_Pooling"), pooling: `{"pooling_mode_mean_sqrt_len_tokens":true}`, want: arch.Pool{Kind: arch.PoolRoot}},
		{name: "odd", modules: with("1_Pooling"), pooling: `{"pooling_mode":"median"}`, err: ErrUnsupported},
		{name: "prompt left out", modules: with("1_Pooling"), pooling: `{"pooling_mode":"mean","include_prompt":false}`, err: ErrUnsupported},
		{name: "nothing", modules: with("1_Pooling"), pooling: `{}`, err: ErrUnsupported},
		{name: "outside", modules: with("../1_Pooling"), pooling: `{"pooling_mode":"mean"}`, err: ErrInvalid},
		{name: "absent", modules: with("1_Pooling"), err: os.ErrNotExist},
		{name: "another step", modules: steps("Transformer", "Dense"), err: ErrUnsupported},
		{name: "another order", modules: steps("Normalize", "Transformer"), err: ErrUnsupported},
		{name: "no list", modules: `{}`, err: ErrInvalid},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			for _, name := range []string{"config.json", "model.safetensors"} {
				if err := os.Symlink(filepath.Join(from, name), filepath.Join(dir, name)); err != nil {
					t.Fatal(err)
				}
			}
			for name, text := range map[string]string{"modules.json": c.modules, "1_Pooling/config.json": c.pooling} {
				path := filepath.Join(dir, name)
				if text == "" {
					continue
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			m, err := OpenHeaders(dir)
			if c.err != nil {
				if !errors.Is(err, c.err) {
					t.Errorf("%v, want %v", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if m.Spec.Pool != c.want {
				t.Errorf("%+v, want %+v", m.Spec.Pool, c.want)
			}
		})
	}
}

// TestScoreAct: where a cross-encoder's folder says what makes a score of its logit, and what is refused.
func TestScoreAct(t *testing.T) {
	from := filepath.Join(oracle.Dir(t), "encoders/bert-rank/hf")
	config, err := os.ReadFile(filepath.Join(from, "config.json"))
	if err != nil {
		t.Fatal(err)
	}
	with := func(more string) string { return strings.Replace(string(config), "{", "{"+more+",", 1) }
	for _, c := range []struct {
		name, config, beside string
		want                 arch.ScoreAct
		err                  error
	}{
		{name: "nothing said", config: string(config)},
		{name: "beside", config: string(config), beside: `{"activation_fn":"torch.nn.modules.linear.Identity"}`, want: arch.AsLogit},
		{name: "sigmoid", config: string(config), beside: `{"activation_fn":"torch.nn.modules.activation.Sigmoid"}`},
		{name: "in the configuration", config: with(`"sentence_transformers":{"activation_fn":"torch.nn.modules.linear.Identity"}`), want: arch.AsLogit},
		{name: "of old", config: with(`"sbert_ce_default_activation_function":"torch.nn.modules.linear.Identity"`), want: arch.AsLogit},
		{name: "odd", config: string(config), beside: `{"activation_fn":"mine.Sqrt"}`, err: ErrUnsupported},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.Symlink(filepath.Join(from, "model.safetensors"), filepath.Join(dir, "model.safetensors")); err != nil {
				t.Fatal(err)
			}
			for name, text := range map[string]string{"config.json": c.config, "config_sentence_transformers.json": c.beside} {
				if text != "" {
					if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			m, err := OpenHeaders(dir)
			if c.err != nil {
				if !errors.Is(err, c.err) {
					t.Errorf("%v, want %v", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			defer m.Close()
			if m.Spec.Score == nil || m.Spec.Score.Act != c.want || m.Spec.Pool.Kind != arch.PoolNone {
				t.Errorf("score %+v, pool %+v: want activation %d", m.Spec.Score, m.Spec.Pool, c.want)
			}
		})
	}
}
