// Package hub fetches models from the Hugging Face hub, or from one that behaves as it does.
//
// The hub's own words, of which this package reads a few:
//
//	GET  /api/models/OWNER/REPO/revision/REV?blobs=true   {"sha", "siblings":[{"rfilename","size","lfs":{"sha256","size"}}]}
//	HEAD /OWNER/REPO/resolve/REV/FILE                      X-Repo-Commit; X-Linked-Etag and X-Linked-Size of a large file, which the
//	                                                       Location serves; ETag and Content-Length of a small one
//	GET  the same, with Range                              206, or 200 where a server knows no ranges
//	401, 403 with X-Error-Code: GatedRepo, RepoNotFound, RevisionNotFound, EntryNotFound; 429 with Retry-After
//
// It must not know what a model is made of: which files are wanted, and what their headers mean, its callers
// say. A Client may be used concurrently.
package hub

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
)

// Endpoint is the hub that is asked where nobody names another.
const Endpoint = "https://huggingface.co"

// Bounds of what a hub may make us wait for or keep.
const (
	maxListing  = 16 << 20
	maxFiles    = 10_000
	maxWait     = 5 * time.Minute // that a hub asks for at once
	maxTries    = 8               // in a row that bring nothing
	maxDials    = 3               // of a hub that has not answered yet
	dialTimeout = 15 * time.Second
	maxRedirect = 10
)

// ErrRefused means that the hub refuses what was asked for, and that asking again would not help.
var ErrRefused = errors.New("the hub refuses")

// Options configure a Client.
type Options struct {
	Endpoint string // "": Endpoint
	Token    string // "": none
	Agent    string // User-Agent
	// Wait is told of pauses: for how long, and why. nil: nobody is.
	Wait func(d time.Duration, why string)
	// Pause waits; nil: it does so by the clock.
	Pause func(ctx context.Context, d time.Duration) error
}

// Client asks one hub.
type Client struct {
	o    Options
	base *url.URL
	http *http.Client
	seen atomic.Bool // the hub, or a storage behind it, has answered
}

// New returns a Client.
func New(o Options) (*Client, error) {
	if o.Endpoint == "" {
		o.Endpoint = Endpoint
	}
	base, err := url.Parse(strings.TrimSuffix(o.Endpoint, "/"))
	if err != nil || base.Scheme != "https" && base.Scheme != "http" || base.Host == "" {
		return nil, fmt.Errorf("hub: %q is no address of a hub, such as %s", o.Endpoint, Endpoint)
	}
	if o.Wait == nil {
		o.Wait = func(time.Duration, string) {}
	}
	if o.Pause == nil {
		o.Pause = pause
	}
	c := &Client{o: o, base: base}
	c.http = &http.Client{
		Transport: &http.Transport{
			Proxy:                 http.ProxyFromEnvironment,
			DialContext:           (&net.Dialer{Timeout: dialTimeout}).DialContext,
			ResponseHeaderTimeout: time.Minute,
			TLSHandshakeTimeout:   30 * time.Second,
			DisableCompression:    true,
			ForceAttemptHTTP2:     true,
			IdleConnTimeout:       time.Minute,
		},
		CheckRedirect: func(req *http.Request, via []*http.Request) error {
			if len(via) > maxRedirect {
				return fmt.Errorf("more than %d redirects", maxRedirect)
			}
			if req.URL.Host != base.Host || req.URL.Scheme != base.Scheme { // the storage behind the hub is not to see the token
				req.Header.Del("Authorization")
			}
			return nil
		},
	}
	return c, nil
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// Ref names what is to be fetched.
type Ref struct {
	Repo     string // "owner/name"
	Revision string // "": main
	File     string // one file of the repository; "": Tag, or all that a model needs
	Tag      string // of a GGUF file, such as "Q4_K_M"; "": none
}

var (
	repoName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,95}/[A-Za-z0-9][A-Za-z0-9._-]{0,95}$`)
	tagName  = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)
	revName  = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$`)
)

