// Command fleetsim simulates groups of nodes in simulated time, prints what a request costs them as a table
// in Markdown, and draws how long the work of dead nodes waited:
//
//	go run ./tools/fleetsim -o docs/images/fleet.svg
//
// Two runs with the same flags give the same bytes.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"edged/core/serve/door/mqtt/group/groupsim"
)

func main() {
	out := flag.String("o", "", "file of the plot; none: it is not drawn")
	sizes := flag.String("nodes", "3,5,10,100,1000", "sizes of the groups")
	requests := flag.Int("requests", 100_000, "of each group")
	kills := flag.Int("kills", 100, "nodes that die in each")
	flag.Parse()
	fmt.Println("| nodes | requests | deaths | entries a request | deliveries a request | retained bytes | taken over: median | longest |")
	fmt.Println("|---|---|---|---|---|---|---|---|")
	var last groupsim.Counts
	for text := range strings.SplitSeq(*sizes, ",") {
		var nodes int
		if _, err := fmt.Sscan(text, &nodes); err != nil {
			fmt.Fprintln(os.Stderr, "fleetsim:", err)
			os.Exit(2)
		}
		last = simulate(nodes, *requests, *kills)
	}
	if *out == "" {
		return
	}
	if err := os.WriteFile(*out, []byte(plot(last.Takeovers)), 0o600); err != nil {
		fmt.Fprintln(os.Stderr, "fleetsim:", err)
		os.Exit(1)
	}
}

// simulate runs a group whose nodes are busy for half of their time, while one after another dies and comes
// back after 20 s.
func simulate(nodes, requests, kills int) groupsim.Counts {
	s := groupsim.Settings{
		Nodes: nodes, Seed: 1, Takeover: 10 * time.Second, Desk: 5, Running: 2, Queue: 64, Compute: 4 * time.Second, Sessions: true,
	}
	n := groupsim.New(s)
	for i, x := range n.Nodes() {
		n.After(time.Duration(i)*10*time.Millisecond, x.Start)
	}
	n.Run(time.Minute)
	n.Counts = groupsim.Counts{}
	every := s.Compute / time.Duration(nodes) // of 2 × nodes places, half
	length := every * time.Duration(requests)
	for i := range requests {
		n.After(every*time.Duration(i), func() { n.Ask(fmt.Sprintf("c%d", i%50), fmt.Sprintf("r%d", i), "x") })
	}
	for i := range kills {
		x := n.Nodes()[n.Rand().IntN(nodes)]
		n.After(length*time.Duration(i)/time.Duration(kills), func() {
			x.Kill()
			n.After(20*time.Second, x.Start)
		})
	}
	n.Run(n.Now() + length + 2*time.Minute)
	c := n.Counts
	if len(n.Answers) != requests {
		fmt.Fprintf(os.Stderr, "fleetsim: %d of %d requests were answered\n", len(n.Answers), requests)
		os.Exit(1)
	}
	retained := 0
	for _, m := range n.Kept() {
		data, _ := json.Marshal(m) // texts and numbers
		retained += len(data)
	}
	slices.Sort(c.Takeovers)
	median, longest := "–", "–"
	if len(c.Takeovers) > 0 {
		median = seconds(c.Takeovers[len(c.Takeovers)/2])
		longest = seconds(c.Takeovers[len(c.Takeovers)-1])
	}
	fmt.Printf("| %d | %d | %d | %.2f | %.2f | %d | %s | %s |\n", nodes, requests, kills, float64(c.Writes+c.Sends)/float64(requests),
		float64(c.Deliveries)/float64(requests), retained, median, longest)
	return c
}

func seconds(d time.Duration) string { return fmt.Sprintf("%.1f s", d.Seconds()) }

// plot draws how many requests of dead nodes were answered within a time from the death.
func plot(times []time.Duration) string {
	const width, height, left, bottom, most = 640, 300, 60, 40, 20.0
	slices.Sort(times)
	x := func(t float64) float64 { return left + min(t, most)/most*(width-left-20) }
	y := func(share float64) float64 { return height - bottom - share*(height-bottom-20) }
	var b strings.Builder
	fmt.Fprintf(
		&b,
		`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n",
		width,
		height,
	)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	for _, share := range []float64{0, 0.25, 0.5, 0.75, 1} {
		fmt.Fprintf(&b, `<path d="M%d %.1fH%d" stroke="#ddd"/><text x="%d" y="%.1f" text-anchor="end">%.0f %%</text>`+"\n",
			left, y(share), width-20, left-6, y(share)+4, share*100)
	}
	for t := 0.0; t <= most; t += 2 {
		fmt.Fprintf(&b, `<text x="%.1f" y="%d" text-anchor="middle">%.0f</text>`+"\n", x(t), height-bottom+18, t)
	}
	fmt.Fprintf(
		&b,
		`<text x="%d" y="%d" text-anchor="middle">seconds from the death of a node to the answer of what it had, computing included</text>`+"\n",
		(left+width-20)/2,
		height-6,
	)
	fmt.Fprintf(&b, `<path fill="none" stroke="#06c" stroke-width="2" d="M%.1f %.1f`, x(0), y(0))
	for i, t := range times {
		fmt.Fprintf(&b, "H%.1fV%.1f", x(t.Seconds()), y(float64(i+1)/float64(len(times))))
	}
	b.WriteString(`"/>` + "\n</svg>\n")
	return b.String()
}
