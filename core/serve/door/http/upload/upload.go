// Package upload takes an adapter that a browser sends, as the files of a form, and puts it into the folder
// of adapters, where it is judged like any other that is dropped there.
//
// The caller has authorised the client. The package must not know what an adapter is for: it looks at names,
// sizes and what package adapters says of the headers, and writes nothing that was not asked for. One upload
// runs at a time; a Receiver may be used concurrently.
package upload

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"mime/multipart"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"edged/core/config"
	"edged/core/serve/adapters"
	"edged/core/serve/dispatch"
	"edged/core/serve/watch"
)

// Options configure a Receiver.
type Options struct {
	Dir   string        // the folder of adapters
	Most  int64         // bytes of the files of one
	Names int           // adapters in the folder
	Quiet time.Duration // how long an upload may stand still
}

// Receiver takes uploads.
type Receiver struct {
	o    Options
	busy chan struct{} // holds a value while an upload runs
}

// New returns a Receiver.
func New(o Options) *Receiver { return &Receiver{o, make(chan struct{}, 1)} }

// envelope bounds the bytes of a form beside its files.
const envelope = 64 << 10

// folderFiles are the files of a PEFT folder that are served.
var folderFiles = []string{"adapter_config.json", "adapter_model.safetensors"} //nolint:gochecknoglobals // a table

// Receive takes the form of a request as the adapter of that name. It returns the bytes that were written, or
// a status and what to say. Nothing has changed then.
func (r *Receiver) Receive(w http.ResponseWriter, req *http.Request, name string) (size int64, status int, failed *dispatch.Error) {
	select {
	case r.busy <- struct{}{}:
		defer func() { <-r.busy }()
	default:
		return 0, http.StatusTooManyRequests, &dispatch.Error{
			Code:    dispatch.CodeQueueFull,
			Message: "another adapter is being uploaded: send this one after it",
			Retry:   5 * time.Second,
		}
	}
	if err := r.named(name); err != nil {
		return 0, http.StatusBadRequest, err
	}
	if req.ContentLength > r.o.Most+envelope {
		return 0, http.StatusRequestEntityTooLarge, r.tooLarge()
	}
	body := &patient{http.MaxBytesReader(w, req.Body, r.o.Most+envelope), http.NewResponseController(w), r.o.Quiet}
	defer body.end()
	req.Body = body
	form, err := req.MultipartReader()
	if err != nil {
		return 0, http.StatusBadRequest, bad("the body must be a form with the adapter's files (multipart/form-data)")
	}
	drop, err := adapters.Begin(r.o.Dir)
	if err != nil {
		return r.unwritten(err)
	}
	defer drop.Discard()
	return r.fill(form, drop, name)
}

// named tells whether an adapter may have that name.
func (r *Receiver) named(name string) *dispatch.Error {
	if !config.ValidFileName(name) || watch.Passing(name) || strings.HasSuffix(name, ".gguf") ||
		strings.HasSuffix(name, adapters.SignatureSuffix) {
		return bad(
			"%.80q cannot be the name of an adapter: it must match %s, and not begin with a dot or end like a file on its way",
			name,
			config.NamePattern,
		)
	}
	list, _ := os.ReadDir(r.o.Dir) // where it cannot be read, to write there says what is wrong
	others := 0
	for _, e := range list {
		file := strings.TrimSuffix(e.Name(), ".gguf")
		if !watch.Passing(e.Name()) && (e.IsDir() || file != e.Name()) && file != name {
			others++
		}
	}
	if others >= r.o.Names {
		return bad("there are %d adapters already, and adapters.max_count is %d: remove one first", others, r.o.Names)
	}
	return nil
}

