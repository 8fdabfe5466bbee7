package hub

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"edged/core/model/weights"
	"edged/test/oracle"
)

const commit = "0123456789abcdef0123456789abcdef01234567"

// imitation behaves as the hub does: large files are told by a redirect with their linked etag, and served by a storage of another host
// that wants no token; small ones come from the hub itself, behind a relative redirect.
type imitation struct {
	t       *testing.T
	hub     *httptest.Server
	storage *httptest.Server

	mu      sync.Mutex
	files   map[string][]byte
	gated   string // token that is let in; "": everybody is
	busy    int    // answers 429 so often
	cut     int    // the storage ends so many answers early
	served  int64  // bytes of large files
	ranges  []string
	damaged bool
}

func imitate(t *testing.T, files map[string][]byte) *imitation {
	t.Helper()
	im := &imitation{t: t, files: files}
	im.storage = httptest.NewServer(http.HandlerFunc(im.store))
	im.hub = httptest.NewServer(http.HandlerFunc(im.answer))
	t.Cleanup(im.hub.Close)
	t.Cleanup(im.storage.Close)
	return im
}

func large(name string) bool {
	return strings.HasSuffix(name, ".gguf") || strings.HasSuffix(name, ".safetensors")
}

func sumOf(data []byte) string {
	h := sha256.Sum256(data)
	return hex.EncodeToString(h[:])
}

func (im *imitation) answer(w http.ResponseWriter, r *http.Request) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if im.busy > 0 {
		im.busy--
		w.Header().Set("Retry-After", "7")
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	refuse := func(status int, code string) {
		w.Header().Set("X-Error-Code", code)
		w.WriteHeader(status)
	}
	if rest, ok := strings.CutPrefix(r.URL.Path, "/api/models/o/r/revision/"); ok {
		if rest != "main" && rest != commit {
			refuse(http.StatusNotFound, "RevisionNotFound")
			return
		}
		type lfs struct {
			SHA256 string `json:"sha256"`
			Size   int    `json:"size"`
		}
		type sibling struct {
			Name string `json:"rfilename"`
			Size int    `json:"size"`
			LFS  *lfs   `json:"lfs,omitempty"`
		}
		var list []sibling
		for name, data := range im.files {
			s := sibling{Name: name, Size: len(data)}
			if large(name) {
				s.LFS = &lfs{sumOf(data), len(data)}
			}
			list = append(list, s)
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"sha": commit, "siblings": list})
		return
	}
	if strings.HasPrefix(r.URL.Path, "/api/models/") {
		refuse(http.StatusUnauthorized, "RepoNotFound")
		return
	}
	name, direct := strings.CutPrefix(r.URL.Path, "/api/resolve-cache/models/o/r/"+commit+"/")
	if !direct {
		name = strings.TrimPrefix(r.URL.Path, "/o/r/resolve/"+commit+"/")
	}
	data, there := im.files[name]
	switch token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "); {
	case !there:
		refuse(http.StatusNotFound, "EntryNotFound")
	case im.gated != "" && token == "":
		refuse(http.StatusUnauthorized, "GatedRepo")
	case im.gated != "" && token != im.gated:
		refuse(http.StatusForbidden, "GatedRepo")
	case large(name):
		w.Header().Set("X-Repo-Commit", commit)
		w.Header().Set("X-Linked-Etag", `"`+sumOf(data)+`"`)
		w.Header().Set("X-Linked-Size", strconv.Itoa(len(data)))
		http.Redirect(w, r, im.storage.URL+"/blob/"+name+"?signed=1", http.StatusFound)
	case !direct:
		http.Redirect(w, r, "/api/resolve-cache/models/o/r/"+commit+"/"+name, http.StatusTemporaryRedirect)
	default:
		w.Header().Set("ETag", `"40charactersofasumthatisnosha256xxxxxxxxx"`)
		http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(data))
	}
}

