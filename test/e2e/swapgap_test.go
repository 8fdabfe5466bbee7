package e2e

import (
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	mqtt "github.com/eclipse/paho.mqtt.golang"

	"edged/core/config"
	"edged/core/model/gguf"
	"edged/core/serve/daemon"
)

// TestGapsWhileSwapping measures what swaps cost those who wait for the next token: scripts/bench-swaps runs it. Clients stream
// answers with an adapter, token by token; in windows that take turns the adapter is replaced every few seconds and left
// alone. Printed are the gaps between tokens as they arrive over MQTT, in both.
func TestGapsWhileSwapping(t *testing.T) {
	model := os.Getenv("EDGED_BENCH_MODEL")
	if model == "" {
		t.Skip("EDGED_BENCH_MODEL names no .gguf file: see scripts/bench-swaps")
	}
	b := &swapBench{
		t: t, model: model, dir: t.TempDir(), side: t.TempDir(),
		streams: number("EDGED_BENCH_STREAMS", 1), rank: number("EDGED_BENCH_RANK", 16), threads: number("EDGED_BENCH_THREADS", 2),
		pairs: number("EDGED_BENCH_PAIRS", 5), window: time.Duration(number("EDGED_BENCH_WINDOW", 8)) * time.Second,
		pace: time.Duration(number("EDGED_BENCH_PACE", 2)) * time.Second,
	}
	b.run()
}

func number(name string, otherwise int) int {
	if n, err := strconv.Atoi(os.Getenv(name)); err == nil && n > 0 {
		return n
	}
	return otherwise
}

type swapBench struct {
	t                             *testing.T
	model, dir, side              string
	streams, rank, threads, pairs int
	window, pace                  time.Duration
	client                        mqtt.Client
	next                          int // adapter

	mu     sync.Mutex
	phase  phase
	taking bool                 // a drop is being copied and proved
	last   map[string]time.Time // of the latest token, by topic
	gaps   [phases][]time.Duration
	done   map[string]chan struct{}
}

// A phase is what goes on between two tokens.
type phase int

const (
	without phase = iota // in a window without swaps
	with                 // in a window with swaps
	taking               // of these: while a drop is copied and proved
	phases
)

func (b *swapBench) run() {
	t := b.t
	for i := range 2 {
		b.adapter(filepath.Join(b.side, strconv.Itoa(i)), uint64(i))
	}
	b.swap()
	broker := b.serve()
	b.last, b.done = map[string]time.Time{}, map[string]chan struct{}{}
	b.subscribe(broker)
	stop := make(chan struct{})
	var wg sync.WaitGroup
	for client := range b.streams {
		wg.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					b.ask(client, n)
				}
			}
		})
	}
	time.Sleep(b.window / 2) // both windows are measured warm
	swaps := 0
	for range b.pairs {
		for _, phase := range []phase{without, with} {
			b.mu.Lock()
			b.phase = phase
			b.mu.Unlock()
			for end := time.Now().Add(b.window); time.Now().Before(end); time.Sleep(b.pace) {
				if phase == with {
					b.swap()
					swaps++
				}
			}
		}
	}
	close(stop)
	wg.Wait()
	t.Logf("%s, rank %d, %d streams, %d threads, %d swaps", filepath.Base(b.model), b.rank, b.streams, b.threads, swaps)
	t.Logf("tokens: %d in windows without swaps, %d in those with, %d of them while a drop was copied and proved", len(b.gaps[without]), len(b.gaps[with]), len(b.gaps[taking]))
	for _, p := range []float64{0.5, 0.9, 0.99, 0.999} {
		x, y, z := percentile(b.gaps[without], p), percentile(b.gaps[with], p), percentile(b.gaps[taking], p)
		t.Logf("gap between tokens, percentile %4.1f: %7.2f ms without swaps, %7.2f ms with, %7.2f ms while one was taken in: ratios %.2f and %.2f",
			100*p, ms(x), ms(y), ms(z), y.Seconds()/x.Seconds(), z.Seconds()/x.Seconds())
	}
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// percentile sorts the values.
func percentile(values []time.Duration, p float64) time.Duration {
	if len(values) == 0 {
		return 0
	}
	slices.Sort(values)
	return values[min(int(p*float64(len(values))), len(values)-1)]
}

// serve runs the daemon with the built plugins in this process, so that it can be told to send every token for itself, which
// a configuration may not. It returns the address of the embedded broker.
func (b *swapBench) serve() (broker string) {
	t := b.t
	c := config.Default()
	c.Node.Name = "test"
	c.MQTT.Listen = "127.0.0.1:0"
	c.MQTT.DeltaInterval = time.Nanosecond
	c.Model.Path = b.model
	c.Backend.Name = "generic"
	c.Backend.ThreadsDecode, c.Backend.ThreadsPrefill = b.threads, b.threads
	c.Backend.Context = 1024
	c.Adapters.Dir = b.dir
	c.Plugins.Dir = filepath.Join(programs(t, "amd64"), "plugins")
	c.State.Dir = t.TempDir()
	c.Draft.Lookup = false
	ctx, cancel := context.WithCancel(t.Context())
	online, ended := make(chan daemon.Address, 1), make(chan error, 1)
	go func() {
		ended <- daemon.Run(ctx, daemon.Options{
			Config: c, Log: slog.New(slog.DiscardHandler), Online: func(a daemon.Address) { online <- a },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("run: %v", err)
		}
	})
	select {
	case a := <-online:
		return a.Broker
	case err := <-ended:
		ended <- nil
		t.Fatalf("run: %v", err)
	}
	return ""
}

