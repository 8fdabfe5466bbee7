package main

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// progress is a bar on a terminal's standard error; elsewhere it shows nothing.
type progress struct {
	w     io.Writer
	label string
	began time.Time
	drawn time.Time
}

// barWidth is the number of cells of a bar.
const barWidth = 30

func newProgress(w io.Writer, label string) *progress {
	if !terminal(w) {
		w = nil
	}
	return &progress{w: w, label: label, began: time.Now()}
}

// show draws the bar, at most ten times a second.
func (p *progress) show(done, total int) {
	if p.w == nil || total <= 0 || time.Since(p.drawn) < 100*time.Millisecond && done < total {
		return
	}
	p.drawn = time.Now()
	cells := done * barWidth / total
	left := ""
	if done > 0 && done < total {
		rest := time.Duration(float64(time.Since(p.began)) * float64(total-done) / float64(done))
		left = ", " + rest.Round(time.Second).String() + " left"
	}
	_, _ = fmt.Fprintf(p.w, "\r%s [%s%s] %d/%d%s\x1b[K", p.label, strings.Repeat("#", cells), strings.Repeat(".", barWidth-cells), done, total, left)
}

// end removes the bar.
func (p *progress) end() {
	if p.w != nil {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}