func (im *imitation) store(w http.ResponseWriter, r *http.Request) {
	im.mu.Lock()
	defer im.mu.Unlock()
	if r.Header.Get("Authorization") != "" {
		im.t.Error("the storage was shown the token")
	}
	data := im.files[strings.TrimPrefix(r.URL.Path, "/blob/")]
	if im.damaged {
		data = bytes.Clone(data)
		data[len(data)-1] ^= 1
	}
	im.ranges = append(im.ranges, r.Header.Get("Range"))
	var from, to int
	if _, err := fmt.Sscanf(r.Header.Get("Range"), "bytes=%d-%d", &from, &to); err != nil || to >= len(data) {
		im.t.Errorf("range %q of %d bytes", r.Header.Get("Range"), len(data))
		return
	}
	w.Header().Set("Content-Range", fmt.Sprintf("bytes %d-%d/%d", from, to, len(data)))
	w.Header().Set("Content-Length", strconv.Itoa(to-from+1))
	w.WriteHeader(http.StatusPartialContent)
	if im.cut > 0 {
		im.cut--
		to = from + (to-from)/2
	}
	im.served += int64(to - from + 1)
	_, _ = w.Write(data[from : to+1])
}

// client is one of the imitation's, whose pauses take no time and are noted.
func (im *imitation) client(token string) (*Client, *[]time.Duration) {
	im.t.Helper()
	var pauses []time.Duration
	c, err := New(Options{Endpoint: im.hub.URL, Token: token, Pause: func(ctx context.Context, d time.Duration) error {
		pauses = append(pauses, d)
		return ctx.Err()
	}})
	if err != nil {
		im.t.Fatal(err)
	}
	return c, &pauses
}

func demo(t *testing.T) map[string][]byte {
	t.Helper()
	gguf, err := os.ReadFile(filepath.Join(oracle.Repo(t), "demo", "gguf", "hearth-4m-q4_0.gguf"))
	if err != nil {
		t.Fatal(err)
	}
	return map[string][]byte{"hearth-Q4_0.gguf": gguf, "README.md": []byte("notes"), "mmproj-hearth-F16.gguf": []byte("eyes")}
}

func pull(ctx context.Context, c *Client, ref, dir, cache string) (Choice, error) {
	r, err := ParseRef(ref)
	if err != nil {
		return Choice{}, err
	}
	l, err := c.List(ctx, r)
	if err != nil {
		return Choice{}, err
	}
	choice, err := Choose(l, r)
	if err != nil {
		return choice, err
	}
	for i, f := range choice.Files {
		if f.SHA256 == "" {
			if choice.Files[i], err = c.Look(ctx, l, f.Name); err != nil {
				return choice, err
			}
		}
	}
	return choice, c.Fetch(ctx, l, choice, dir, cache, func(int64) {})
}