// ParseRef reads owner/repo, owner/repo:TAG, owner/repo:FILE, owner/repo/FILE, each with @REVISION behind the
// repository, and addresses of the hub's pages.
func ParseRef(text string) (Ref, error) {
	bad := fmt.Errorf("hub: %q names no model: write owner/repo, owner/repo:Q4_K_M or owner/repo/file.gguf", text)
	rest := text
	for _, prefix := range []string{"https://", "http://", "huggingface.co/", "hf.co/"} {
		rest = strings.TrimPrefix(rest, prefix)
	}
	rest = strings.TrimSuffix(rest, "/")
	repo, what, tagged := strings.Cut(rest, ":")
	parts := strings.SplitN(repo, "/", 3)
	if len(parts) < 2 {
		return Ref{}, bad
	}
	r := Ref{Repo: parts[0] + "/" + parts[1]}
	if at := strings.IndexByte(parts[1], '@'); at >= 0 {
		r.Repo, r.Revision = parts[0]+"/"+parts[1][:at], parts[1][at+1:]
	}
	if len(parts) == 3 {
		r.File = parts[2]
		for _, page := range []string{"resolve/", "blob/", "tree/"} { // as a browser shows them
			if more, ok := strings.CutPrefix(r.File, page); ok {
				r.Revision, r.File, _ = strings.Cut(more, "/")
			}
		}
	}
	switch {
	case tagged && r.File != "":
		return Ref{}, bad
	case strings.HasSuffix(what, ".gguf"):
		r.File = what
	case tagged:
		if r.Tag = what; !tagName.MatchString(what) {
			return Ref{}, bad
		}
	}
	if !repoName.MatchString(r.Repo) || strings.Contains(r.Repo, "..") || r.Revision != "" && !revName.MatchString(r.Revision) ||
		r.File != "" && !safe(r.File) {
		return Ref{}, bad
	}
	return r, nil
}

// safe tells whether the name of a file in a repository may become a path here.
func safe(file string) bool {
	return file != "" && len(file) <= 512 && !path.IsAbs(file) && path.Clean(file) == file && file != ".." &&
		!strings.HasPrefix(file, "../") &&
		!strings.ContainsAny(file, "\\\x00") &&
		!strings.ContainsFunc(file, func(r rune) bool { return r < ' ' || r == 0x7f })
}

// File is one file of a repository.
type File struct {
	Name   string
	Size   int64
	SHA256 string // hexadecimal; "": the hub does not tell
}

// Listing is a repository at one commit.
type Listing struct {
	Repo   string
	Commit string
	Files  []File
}

// List reads what a repository holds.
func (c *Client) List(ctx context.Context, r Ref) (Listing, error) {
	rev := r.Revision
	if rev == "" {
		rev = "main"
	}
	var got struct {
		SHA      string `json:"sha"`
		Siblings []struct {
			Name string `json:"rfilename"`
			Size int64  `json:"size"`
			LFS  *struct {
				SHA256 string `json:"sha256"`
				Size   int64  `json:"size"`
			} `json:"lfs"`
		} `json:"siblings"`
	}
	err := c.again(ctx, "the list of "+r.Repo, func() (bool, error) {
		resp, err := c.ask(ctx, http.MethodGet, c.base.String()+"/api/models/"+r.Repo+"/revision/"+url.PathEscape(rev)+"?blobs=true", "")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close() //nolint:errcheck // read to its end, or not wanted
		if err := c.judge(resp, r.Repo, rev, ""); err != nil {
			return false, err
		}
		data, err := io.ReadAll(io.LimitReader(resp.Body, maxListing+1))
		if err != nil {
			return false, err
		}
		if len(data) > maxListing || json.Unmarshal(data, &got) != nil {
			return false, fmt.Errorf("%w: its answer about %s is no list of files", ErrRefused, r.Repo)
		}
		return true, nil
	})
	if err != nil {
		return Listing{}, err
	}
	l := Listing{Repo: r.Repo, Commit: got.SHA}
	if !revName.MatchString(l.Commit) || len(got.Siblings) > maxFiles {
		return l, fmt.Errorf("hub: %w: its answer about %s is no list of files", ErrRefused, r.Repo)
	}
	for _, s := range got.Siblings {
		f := File{Name: s.Name, Size: s.Size}
		if s.LFS != nil {
			f.Size, f.SHA256 = s.LFS.Size, sum(s.LFS.SHA256)
		}
		if safe(f.Name) && f.Size >= 0 {
			l.Files = append(l.Files, f)
		}
	}
	return l, nil
}

var sha256Hex = regexp.MustCompile(`^[0-9a-f]{64}$`)

// sum is a checksum, where it is one.
func sum(text string) string {
	text = strings.ToLower(strings.Trim(strings.TrimPrefix(text, "W/"), `"`))
	if sha256Hex.MatchString(text) {
		return text
	}
	return ""
}