func (b *swapBench) subscribe(broker string) {
	b.client = mqtt.NewClient(mqtt.NewClientOptions().AddBroker(broker).SetClientID("tester").SetOrderMatters(true))
	b.wait(b.client.Connect())
	b.t.Cleanup(func() { b.client.Disconnect(100) })
	b.wait(b.client.Subscribe("edged/test/adapters/x", 0, func(_ mqtt.Client, m mqtt.Message) {
		var a adapterState
		if err := json.Unmarshal(m.Payload(), &a); err != nil {
			b.t.Errorf("%s: %v", m.Payload(), err)
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		b.taking = a.State == "verifying"
	}))
	b.wait(b.client.Subscribe("edged/test/response/#", 0, func(_ mqtt.Client, m mqtt.Message) {
		now := time.Now()
		var e event
		if err := json.Unmarshal(m.Payload(), &e); err != nil {
			return
		}
		b.mu.Lock()
		defer b.mu.Unlock()
		switch topic := m.Topic(); {
		case e.Delta != "":
			if last, ok := b.last[topic]; ok {
				b.gaps[b.phase] = append(b.gaps[b.phase], now.Sub(last))
				if b.taking && b.phase == with {
					b.gaps[taking] = append(b.gaps[taking], now.Sub(last))
				}
			}
			b.last[topic] = now
		case e.Done == true:
			if e.Error != nil {
				b.t.Errorf("%s: %+v", topic, *e.Error)
			}
			delete(b.last, topic)
			close(b.done[topic])
		}
	}))
}

func (b *swapBench) wait(token mqtt.Token) {
	if !token.WaitTimeout(wait) || token.Error() != nil {
		b.t.Errorf("MQTT: %v", token.Error())
	}
}

// ask streams one answer of letters, so that every token is text.
func (b *swapBench) ask(client, n int) {
	topic := fmt.Sprintf("edged/test/response/c%d/r%d", client, n)
	done := make(chan struct{})
	b.mu.Lock()
	b.done[topic] = done
	b.mu.Unlock()
	letters := make([]string, 26) // of a byte-level vocabulary
	for i := range letters {
		letters[i] = fmt.Sprintf(`"%d":1000`, 64+i)
	}
	b.wait(b.client.Publish(fmt.Sprintf("edged/test/request/c%d", client), 1, false, fmt.Sprintf(
		`{"id":"r%d","adapter":"x","stream":true,"temperature":1,"seed":%d,"ignore_eos":true,"max_tokens":400,"prompt":"Tell me a story.","logit_bias":{%s}}`,
		n, n, strings.Join(letters, ","))))
	select {
	case <-done:
	case <-time.After(wait):
		b.t.Errorf("%s: no answer", topic)
	}
}

// swap turns the adapter's link.
func (b *swapBench) swap() {
	link := filepath.Join(b.side, "link")
	if err := os.Symlink(filepath.Join(b.side, strconv.Itoa(b.next%2)), link); err != nil {
		b.t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(b.dir, "x")); err != nil {
		b.t.Fatal(err)
	}
	b.next++
}

// adapter writes a PEFT folder on all linear layers of the model, in 32 bits as PEFT saves it.
func (b *swapBench) adapter(dir string, seed uint64) {
	b.t.Helper()
	modules := map[string]string{
		"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj",
		"ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj",
	}
	g, err := gguf.Open(b.model)
	if err != nil {
		b.t.Fatal(err)
	}
	defer g.Close()
	random := rand.New(rand.NewPCG(seed, 1)) //nolint:gosec // the same every time
	header, data := map[string]any{}, []byte(nil)
	put := func(name string, rows, cols int, scale float64) {
		at := len(data)
		for range rows * cols {
			data = binary.LittleEndian.AppendUint32(data, math.Float32bits(float32(scale*random.NormFloat64())))
		}
		header[name] = map[string]any{"dtype": "F32", "shape": []int{rows, cols}, "data_offsets": []int{at, len(data)}}
	}
	for i := range g.Tensors() {
		t := &g.Tensors()[i]
		parts := strings.Split(t.Name, ".")
		if len(parts) != 4 || modules[parts[2]] == "" || parts[3] != "weight" {
			continue
		}
		in, out := int(t.Dims[0]), int(t.Dims[1])
		name := "base_model.model.model.layers." + parts[1] + "." + modules[parts[2]]
		put(name+".lora_A.weight", b.rank, in, 1/math.Sqrt(float64(in)))
		put(name+".lora_B.weight", out, b.rank, 0.1/math.Sqrt(float64(b.rank)))
	}
	text, err := json.Marshal(header)
	if err != nil {
		b.t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		b.t.Fatal(err)
	}
	for file, content := range map[string][]byte{
		"adapter_config.json":       fmt.Appendf(nil, `{"peft_type":"LORA","r":%d,"lora_alpha":%d,"target_modules":"all-linear"}`, b.rank, b.rank),
		"adapter_model.safetensors": slices.Concat(binary.LittleEndian.AppendUint64(nil, uint64(len(text))), text, data),
	} {
		if err := os.WriteFile(filepath.Join(dir, file), content, 0o600); err != nil {
			b.t.Fatal(err)
		}
	}
}
