package transformer

import "edged/quant/kernel"

// What a prefix cache needs: full pages are named by their number and can be kept beyond the sequence that computed them.
// A kept page has the cache as one more holder, which makes it read-only: a sequence that writes into it after a Truncate
// gets its own copy. Which tokens and adapters a page stands for, only the cache knows; that a page computed by one
// sequence holds the bits that another would compute is the package's promise about rows.

// Page is the number of page i of s, 0 ≤ i < Pages.
func (s *Seq) Page(i int) int32 { return s.pages[i] }

// Need is the number of free pages that n more positions of s take.
func (s *Seq) Need(n int) int { return s.need(n) }

// Adopt appends a kept page to s, whose length must be a multiple of kernel.BlockPositions, and with it that many
// positions. It takes no free page.
func (s *Seq) Adopt(page int32) {
	kv := s.m.kv
	if s.n%kernel.BlockPositions != 0 || !kv.kept[page] || s.n+kernel.BlockPositions > s.m.opt.Context {
		panic("transformer: Adopt: the page is not kept, or the sequence has no place for it")
	}
	kv.share(page)
	s.pages = append(s.pages, page)
	s.n += kernel.BlockPositions
}

// Copy appends the first n positions of a kept page to s, 0 < n < kernel.BlockPositions, whose length must be a multiple of
// kernel.BlockPositions. It takes a free page, of which there must be one: what s would take for these positions anyway.
func (s *Seq) Copy(page int32, n int) {
	kv := s.m.kv
	if s.n%kernel.BlockPositions != 0 || !kv.kept[page] || n < 1 || n >= kernel.BlockPositions || s.n+n > s.m.opt.Context {
		panic("transformer: Copy: the page is not kept, or the sequence has no place for that much of it")
	}
	own := kv.take()
	kv.copy(own, page)
	s.pages = append(s.pages, own)
	s.n += n
}

// Swap puts a kept page of equal content in the place of page i, which must be full, so that both need memory once.
func (s *Seq) Swap(i int, page int32) {
	kv := s.m.kv
	if (i+1)*kernel.BlockPositions > s.n || !kv.kept[page] {
		panic("transformer: Swap: the page is not kept, or the one in its place is not full")
	}
	kv.share(page) // first: it may be the same one
	kv.drop(s.pages[i])
	s.pages[i] = page
}

// Keep makes the cache a holder of a page that a sequence holds. A page is kept at most once.
func (m *Model) Keep(page int32) {
	kv := m.kv
	if kv.kept[page] || kv.refs[page] == 0 {
		panic("transformer: Keep: the page is kept already, or nobody holds it")
	}
	kv.kept[page] = true
	kv.refs[page]++
}

// Forget gives the cache's share of a page back.
func (m *Model) Forget(page int32) {
	kv := m.kv
	if !kv.kept[page] {
		panic("transformer: Forget: the page is not kept")
	}
	kv.kept[page] = false
	if kv.refs[page] == 1 {
		kv.idle--
	}
	kv.drop(page)
}

// Idle reports whether nobody but the cache holds a page, so that Forget makes it free.
func (m *Model) Idle(page int32) bool { return m.kv.kept[page] && m.kv.refs[page] == 1 }

// IdlePages is the number of such pages.
func (m *Model) IdlePages() int { return m.kv.idle }

// share adds a sequence to the holders of page i.
func (a *arena) share(i int32) {
	if a.kept[i] && a.refs[i] == 1 {
		a.idle--
	}
	a.refs[i]++
}

// PageBytes is the size of a page as ReadPage and WritePage know it.
func (m *Model) PageBytes() int {
	n := 0
	for i := range m.kv.layers {
		n += m.kv.layers[i].heads * m.kv.layers[i].stride
	}
	return n
}

// Take hands out a free page, which belongs to the caller until Drop; there must be one.
func (m *Model) Take() int32 { return m.kv.take() }

// Drop gives a page of Take back. Where it was kept meanwhile, it stays as the cache's.
func (m *Model) Drop(page int32) { m.kv.drop(page) }

// ReadPage copies what a full page holds to dst (PageBytes): by layer and head, keys before values, each row-major by
// position, little endian. Equal pages give equal bytes, and those of one machine are those of another.
func (m *Model) ReadPage(page int32, dst []byte) {
	m.kv.each(page, func(part []byte) { dst = dst[copy(dst, part):] })
}

// WritePage makes a page of Take hold what ReadPage gave. It may run beside Forward, which touches no page of Take.
func (m *Model) WritePage(page int32, src []byte) {
	m.kv.each(page, func(part []byte) { src = src[copy(part, src):] })
}

// each calls f for the parts of a page, in the order of the arena.
func (a *arena) each(page int32, f func([]byte)) {
	for layer := range a.layers {
		n := a.layers[layer].stride
		for head := range a.layers[layer].heads {
			k, _ := a.offsets(layer, head)
			f(a.mem[k+int(page)*n : k+int(page+1)*n])
		}
	}
}