func TestPull(t *testing.T) {
	files := demo(t)
	im := imitate(t, files)
	im.busy, im.cut = 2, 3
	c, pauses := im.client("")
	dir := t.TempDir()
	if _, err := pull(t.Context(), c, "o/r:Q4_0", dir, ""); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(filepath.Join(dir, "hearth-Q4_0.gguf"))
	if err != nil || !bytes.Equal(got, files["hearth-Q4_0.gguf"]) {
		t.Errorf("%v: %d bytes", err, len(got))
	}
	if len(*pauses) != 5 || (*pauses)[0] != 7*time.Second || (*pauses)[1] != 7*time.Second {
		t.Errorf("pauses: %v, want two of the 7 s that were asked for, and three after broken connections", *pauses)
	}
	if im.served != int64(len(got)) {
		t.Errorf("%d bytes were served, and the file has %d: what had come was fetched again", im.served, len(got))
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}

// A folder comes whole, with its files in their places, and nothing of it has its name before.
func TestPullFolder(t *testing.T) {
	files := map[string][]byte{"1_Pooling/config.json": []byte("{}"), "pytorch_model.bin": []byte("a program")}
	root := filepath.Join(oracle.Repo(t), "demo", "hf-nf4")
	for _, name := range []string{"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} {
		data, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		files[name] = data
	}
	im := imitate(t, files)
	c, _ := im.client("")
	dir := t.TempDir()
	if _, err := pull(t.Context(), c, "https://huggingface.co/o/r", dir, ""); err != nil {
		t.Fatal(err)
	}
	for name, data := range files {
		got, err := os.ReadFile(filepath.Join(dir, "r", name))
		if name == "pytorch_model.bin" {
			if err == nil {
				t.Error("a pickle was fetched")
			}
			continue
		}
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A pull that was broken off goes on, also in another process, and until then nothing has the model's name.
func TestPullGoesOn(t *testing.T) {
	im := imitate(t, demo(t))
	whole := int64(len(im.files["hearth-Q4_0.gguf"]))
	ctx, cancel := context.WithCancel(t.Context())
	dir := t.TempDir()
	c, err := New(Options{Endpoint: im.hub.URL, Pause: func(context.Context, time.Duration) error { cancel(); return context.Canceled }})
	if err != nil {
		t.Fatal(err)
	}
	im.cut = 1
	if _, err := pull(ctx, c, "o/r", dir, ""); !errors.Is(err, context.Canceled) {
		t.Fatalf("%v", err)
	}
	if seen, _ := filepath.Glob(filepath.Join(dir, "*.gguf")); len(seen) > 0 {
		t.Errorf("half a file has its name: %v", seen)
	}
	again, _ := im.client("")
	if _, err := pull(t.Context(), again, "o/r", dir, ""); err != nil {
		t.Fatal(err)
	}
	if im.served != whole {
		t.Errorf("%d bytes were served of %d", im.served, whole)
	}
}

func TestPullDamaged(t *testing.T) {
	im := imitate(t, demo(t))
	im.damaged = true
	c, _ := im.client("")
	dir := t.TempDir()
	if _, err := pull(t.Context(), c, "o/r", dir, ""); err == nil || !strings.Contains(err.Error(), "sha256") {
		t.Errorf("%v", err)
	}
	if seen, _ := filepath.Glob(filepath.Join(dir, "*.gguf")); len(seen) > 0 {
		t.Errorf("a damaged file has its name: %v", seen)
	}
	im.damaged = false
	if _, err := pull(t.Context(), c, "o/r", dir, ""); err != nil {
		t.Errorf("after the damage: %v", err)
	}
}

// TestUnreachable: what is most likely a slip in the address is told after a few quick tries; a hub that has answered before gets all of them.
func TestUnreachable(t *testing.T) {
	im := imitate(t, demo(t))
	c, pauses := im.client("")
	im.hub.Close()
	r, _ := ParseRef("o/r")
	_, err := c.List(t.Context(), r)
	if err == nil || !strings.Contains(err.Error(), "cannot be reached") || !strings.Contains(err.Error(), "connection refused") || strings.Contains(err.Error(), "fetched") {
		t.Errorf("%v", err)
	}
	var all time.Duration
	for _, d := range *pauses {
		all += d
	}
	if all > 3*time.Second {
		t.Errorf("waits %v before it says so", *pauses)
	}
	*pauses = nil
	c.seen.Store(true)
	if _, err := c.List(t.Context(), r); err == nil || len(*pauses) != maxTries-1 {
		t.Errorf("%v after %d pauses", err, len(*pauses))
	}
	for _, err := range []error{&net.DNSError{Err: "no such host", Name: "hub.invalid", IsNotFound: true}, &net.OpError{Op: "dial", Err: syscall.ENETUNREACH}} {
		if !unreachable(fmt.Errorf("x: %w", err)) {
			t.Errorf("%v is taken for passing", err)
		}
	}
	if unreachable(&net.OpError{Op: "read", Err: syscall.ECONNRESET}) {
		t.Error("a connection that broke is taken for one that never was")
	}
}

// TestUntrusted: who speaks no TLS, or shows a certificate that nobody vouches for, is not asked again.
func TestUntrusted(t *testing.T) {
	plain := httptest.NewServer(http.NotFoundHandler())
	defer plain.Close()
	secret := httptest.NewTLSServer(http.NotFoundHandler())
	secret.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	defer secret.Close()
	for _, address := range []string{strings.Replace(plain.URL, "http:", "https:", 1), secret.URL} {
		pauses := 0
		c, err := New(Options{Endpoint: address, Pause: func(context.Context, time.Duration) error { pauses++; return nil }})
		if err != nil {
			t.Fatal(err)
		}
		r, _ := ParseRef("o/r")
		if _, err := c.List(t.Context(), r); err == nil || pauses > 0 || !strings.Contains(err.Error(), "not to be trusted") {
			t.Errorf("%v after %d pauses", err, pauses)
		}
	}
}

// TestKept: where something was fetched it is said that it is kept, and only there.
func TestKept(t *testing.T) {
	im := imitate(t, demo(t))
	c, err := New(Options{Endpoint: im.hub.URL, Pause: func(context.Context, time.Duration) error {
		im.mu.Lock()
		im.files = nil // the file is taken away meanwhile
		im.mu.Unlock()
		return nil
	}})
	if err != nil {
		t.Fatal(err)
	}
	im.cut = 1
	if _, err := pull(t.Context(), c, "o/r", t.TempDir(), ""); err == nil || !strings.Contains(err.Error(), "is kept, and the next pull goes on from there") {
		t.Errorf("%v", err)
	}
}

// TestRoom: what has no room is refused, also in a folder that is not made yet.
func TestRoom(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "b")
	choice := Choice{Name: "m", Files: []File{{Name: "m.gguf", Size: 1 << 60}}}
	if err := Room(dir, choice); err == nil || !strings.Contains(err.Error(), "MiB free") {
		t.Errorf("%v", err)
	}
	choice.Files[0].Size = -1 // not known yet
	if err := Room(dir, choice); err != nil {
		t.Errorf("%v", err)
	}
}

func TestRefusals(t *testing.T) {
	im := imitate(t, demo(t))
	im.gated = "secret-token"
	for _, test := range []struct{ ref, token, want string }{
		{"o/r", "", "is gated: accept its terms"},
		{"o/r", "other-token", "has not been let in"},
		{"o/r", "secret-token", ""},
		{"o/nobody", "", "there is no public model o/nobody"},
		{"o/nobody", "t", "does not know the token"},
		{"o/r@v9", "secret-token", "has no revision v9"},
		{"o/r:Q8_0", "secret-token", "no GGUF file is Q8_0; there are: hearth-Q4_0.gguf"},
		{"o/r/none.gguf", "secret-token", "there is no GGUF model none.gguf"},
	} {
		c, _ := im.client(test.token)
		_, err := pull(t.Context(), c, test.ref, t.TempDir(), "")
		switch {
		case test.want == "" && err != nil, test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)):
			t.Errorf("%s with %q: %v", test.ref, test.token, err)
		case err != nil && test.token != "" && strings.Contains(err.Error(), test.token) && len(test.token) > 1:
			t.Errorf("%s: the error shows the token: %v", test.ref, err)
		}
	}
}