// fill writes the form's files and gives them their place.
func (r *Receiver) fill(form *multipart.Reader, drop *adapters.Drop, name string) (size int64, status int, failed *dispatch.Error) {
	target := name + ".gguf"
	var files []string
	for {
		part, err := form.NextPart()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return r.unread(err)
		}
		file := part.FileName()
		switch bare := strings.TrimSuffix(file, adapters.SignatureSuffix); {
		case slices.Contains(folderFiles, bare):
		case strings.HasSuffix(bare, ".gguf"):
			file = target + strings.TrimPrefix(file, bare)
		default:
			return 0, http.StatusBadRequest, bad(
				"%.80q is no file of an adapter: send %s, or one .gguf file, each with its %s where it has one",
				file,
				strings.Join(folderFiles, " and "),
				adapters.SignatureSuffix,
			)
		}
		n, err := drop.Write(file, part)
		if size += n; size > r.o.Most {
			return 0, http.StatusRequestEntityTooLarge, r.tooLarge()
		}
		switch {
		case errors.Is(err, fs.ErrExist):
			return 0, http.StatusBadRequest, bad("%.80q comes twice", part.FileName())
		case err != nil && notOurs(err):
			return r.unread(err)
		case err != nil:
			return r.unwritten(err)
		}
		files = append(files, file)
	}
	lone := slices.Contains(files, target)
	path, rival := drop.Path(), target
	if lone {
		path, rival = filepath.Join(path, target), name
		if i := slices.IndexFunc(files, func(f string) bool { return !strings.HasPrefix(f, target) }); i >= 0 {
			return 0, http.StatusBadRequest, bad("a .gguf file is an adapter of its own: send it without %s", files[i])
		}
	}
	if err := adapters.Check(path); err != nil { // before it takes the place of one that is served
		return 0, http.StatusBadRequest, bad("nothing was changed: %s", strings.ReplaceAll(err.Error(), drop.Path(), name))
	}
	if _, err := os.Lstat(filepath.Join(r.o.Dir, rival)); err == nil {
		return 0, http.StatusBadRequest, bad("%s is there already and has the same name: remove it first, or choose another", rival)
	}
	place := drop.AsFolder
	if lone {
		place, name = drop.AsFile, target
	}
	if err := place(name); err != nil {
		return r.unwritten(err)
	}
	return size, http.StatusAccepted, nil
}

// notOurs tells the errors of a body from those of the disk.
func notOurs(err error) bool {
	var path *fs.PathError
	return !errors.As(err, &path)
}

// unread is about a body that did not come.
func (r *Receiver) unread(err error) (int64, int, *dispatch.Error) {
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return 0, http.StatusRequestEntityTooLarge, r.tooLarge()
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, http.StatusRequestTimeout, bad("nothing came for %v: send it again", r.o.Quiet)
	}
	return 0, http.StatusBadRequest, bad("the form ends too soon or cannot be read: %v", err)
}

// unwritten is about a disk that did not take it.
func (r *Receiver) unwritten(err error) (int64, int, *dispatch.Error) {
	why := err.Error()
	switch {
	case errors.Is(err, fs.ErrNotExist):
		why = "there is no such folder: make it, or correct adapters.dir"
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.EROFS):
		why = "the service may not write there: a drop-in of its unit with ReadWritePaths= lets it, or use 'edged adapters add'"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		why = "it is full: free some space and send it again"
	}
	return 0, http.StatusInternalServerError, &dispatch.Error{Code: dispatch.CodeStorage, Message: "adapters.dir: " + r.o.Dir + ": " + why}
}

func (r *Receiver) tooLarge() *dispatch.Error {
	return bad("the adapter is larger than adapters.max_size, %d bytes", r.o.Most)
}

func bad(format string, args ...any) *dispatch.Error {
	return &dispatch.Error{Code: dispatch.CodeInvalidRequest, Message: fmt.Sprintf(format, args...)}
}

// patient reads a body as long as something of it comes: an adapter may take minutes over a slow network.
type patient struct {
	io.ReadCloser

	control *http.ResponseController
	quiet   time.Duration
}

// Read is io.Reader's.
func (p *patient) Read(b []byte) (int, error) {
	_ = p.control.SetReadDeadline(time.Now().Add(p.quiet)) // a connection that has none is a test's
	return p.ReadCloser.Read(b)
}

// end takes the deadline away: its end would look as if the client had gone.
func (p *patient) end() { _ = p.control.SetReadDeadline(time.Time{}) }