// Look asks for the size and the checksum of a file, which lists of some hubs lack.
func (c *Client) Look(ctx context.Context, l Listing, name string) (File, error) {
	f := File{Name: name, Size: -1}
	err := c.again(ctx, name, func() (bool, error) {
		// The redirect itself tells of the file; what it leads to is a storage that need not.
		stop := *c.http
		stop.CheckRedirect = func(req *http.Request, via []*http.Request) error {
			if req.URL.Host != c.base.Host || len(via) > maxRedirect {
				return http.ErrUseLastResponse
			}
			return nil
		}
		resp, err := c.askBy(ctx, &stop, http.MethodHead, c.address(l, name), "")
		if err != nil {
			return false, err
		}
		defer resp.Body.Close() //nolint:errcheck // there is none
		if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.Header.Get("X-Linked-Etag") != "" {
			f.Size, f.SHA256 = count(resp.Header.Get("X-Linked-Size")), sum(resp.Header.Get("X-Linked-Etag"))
			return true, nil
		}
		if err := c.judge(resp, l.Repo, l.Commit, name); err != nil {
			return false, err
		}
		f.Size, f.SHA256 = resp.ContentLength, sum(resp.Header.Get("X-Linked-Etag"))
		if n := count(resp.Header.Get("X-Linked-Size")); n >= 0 {
			f.Size = n
		}
		return true, nil
	})
	return f, err
}

func count(text string) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 {
		return -1
	}
	return n
}

func (c *Client) address(l Listing, name string) string {
	parts := strings.Split(name, "/")
	for i := range parts {
		parts[i] = url.PathEscape(parts[i])
	}
	return c.base.String() + "/" + l.Repo + "/resolve/" + url.PathEscape(l.Commit) + "/" + strings.Join(parts, "/")
}

// Read writes bytes of a file from an offset on, until n are written; n < 0: to its end. It goes on where a connection broke. got is told
// of each piece; nil: nobody is.
func (c *Client) Read(ctx context.Context, l Listing, f File, from, n int64, w io.Writer, got func(n int)) error {
	end := f.Size
	if n >= 0 {
		end = min(end, from+n)
	}
	if from >= end {
		return nil
	}
	return c.again(ctx, f.Name, func() (moved bool, err error) {
		resp, err := c.ask(ctx, http.MethodGet, c.address(l, f.Name), fmt.Sprintf("bytes=%d-%d", from, end-1))
		if err != nil {
			return false, err
		}
		defer resp.Body.Close() //nolint:errcheck // read as far as it is wanted
		if err := c.judge(resp, l.Repo, l.Commit, f.Name); err != nil {
			return false, err
		}
		body := io.Reader(resp.Body)
		switch {
		case resp.StatusCode == http.StatusPartialContent:
			var first int64
			if _, err := fmt.Sscanf(resp.Header.Get("Content-Range"), "bytes %d-", &first); err != nil || first != from {
				return false, fmt.Errorf("%w: it answers with another part of %s than was asked for", ErrRefused, f.Name)
			}
		case from > 0:
			return false, fmt.Errorf("%w: it serves no parts of %s", ErrRefused, f.Name)
		}
		piece := make([]byte, 256<<10)
		for from < end {
			n, err := body.Read(piece[:min(int64(len(piece)), end-from)])
			if n > 0 {
				if _, failed := w.Write(piece[:n]); failed != nil {
					return moved, &localError{failed}
				}
				from, moved = from+int64(n), true
				if got != nil {
					got(n)
				}
			}
			if err != nil && from < end {
				return moved, fmt.Errorf("the connection ended: %w", err)
			}
		}
		return true, nil
	})
}

// localError is about this machine, not about the hub: another try would not help.
type localError struct{ error }

func (e *localError) Unwrap() error { return e.error }

func (c *Client) ask(ctx context.Context, method, address, byteRange string) (*http.Response, error) {
	return c.askBy(ctx, c.http, method, address, byteRange)
}

func (c *Client) askBy(ctx context.Context, by *http.Client, method, address, byteRange string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, address, nil)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", c.o.Agent)
	req.Header.Set("Accept-Encoding", "identity")
	if c.o.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.o.Token)
	}
	if byteRange != "" {
		req.Header.Set("Range", byteRange)
	}
	resp, err := by.Do(req)
	if err == nil {
		c.seen.Store(true)
	}
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err // its address may be a signed one, of many lines
	}
	return resp, err
}

// busyError means that the hub wants to be asked again later.
type busyError struct {
	after time.Duration // 0: it does not say
	why   string
}

func (e *busyError) Error() string { return e.why }

