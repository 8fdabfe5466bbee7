// Command plot draws peers.jsonl: for each file and each set of kernels, how many times llama.cpp's speed
// edged has, by the latest line.
//
//	go run . ../peers.jsonl ../peers.svg
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"image/color"
	"os"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
)

func main() {
	if len(os.Args) != 3 {
		fmt.Fprintln(os.Stderr, "usage: plot PEERS.jsonl OUT.svg")
		os.Exit(2)
	}
	if err := run(os.Args[1], os.Args[2]); err != nil {
		fmt.Fprintln(os.Stderr, "plot:", err)
		os.Exit(1)
	}
}

// comparison is what is drawn of a line.
type comparison struct {
	Time    string `json:"time"`
	Threads int    `json:"threads"`
	Context int    `json:"context"`
	Machine struct {
		CPU string `json:"cpu"`
	} `json:"machine"`
	Model struct {
		File string `json:"file"`
	} `json:"model"`
	Edged struct {
		Kernels string `json:"kernels"`
	} `json:"edged"`
	Peer struct {
		Program string `json:"program"`
	} `json:"peer"`
	Ratio struct {
		Prefill float64 `json:"prefill"`
		Decode  float64 `json:"decode"`
	} `json:"ratio"`
}

func (c *comparison) label() string {
	return fmt.Sprintf("%s\n%s, %d threads", strings.TrimSuffix(c.Model.File, ".gguf"), c.Edged.Kernels, c.Threads)
}

func run(from, to string) error {
	all, err := read(from)
	if err != nil {
		return err
	}
	p := plot.New()
	p.Title.Text = "edged's speed in llama.cpp's, same file, in turns\n" + all[len(all)-1].Machine.CPU
	p.Y.Label.Text = "times the peer's tokens/s"
	p.Y.Min = 0
	p.Legend.Top = true
	width := vg.Points(16)
	var prefill, decode plotter.Values
	var labels []string
	for _, c := range all {
		prefill, decode, labels = append(prefill, c.Ratio.Prefill), append(decode, c.Ratio.Decode), append(labels, c.label())
	}
	for i, series := range []struct {
		name   string
		values plotter.Values
		colour color.Color
	}{{"prefill", prefill, color.RGBA{R: 0x33, G: 0x66, B: 0x99, A: 0xff}}, {"decode", decode, color.RGBA{R: 0xdd, G: 0x88, B: 0x33, A: 0xff}}} {
		bars, err := plotter.NewBarChart(series.values, width)
		if err != nil {
			return err
		}
		bars.Color, bars.LineStyle.Width, bars.Offset = series.colour, 0, width*vg.Length(2*i-1)/2
		p.Add(bars)
		p.Legend.Add(series.name, bars)
	}
	one := plotter.NewFunction(func(float64) float64 { return 1 })
	one.Dashes = []vg.Length{vg.Points(4), vg.Points(4)}
	p.Add(one)
	p.NominalX(labels...)
	return p.Save(vg.Points(float64(110*len(all)+120)), 10*vg.Centimeter, to)
}

// read returns the latest comparison of each model, set of kernels, number of threads and processor.
func read(path string) ([]comparison, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	latest := map[string]comparison{}
	s := bufio.NewScanner(f)
	s.Buffer(nil, 1<<20)
	for n := 1; s.Scan(); n++ {
		var c comparison
		if err := json.Unmarshal(s.Bytes(), &c); err != nil {
			return nil, fmt.Errorf("%s:%d: %w", path, n, err)
		}
		latest[c.label()+c.Machine.CPU+fmt.Sprint(c.Context)] = c
	}
	if err := s.Err(); err != nil {
		return nil, err
	}
	if len(latest) == 0 {
		return nil, fmt.Errorf("%s: it holds no lines", path)
	}
	var out []comparison
	for _, c := range latest {
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b comparison) int { return cmp.Compare(a.label(), b.label()) })
	return out, nil
}
