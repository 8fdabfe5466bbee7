package kv

// What a prefix cache needs: full pages are named by their number and can be kept beyond the sequence that
// computed them. A kept page has the cache as one more holder, which makes it read-only: a sequence that
// writes into it after a Truncate gets its own copy. Which tokens and adapters a page stands for, only the
// cache knows; that a page computed by one sequence holds the bits that another would compute is a forward
// pass's promise about rows.

// Keep makes the cache a holder of a page that a sequence holds. A page is kept at most once.
func (p *Pool) Keep(page int32) {
	if p.kept[page] || p.refs[page] == 0 {
		panic("kv: Keep: the page is kept already, or nobody holds it")
	}
	p.kept[page] = true
	p.refs[page]++
}

// Forget gives the cache's share of a page back.
func (p *Pool) Forget(page int32) {
	if !p.kept[page] {
		panic("kv: Forget: the page is not kept")
	}
	p.kept[page] = false
	if p.refs[page] == 1 {
		p.idle--
	}
	p.drop(page)
}

// Idle reports whether nobody but the cache holds a page, so that Forget makes it free.
func (p *Pool) Idle(page int32) bool { return p.kept[page] && p.refs[page] == 1 }

// IdlePages is the number of such pages.
func (p *Pool) IdlePages() int { return p.idle }

// PageBytes is the size of a page as ReadPage and WritePage know it.
func (p *Pool) PageBytes() int {
	n := 0
	for i := range p.layers {
		n += p.layers[i].Heads * p.layers[i].Stride
	}
	return n
}

// Take hands out a free page, which belongs to the caller until Drop; there must be one.
func (p *Pool) Take() int32 { return p.take() }

// Drop gives a page of Take back. Where it was kept meanwhile, it stays as the cache's.
func (p *Pool) Drop(page int32) { p.drop(page) }

// ReadPage copies what a full page holds to dst (PageBytes): by layer and head, keys before values, each row-major by
// position, little endian. Equal pages give equal bytes, and those of one machine are those of another.
func (p *Pool) ReadPage(page int32, dst []byte) {
	p.each(page, func(part []byte) { dst = dst[copy(dst, part):] })
}

// WritePage makes a page of Take hold what ReadPage gave. It may run beside a forward pass, which touches no
// page of Take.
func (p *Pool) WritePage(page int32, src []byte) {
	p.each(page, func(part []byte) { src = src[copy(part, src):] })
}

// each calls f for the parts of a page, in the order of the pool.
func (p *Pool) each(page int32, f func([]byte)) {
	for layer := range p.layers {
		n := p.layers[layer].Stride
		for head := range p.layers[layer].Heads {
			k, _ := p.Offsets(layer, head)
			f(p.mem[k+int(page)*n : k+int(page+1)*n])
		}
	}
}
