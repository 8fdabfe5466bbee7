package batch

// KeepWanted moves the rows that want logits to the front, with the first q values of those of buf, ld values
// apart, and forgets the others.
func (s *Batch) KeepWanted(buf []float32, q, ld int) {
	w, n := s.Width, 0
	s.Sub = s.Sub[:0]
	for _, g := range s.Groups {
		lo := n
		for t := g.Lo; t < g.Hi; t++ {
			if s.Rows[t].Logits == nil && s.Rows[t].Sum == nil {
				continue
			}
			if n != t {
				s.Rows[n] = s.Rows[t]
				for _, x := range [][]float32{s.X, s.H, s.D} { // h, d: of a part that runs beside this one
					copy(x[n*w:(n+1)*w], x[t*w:(t+1)*w])
				}
				copy(buf[n*ld:n*ld+q], buf[t*ld:t*ld+q])
				s.moveRow(n, t)
			}
			n++
		}
		if n > lo {
			s.Sub = append(s.Sub, Group{Lo: lo, Hi: n, Uses: g.Uses})
		}
	}
	s.T = n
	s.Rows = s.Rows[:n]
	s.Groups, s.Sub = s.Sub, s.Groups
}

// moveRow puts what the layers behind the last that keeps anything still read of row t in the place of row n:
// angles, and what its token has for every layer.
func (s *Batch) moveRow(n, t int) {
	for i := range s.Ropes {
		c, d := s.Angles(i, t)
		a, b := s.Angles(i, n)
		copy(a, c)
		copy(b, d)
	}
	copy(s.Streams[n*s.All:(n+1)*s.All], s.Streams[t*s.All:(t+1)*s.All])
	copy(s.Token[n*s.PerRow:(n+1)*s.PerRow], s.Token[t*s.PerRow:(t+1)*s.PerRow])
}

// GatherColumns prepares n columns from at on of the rows of x, ld values apart, as the input of the next product.
func (s *Batch) GatherColumns(x []float32, ld, at, n int) {
	for t := range s.T {
		copy(s.GX[t*n:(t+1)*n], x[t*ld+at:t*ld+at+n])
	}
	s.Prepare(s.GX, s.T, n)
}
