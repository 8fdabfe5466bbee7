package adapters

import (
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"aead.dev/minisign"
)

func newKey(t *testing.T) (private minisign.PrivateKey, public string) {
	t.Helper()
	pub, private, err := minisign.GenerateKey(rand.Reader)
	must(t, err)
	text := strings.Split(strings.TrimSpace(pub.String()), "\n")
	return private, text[len(text)-1]
}

// sign signs the files of an adapter, as minisign does: hashed.
func sign(t *testing.T, key minisign.PrivateKey, dir string, files ...string) {
	t.Helper()
	for _, file := range files {
		in, err := os.Open(filepath.Join(dir, file))
		must(t, err)
		r := minisign.NewReader(in)
		_, err = r.Read(make([]byte, 1<<16))
		must(t, err)
		must(t, in.Close())
		must(t, os.WriteFile(filepath.Join(dir, file+SignatureSuffix), r.Sign(key), 0o600))
	}
}

func TestSignatures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, public := newKey(t)
		other, otherPublic := newKey(t)
		foreign, _ := newKey(t)
		b := newBench(t, func(o *Options) { o.Keys = []string{public, otherPublic} })
		b.run()
		const config, model = "adapter_config.json", "adapter_model.safetensors"
		dir := filepath.Join(b.dir, "a")
		x := float32(0)
		try := func(signs func()) {
			x++
			_ = os.RemoveAll(dir)
			b.put("a", x)
			signs()
			b.hint()
			b.later(1100 * time.Millisecond)
		}
		try(func() {})
		b.want("a", Settling, 0, "adapter_config.json.minisig is missing")
		b.later(patience * time.Second)
		b.want("a", Rejected, 0, "is not signed")
		try(func() { sign(t, ours, dir, config) })
		b.want("a", Settling, 0, "adapter_model.safetensors.minisig is missing")
		try(func() { sign(t, ours, dir, config, model) })
		first := b.want("a", Active, 1, "")
		for says, signs := range map[string]func(){
			"none of adapters.public_keys": func() { sign(t, foreign, dir, config, model) },
			"another key":                  func() { sign(t, ours, dir, config); sign(t, other, dir, model) },
			"does not match its signature": func() {
				sign(t, ours, dir, config, model)
				must(t, os.WriteFile(filepath.Join(dir, model), tensors(t, 99), 0o600))
			},
			"no minisign signature": func() {
				sign(t, ours, dir, config, model)
				must(t, os.WriteFile(filepath.Join(dir, model+SignatureSuffix), []byte("untrusted comment: x\nAAAA\n"), 0o600))
			},
		} {
			try(signs)
			if s := b.want("a", Rejected, 1, says); s.SHA256 != first.SHA256 {
				t.Errorf("%s: %+v", says, s)
			}
		}
		// The old kind of signature, over the whole file.
		try(func() {
			sign(t, other, dir, config)
			data, err := os.ReadFile(filepath.Join(dir, model))
			must(t, err)
			must(t, os.WriteFile(filepath.Join(dir, model+SignatureSuffix), minisign.Sign(other, data), 0o600))
		})
		b.want("a", Active, 2, "")
		b.end()

		// A restart trusts what it proved before, unless the key has left the list.
		b.open(b.o.Store, func(o *Options) { o.Keys = []string{otherPublic} })
		b.want("a", Settling, 2, "")
		b.open(b.o.Store, func(o *Options) { o.Keys = []string{public} })
		b.want("a", Settling, 0, "")
	})
}

func TestKeys(t *testing.T) {
	_, public := newKey(t)
	if _, err := New(Options{Keys: []string{public}}); err != nil {
		t.Error(err)
	}
	for _, bad := range []string{"", "RWQ", public[1:], "untrusted comment: x\n" + public[:40]} {
		if _, err := New(Options{Keys: []string{bad}}); err == nil {
			t.Errorf("%q was taken as a key", bad)
		}
	}
}

func FuzzSignature(f *testing.F) {
	f.Add([]byte("untrusted comment: x\nRUQ=\ntrusted comment: y\nAAAA\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if len(data) > maxSignature {
			return
		}
		var s minisign.Signature
		_ = s.UnmarshalText(data) // it does not panic
	})
}

func FuzzGate(f *testing.F) {
	f.Add([]byte(`{"prompt":"x","reference":"y"}`), true)
	f.Add([]byte("text"), false)
	f.Fuzz(func(t *testing.T, data []byte, lines bool) {
		samples, err := parseGate(data, lines)
		if err == nil && len(samples) == 0 {
			t.Error("no sample and no error")
		}
		for _, s := range samples {
			if s.Reference == "" {
				t.Error("an empty reference")
			}
		}
	})
}
