package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"edged/test/brokers"
	"edged/test/oracle"
)

// TestAdaptersDocument follows docs/adapters.md from a training script's folder to an answer over MQTT: its commands are run as
// they stand there, but for a folder, a port and the place of the program, and print what stands there.
func TestAdaptersDocument(t *testing.T) {
	need(t, "mosquitto_pub")
	need(t, "mosquitto_sub")
	d := &document{t: t, dir: t.TempDir(), port: brokers.FreePort(t)}
	blocks := d.section("docs/adapters.md", "## From a training script to an answer")
	said := ""
	for _, block := range blocks {
		switch first, _, _ := strings.Cut(block, " "); {
		case strings.HasPrefix(block, "bin/edged run"):
			start(t, d.shell("exec "+strings.TrimSpace(block)))
			said = d.run(fmt.Sprintf("mosquitto_sub -h 127.0.0.1 -p %d -t edged/demo/availability -C 1 -W 60 || sleep 1; "+
				"until mosquitto_sub -h 127.0.0.1 -p %d -t edged/demo/availability -C 1 -W 5 | grep -q online; do sleep 0.2; done", d.port, d.port))
		case first == "mkdir" || first == "cp" || first == "bin/edged" || first == "mosquitto_sub":
			said = d.run(block + "\nwait")
			if first == "cp" { // a reader takes longer to read on
				d.run(d.until("pirate", "active"))
			}
		case first == "output/adapter_config.json\noutput/adapter_model.safetensors\n":
		default:
			d.compare(block, said)
		}
	}
	d.trained()
}

// A document is one that is followed.
type document struct {
	t    *testing.T
	dir  string
	port int
}

var fence = regexp.MustCompile("(?ms)^```$\n(.*?)^```$")

// section returns the blocks of code of a section.
func (d *document) section(file, heading string) (blocks []string) {
	d.t.Helper()
	text, err := os.ReadFile(filepath.Join(oracle.Repo(d.t), file))
	if err != nil {
		d.t.Fatal(err)
	}
	_, rest, ok := strings.Cut(string(text), heading+"\n")
	rest, _, _ = strings.Cut(rest, "\n## ")
	for _, m := range fence.FindAllStringSubmatch(rest, -1) {
		blocks = append(blocks, m[1])
	}
	if !ok || len(blocks) < 8 {
		d.t.Fatalf("%s: %q has %d blocks", file, heading, len(blocks))
	}
	return blocks
}

// shell is a command in the root of the repository.
func (d *document) shell(script string) *exec.Cmd {
	script = strings.NewReplacer("bin/edged", filepath.Join(programs(d.t, "amd64"), "edged"), "/tmp/try", d.dir, "18830", strconv.Itoa(d.port)).Replace(script)
	cmd := exec.CommandContext(d.t.Context(), "bash", "-ec", script)
	cmd.Dir = oracle.Repo(d.t)
	cmd.Env = append(os.Environ(), fmt.Sprintf("EDGED_MQTT_LISTEN=127.0.0.1:%d", d.port), "XDG_CACHE_HOME="+filepath.Join(d.dir, "cache"))
	return cmd
}

// run runs commands to their end.
func (d *document) run(script string) string {
	d.t.Helper()
	out, err := d.shell(script).CombinedOutput()
	if err != nil {
		d.t.Fatalf("%s: %v\n%s", script, err, out)
	}
	return string(out)
}

// until is a command that waits for the state of an adapter.
func (d *document) until(adapter, state string) string {
	return fmt.Sprintf("until mosquitto_sub -h 127.0.0.1 -p %d -t edged/demo/adapters/%s -C 1 -W 5 | grep -q '\"state\":\"%s\"'; do sleep 0.1; done", d.port, adapter, state)
}

// compare holds what was printed against a block in which … stands for anything.
func (d *document) compare(want, got string) {
	d.t.Helper()
	for line := range strings.Lines(strings.ReplaceAll(want, "/tmp/try", d.dir)) {
		parts := strings.Split(strings.TrimSpace(line), "…")
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(strings.TrimSpace(part))
		}
		if !regexp.MustCompile(strings.Join(parts, ".*")).MatchString(got) {
			d.t.Errorf("the document has %q, and what came is %q", strings.TrimSpace(line), got)
		}
	}
}

// trained goes on with a folder as a trainer leaves it: a checkpoint among its other files is an adapter, the folder above it
// and a pickle are refused by a sentence that says what to do.
func (d *document) trained() {
	t := d.t
	output := filepath.Join(d.dir, "trained")
	last := filepath.Join(output, "checkpoint-500")
	trainerFolder(t, last)
	trainerFolder(t, filepath.Join(output, "checkpoint-60"))
	model := filepath.Join(oracle.Repo(t), "demo/hf-nf4")
	if said, _, code := edged(t, "adapters", "verify", "--model", model, output); code != 1 || !strings.Contains(said, "checkpoint-500 has one") {
		t.Errorf("verify of the folder above: %d, %s", code, said)
	}
	d.run("cp -r " + last + " /tmp/try/adapters/trained\n" + d.until("trained", "active"))
	d.compare(`"text":"… th' porch shutters be open. …"`, d.run(`mosquitto_sub -h 127.0.0.1 -p 18830 -t edged/demo/response/r9 -C 2 &
sleep 2
mosquitto_pub -h 127.0.0.1 -p 18830 -q 1 -t edged/demo/request -m '{"id":"r9","adapter":"trained","prompt":"Open the porch shutters."}'
wait`))
	if err := os.Rename(filepath.Join(last, "adapter_model.safetensors"), filepath.Join(last, "adapter_model.bin")); err != nil {
		t.Fatal(err)
	}
	if said, _, code := edged(t, "adapters", "verify", "--model", model, last); code != 1 || !strings.Contains(said, "safe_serialization=True") {
		t.Errorf("verify of a pickle: %d, %s", code, said)
	}
}

// trainerFolder writes a checkpoint as the trainer of Hugging Face's transformers leaves it with PEFT 0.18, around the demo's
// pirate.
func trainerFolder(t *testing.T, dir string) {
	t.Helper()
	from := filepath.Join(demoAdapters(t), "pirate")
	text, err := os.ReadFile(filepath.Join(from, "adapter_config.json"))
	if err != nil {
		t.Fatal(err)
	}
	var config map[string]any
	if err := json.Unmarshal(text, &config); err != nil {
		t.Fatal(err)
	}
	maps.Copy(config, map[string]any{
		"alora_invocation_tokens": nil, "arrow_config": nil, "auto_mapping": nil, "corda_config": nil, "ensure_weight_tying": false,
		"eva_config": nil, "exclude_modules": nil, "layer_replication": nil, "loftq_config": map[string]any{}, "lora_bias": false,
		"megatron_config": nil, "megatron_core": "megatron.core", "peft_version": "0.18.0", "qalora_group_size": 16,
		"target_parameters": nil, "trainable_token_indices": nil, "use_qalora": false,
	})
	text, err = json.MarshalIndent(config, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	err = errors.Join(os.MkdirAll(dir, 0o700), os.WriteFile(filepath.Join(dir, "adapter_config.json"), text, 0o600))
	for _, file := range []string{
		"README.md", "optimizer.pt", "rng_state.pth", "scheduler.pt", "trainer_state.json", "training_args.bin", "tokenizer.json",
		"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
	} {
		err = errors.Join(err, os.WriteFile(filepath.Join(dir, file), []byte("what a trainer keeps"), 0o600))
	}
	if err != nil {
		t.Fatal(err)
	}
	copyTree(t, filepath.Join(from, "adapter_model.safetensors"), dir+"/")
}
