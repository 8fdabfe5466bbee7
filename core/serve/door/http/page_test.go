package http

import (
	"context"
	"net/http"
	"regexp"
	"strings"
	"testing"
)

func withPage(o *Options) {
	o.State = func(context.Context) any { return map[string]string{"hello": "page"} }
}

func TestPage(t *testing.T) {
	h := open(t, withPage)
	for path, kind := range map[string]string{"/": "text/html", "/page.js": "text/javascript", "/page.css": "text/css"} {
		resp, text := h.do(http.MethodGet, path, "", "Accept", "text/html,*/*")
		if resp.StatusCode != http.StatusOK || !strings.HasPrefix(resp.Header.Get("Content-Type"), kind) || text == "" {
			t.Errorf("%s: %d %s", path, resp.StatusCode, resp.Header.Get("Content-Type"))
		}
		policy := resp.Header.Get("Content-Security-Policy")
		if !strings.Contains(policy, "default-src 'none'") || !strings.Contains(policy, "frame-ancestors 'none'") || strings.Contains(policy, "unsafe") {
			t.Errorf("%s: policy %q", path, policy)
		}
		// Nothing is loaded from elsewhere; the one name that stands there is that of SVG.
		if found := regexp.MustCompile(`(?:https?:)?//[a-z0-9.-]+\.[a-z]+`).FindAllString(text, -1); len(found) > 0 && (path != "/page.js" || strings.ReplaceAll(strings.Join(found, ""), "http://www.w3.org", "") != "") {
			t.Errorf("%s names %q", path, found)
		}
	}
	if _, text := h.do(http.MethodGet, "/", ""); text != "edged is running\n" {
		t.Errorf("without text/html: %q", text)
	}
	if _, text := h.do(http.MethodGet, "/edged/node", ""); text != `{"hello":"page"}` {
		t.Errorf("%q", text)
	}
}

// TestPageHolds proves that every element that the script asks for is there, and that the page has no script or style in
// its HTML, which its policy would not let run.
func TestPageHolds(t *testing.T) {
	read := func(name string) string {
		data, err := page.ReadFile("page/" + name)
		if err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	html, script := read("index.html"), read("page.js")
	for _, m := range regexp.MustCompile(`\$\('([a-z-]+)'\)`).FindAllStringSubmatch(script, -1) {
		if !strings.Contains(html, `id="`+m[1]+`"`) {
			t.Errorf("the page has no %s", m[1])
		}
	}
	if m := regexp.MustCompile(`<style|<script>| on[a-z]+="| style="`).FindString(html); m != "" {
		t.Errorf("the page has %q in its HTML", m)
	}
	for _, m := range regexp.MustCompile(`innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(`).FindAllString(script, -1) {
		t.Errorf("the script uses %s", m)
	}
}

func TestPageLocked(t *testing.T) {
	h := open(t, func(o *Options) {
		withPage(o)
		o.Config.TokenFile = write(t, "secret-of-tests")
	})
	for path, status := range map[string]int{"/": 200, "/page.js": 200, "/edged/node": 401} {
		if resp, _ := h.do(http.MethodGet, path, "", "Accept", "text/html"); resp.StatusCode != status {
			t.Errorf("%s: %d, want %d", path, resp.StatusCode, status)
		}
	}
}

func TestNoPage(t *testing.T) {
	h := open(t, func(o *Options) {
		withPage(o)
		o.Config.Page = false
	})
	for path, status := range map[string]int{"/": 200, "/page.js": 404, "/edged/node": 404} {
		resp, text := h.do(http.MethodGet, path, "", "Accept", "text/html")
		if resp.StatusCode != status || strings.Contains(text, "<html") {
			t.Errorf("%s: %d %s", path, resp.StatusCode, text)
		}
	}
}
