package e2e

import (
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"testing"

	"edged/test/oracle"
)

// TestQuantisedCachePerplexity: q8_0 keys and values change how surprised the demo model is by held-out text by hundredths
// of a per cent (docs/configuration.md); a defect changes it by much more than the one per cent that is allowed here.
func TestQuantisedCachePerplexity(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(oracle.Demo(t), "eval", "ppl.txt"))
	if err != nil {
		t.Fatal(err)
	}
	part := filepath.Join(t.TempDir(), "part.txt")
	if err := os.WriteFile(part, text[:6000], 0o600); err != nil {
		t.Fatal(err)
	}
	ppl := map[string]float64{}
	for _, kv := range []string{"f16", "q8_0"} {
		out, errs, code := edged(t, "score", "--model", filepath.Join(oracle.Repo(t), "demo/gguf/hearth-4m-q4_0.gguf"), "--file", part, "--kv", kv, "--json")
		var v struct {
			PPL float64 `json:"ppl"`
		}
		if code != 0 || json.Unmarshal([]byte(out), &v) != nil || v.PPL < 1 {
			t.Fatalf("%s: exit %d: %s %s", kv, code, out, errs)
		}
		ppl[kv] = v.PPL
	}
	t.Logf("%v", ppl)
	if more := ppl["q8_0"]/ppl["f16"] - 1; math.Abs(more) > 0.01 || more == 0 {
		t.Errorf("perplexity %v: q8_0 makes it %.3f %% more", ppl, 100*more)
	}
}
