package upload_test

import (
	"bytes"
	"errors"
	"io/fs"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"edged/core/serve/door/http/upload"
)

// demo is an adapter that is good.
const demo = "../../../../../demo/adapters/pirate"

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// send uploads files, as names and contents in turn, and returns the status and what was said.
func send(t *testing.T, r *upload.Receiver, name string, files ...string) (status int, said string) {
	t.Helper()
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for i := 0; i < len(files); i += 2 {
		w, err := form.CreateFormFile("file", files[i])
		if err == nil {
			_, err = w.Write([]byte(files[i+1]))
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if err := form.Close(); err != nil {
		t.Fatal(err)
	}
	req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", &body)
	req.Header.Set("Content-Type", form.FormDataContentType())
	_, status, failed := r.Receive(httptest.NewRecorder(), req, name)
	if failed != nil {
		said = failed.Message
	}
	return status, said
}

// names lists a folder.
func names(t *testing.T, dir string) (list []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		list = append(list, e.Name())
	}
	return list
}

func TestReceive(t *testing.T) {
	dir := t.TempDir()
	config, model := read(t, demo+"/adapter_config.json"), read(t, demo+"/adapter_model.safetensors")
	good := []string{"adapter_config.json", config, "adapter_model.safetensors", model}
	r := upload.New(upload.Options{Dir: dir, Most: int64(len(config) + len(model)), Names: 1, Quiet: time.Minute})
	for _, bad := range []struct {
		name   string
		files  []string
		status int
		says   string
	}{
		{"../out", good, 400, "cannot be the name of an adapter"},
		{".hidden", good, 400, "cannot be the name of an adapter"},
		{"a.part", good, 400, "cannot be the name of an adapter"},
		{"a.gguf", good, 400, "cannot be the name of an adapter"},
		{"a", nil, 400, "adapter_config.json is missing"},
		{"a", good[:2], 400, "adapter_model.safetensors is missing"},
		{"a", append([]string{"run.sh", "x"}, good...), 400, `"run.sh" is no file of an adapter`},
		{"a", append([]string{"adapter_config.json", "{}"}, good...), 400, "comes twice"},
		{"a", append([]string{"b.gguf", "x"}, good[:2]...), 400, "send it without adapter_config.json"},
		{"a", []string{"b.gguf", "GGUF"}, 400, "nothing was changed: "},
		{"a", []string{"adapter_config.json", "{", "adapter_model.safetensors", model}, 400, "nothing was changed: "},
		{"a", append([]string{"adapter_config.json.minisig", "x"}, good...), 413, "larger than adapters.max_size"},
		{"a", []string{"adapter_model.safetensors", strings.Repeat("x", len(model)+len(config)+70<<10)}, 413, "larger than adapters.max_size"},
	} {
		status, said := send(t, r, bad.name, bad.files...)
		if status != bad.status || !strings.Contains(said, bad.says) {
			t.Errorf("%s: %d %q, want %d %q", bad.name, status, said, bad.status, bad.says)
		}
		if strings.Contains(said, dir) {
			t.Errorf("%q names a folder that its reader does not know", said)
		}
		if left := names(t, dir); len(left) > 0 {
			t.Errorf("%s: left %q", bad.name, left)
		}
	}
	for range 2 { // the second takes the place of the first
		if status, said := send(t, r, "pirate", good...); status != http.StatusAccepted {
			t.Fatalf("%d %s", status, said)
		}
	}
	if got := names(t, dir); len(got) != 1 || read(t, filepath.Join(dir, "pirate", "adapter_model.safetensors")) != model {
		t.Errorf("%q in the folder", got)
	}
	if status, said := send(t, r, "second", good...); status != 400 || !strings.Contains(said, "adapters.max_count is 1") {
		t.Errorf("%d %q", status, said)
	}
}

func TestReceiveNowhere(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "none")
	r := upload.New(upload.Options{Dir: dir, Most: 1 << 20, Names: 1, Quiet: time.Minute})
	if status, said := send(t, r, "a", "adapter_config.json", "{}"); status != 500 || !strings.Contains(said, "there is no such folder") {
		t.Errorf("%d %q", status, said)
	}
	if _, err := os.Stat(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Error("it made the folder")
	}
}

func FuzzReceive(f *testing.F) {
	f.Add("a", "--b\r\nContent-Disposition: form-data; name=\"f\"; filename=\"x.gguf\"\r\n\r\nGGUF\r\n--b--\r\n")
	f.Add("a", "--b\r\nContent-Disposition: form-data; filename=\"../../adapter_config.json\"\r\n\r\n{}\r\n--b--\r\n")
	f.Fuzz(func(t *testing.T, name, body string) {
		dir := t.TempDir()
		r := upload.New(upload.Options{Dir: dir, Most: 1 << 12, Names: 4, Quiet: time.Minute})
		req := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/", strings.NewReader(body))
		req.Header.Set("Content-Type", "multipart/form-data; boundary=b")
		_, status, failed := r.Receive(httptest.NewRecorder(), req, name)
		if (failed == nil) != (status == http.StatusAccepted) {
			t.Fatalf("%d %v", status, failed)
		}
		if got := names(t, dir); failed != nil && len(got) > 0 {
			t.Fatalf("refused, and left %q", got)
		}
	})
}
