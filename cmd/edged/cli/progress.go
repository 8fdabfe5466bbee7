package cli

import (
	"fmt"
	"io"
	"strings"
	"time"
)

// Progress is a bar on a terminal's standard error; elsewhere it shows nothing.
type Progress struct {
	w     io.Writer
	label string
	began time.Time
	drawn time.Time
}

// BarWidth is the number of cells of a bar.
const BarWidth = 30

// NewProgress returns a bar that is drawn when there is something to show. label stands before it.
func NewProgress(w io.Writer, label string) *Progress {
	if !Terminal(w) {
		w = nil
	}
	return &Progress{w: w, label: label, began: time.Now()}
}

// Show draws the bar, at most ten times a second.
func (p *Progress) Show(done, total int) {
	if p.w == nil || total <= 0 || time.Since(p.drawn) < 100*time.Millisecond && done < total {
		return
	}
	p.drawn = time.Now()
	cells := done * BarWidth / total
	left := ""
	if done > 0 && done < total {
		rest := time.Duration(float64(time.Since(p.began)) * float64(total-done) / float64(done))
		left = ", " + rest.Round(time.Second).String() + " left"
	}
	_, _ = fmt.Fprintf(
		p.w,
		"\r%s [%s%s] %d/%d%s\x1b[K",
		p.label,
		strings.Repeat("#", cells),
		strings.Repeat(".", BarWidth-cells),
		done,
		total,
		left,
	)
}

// End removes the bar.
func (p *Progress) End() {
	if p.w != nil {
		_, _ = fmt.Fprint(p.w, "\r\x1b[K")
	}
}