// judge is the error of an answer; nil: it is one.
func (c *Client) judge(resp *http.Response, repo, rev, file string) error {
	code := resp.Header.Get("X-Error-Code")
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("%w: %s", ErrRefused, fmt.Sprintf(format, args...))
	}
	switch s := resp.StatusCode; {
	case s == http.StatusOK || s == http.StatusPartialContent:
		return nil
	case s == http.StatusTooManyRequests || s == http.StatusServiceUnavailable:
		return &busyError{retryAfter(resp.Header, time.Now()), fmt.Sprintf("the hub answers %d: too much is asked of it", s)}
	case s >= 500:
		return &busyError{0, fmt.Sprintf("the hub answers %d", s)}
	case code == "GatedRepo" && s == http.StatusUnauthorized:
		return refuse("%s is gated: accept its terms on its page, and name a file with your token in --token-file, or set HF_TOKEN", repo)
	case code == "GatedRepo":
		return refuse(
			"%s is gated, and the account of your token has not been let in: accept its terms on its page, or wait until its owners have agreed",
			repo,
		)
	case code == "RevisionNotFound":
		return refuse("%s has no revision %s", repo, rev)
	case code == "EntryNotFound" || s == http.StatusNotFound && file != "":
		return refuse("%s has no file %s", repo, file)
	case s == http.StatusUnauthorized && c.o.Token == "":
		return refuse(
			"there is no public model %s: is the name right? A private one needs your token: name a file with it in --token-file, or set HF_TOKEN",
			repo,
		)
	case s == http.StatusUnauthorized:
		return refuse("it does not know the token, or there is no model %s that it may read", repo)
	case s == http.StatusForbidden:
		return refuse("your token may not read %s: give it the right to read repositories", repo)
	case s == http.StatusNotFound:
		return refuse("there is no model %s", repo)
	}
	return refuse("it answers %d to a request for %s", resp.StatusCode, strings.TrimSuffix(repo+"/"+file, "/"))
}

// retryAfter is how long a hub asks to wait; 0: it does not say.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := h.Get("Retry-After")
	if s, err := strconv.Atoi(text); err == nil && s >= 0 {
		return time.Duration(s) * time.Second
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	// RateLimit: "api";r=0;t=55
	for part := range strings.SplitSeq(h.Get("RateLimit"), ";") {
		if t, ok := strings.CutPrefix(strings.TrimSpace(part), "t="); ok {
			if s, err := strconv.Atoi(t); err == nil && s >= 0 {
				return time.Duration(s) * time.Second
			}
		}
	}
	return 0
}

// unreachable tells whether an error is that no connection came about. Before the first answer of a hub the usual reason is a slip in
// its address, or a machine without a network, and not a moment's trouble.
func unreachable(err error) bool {
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		return true
	}
	_, ok := errors.AsType[*net.DNSError](err)
	return ok
}

// untrusted tells whether an error is that the other side is not the hub, or speaks no TLS: that stays so.
func untrusted(err error) bool {
	_, header := errors.AsType[tls.RecordHeaderError](err)
	_, certificate := errors.AsType[*tls.CertificateVerificationError](err)
	return header || certificate || errors.Is(err, http.ErrSchemeMismatch)
}

// again tries until it works, or until an error that another try would not mend. try reports whether it brought anything.
func (c *Client) again(ctx context.Context, what string, try func() (moved bool, err error)) error {
	for n := 1; ; n++ {
		moved, err := try()
		if err == nil {
			return nil
		}
		var here *localError
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if errors.Is(err, ErrRefused) || errors.As(err, &here) {
			return fmt.Errorf("hub: %w", err)
		}
		if moved {
			n = 1
		}
		fresh := unreachable(err) && !c.seen.Load()
		switch {
		case untrusted(err):
			return fmt.Errorf("hub: %s is not to be trusted: %w", c.base.Host, err)
		case fresh && n >= maxDials:
			return fmt.Errorf(
				"hub: %s cannot be reached: %w: is this machine online, and is the address right (--endpoint, HF_ENDPOINT)?",
				c.base.Host,
				err,
			)
		case n >= maxTries:
			return fmt.Errorf("hub: %s: %d tries in a row brought nothing: %w", what, n, err)
		}
		wait := min(time.Second<<(n-1), 30*time.Second)
		if fresh {
			wait = time.Second
		}
		if busy, ok := errors.AsType[*busyError](err); ok && busy.after > 0 {
			if wait = busy.after; wait > maxWait {
				return fmt.Errorf("hub: %s: %w, and it wants to be asked again in %v: try then", what, err, wait)
			}
		}
		c.o.Wait(wait, err.Error())
		if err := c.o.Pause(ctx, wait); err != nil {
			return err
		}
	}
}