// The headers alone say what the whole file says, and no weights are asked for.
func TestHeaders(t *testing.T) {
	im := imitate(t, demo(t))
	c, _ := im.client("")
	r, _ := ParseRef("o/r")
	l, err := c.List(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	choice, err := Choose(l, r)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path, err := c.Headers(t.Context(), l, &choice, dir)
	if err != nil {
		t.Fatal(err)
	}
	head, err := weights.OpenHeaders(path)
	if err != nil {
		t.Fatal(err)
	}
	defer head.Close()
	whole := filepath.Join(oracle.Repo(t), "demo", "gguf", "hearth-4m-q4_0.gguf")
	want, err := weights.OpenHeaders(whole)
	if err != nil {
		t.Fatal(err)
	}
	defer want.Close()
	if head.Figures() != want.Figures() || head.Spec.Family != want.Spec.Family || len(head.Names()) != len(want.Names()) {
		t.Errorf("%+v, want %+v", head.Figures(), want.Figures())
	}
	if im.served > 2*piece {
		t.Errorf("%d bytes were fetched for the headers: %v", im.served, im.ranges)
	}
}

func TestCacheOfTheHubsClient(t *testing.T) {
	im := imitate(t, demo(t))
	c, _ := im.client("")
	cache := t.TempDir()
	at := filepath.Join(cache, "models--o--r", "snapshots", commit)
	blob := filepath.Join(cache, "models--o--r", "blob")
	if err := os.MkdirAll(at, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(blob, im.files["hearth-Q4_0.gguf"], 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("../../blob", filepath.Join(at, "hearth-Q4_0.gguf")); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if _, err := pull(t.Context(), c, "o/r", dir, cache); err != nil || im.served != 0 {
		t.Errorf("%v, %d bytes were fetched although the cache has the file", err, im.served)
	}
	damaged := bytes.Clone(im.files["hearth-Q4_0.gguf"])
	damaged[7] ^= 1
	if err := os.WriteFile(blob, damaged, 0o600); err != nil {
		t.Fatal(err)
	}
	again := t.TempDir()
	if _, err := pull(t.Context(), c, "o/r", again, cache); err != nil || im.served == 0 {
		t.Errorf("%v: a damaged cache was taken", err)
	}
}

func TestParseRef(t *testing.T) {
	for text, want := range map[string]Ref{
		"o/r":                         {Repo: "o/r"},
		"o/r:Q4_K_M":                  {Repo: "o/r", Tag: "Q4_K_M"},
		"o/r:x.gguf":                  {Repo: "o/r", File: "x.gguf"},
		"o/r/sub/x.gguf":              {Repo: "o/r", File: "sub/x.gguf"},
		"hf.co/o/r@v1:Q4_0":           {Repo: "o/r", Revision: "v1", Tag: "Q4_0"},
		"https://huggingface.co/o/r/": {Repo: "o/r"},
		"https://huggingface.co/o/r/blob/main/x.gguf": {Repo: "o/r", Revision: "main", File: "x.gguf"},
	} {
		if got, err := ParseRef(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for _, text := range []string{"", "r", "o/", "/r", "o/r:", "o/..", "o/r/../x", "o/r/x:y", "o r/x", "-o/r", "o/r@../x"} {
		if got, err := ParseRef(text); err == nil {
			t.Errorf("%q is taken as %+v", text, got)
		}
	}
}

func TestChoose(t *testing.T) {
	list := func(names ...string) (l Listing) {
		l.Repo = "o/r"
		for _, n := range names {
			l.Files = append(l.Files, File{Name: n})
		}
		return l
	}
	for _, test := range []struct {
		l    Listing
		r    Ref
		want string // name and number of files, or a part of the error
	}{
		{list("m-Q4_K_M.gguf", "m-Q4_0.gguf", "m-Q8_0.gguf"), Ref{}, "m-Q4_K_M 1"},
		{list("m-Q4_K_M.gguf", "m-Q4_0.gguf"), Ref{Tag: "q4_0"}, "m-Q4_0 1"},
		{list("m-IQ4_XS.gguf", "m-Q4_K_S.gguf"), Ref{Tag: "Q4_K_M"}, "there are: m-IQ4_XS.gguf, m-Q4_K_S.gguf"},
		{list("a/m-Q4_0-00002-of-00002.gguf", "a/m-Q4_0-00001-of-00002.gguf"), Ref{}, "m-Q4_0 2"},
		{list("m-Q4_0-00001-of-00002.gguf"), Ref{}, "1 of the parts"},
		{list("config.json", "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors", "tokenizer.json", "consolidated.safetensors", "x.py", "onnx/m.json"), Ref{}, "r 4"},
		{list("config.json", "pytorch_model.bin"), Ref{}, "neither"},
	} {
		c, err := Choose(test.l, test.r)
		got := fmt.Sprint(c.Name, " ", len(c.Files))
		if err != nil {
			got = err.Error()
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%v %+v: %s, want %s", test.l.Files, test.r, got, test.want)
		}
	}
}
