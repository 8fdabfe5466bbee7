package transformer

import (
	"slices"
	"testing"

	"edged/quant/kernel"
)

// TestKeptPages: a page outlives its sequence, gives another one the same bits, is never written to by it, and comes back.
func TestKeptPages(t *testing.T) {
	m := newMemory("llama", tiny("llama")).open(t, Options{Context: 128, KVPages: 12})
	ids := randomIDs(100, 70, 1)
	want := func(ids ...int32) []float32 {
		s := m.NewSeq()
		defer s.Free()
		return feed(t, m, s, ids...)
	}
	pages := func(free, idle int) {
		t.Helper()
		if m.Cache().FreePages() != free || m.Cache().IdlePages() != idle {
			t.Fatalf("%d free, %d idle, want %d and %d", m.Cache().FreePages(), m.Cache().IdlePages(), free, idle)
		}
	}
	a := m.NewSeq()
	feed(t, m, a, ids[:70]...)
	first, second := a.Page(0), a.Page(1)
	m.Cache().Keep(first)
	m.Cache().Keep(second)
	pages(9, 0)
	a.Free()
	pages(10, 2)
	if !m.Cache().Idle(first) || m.Cache().Idle(first+7) {
		t.Error("Idle is wrong")
	}

	b := m.NewSeq()
	b.Adopt(first)
	b.Adopt(second)
	pages(10, 0)
	if b.Len() != 64 || b.Need(1) != 1 || m.Cache().Idle(first) {
		t.Errorf("length %d, needs %d", b.Len(), b.Need(1))
	}
	c := b.Fork()
	if !slices.Equal(feed(t, m, b, ids[64:80]...), want(ids[:80]...)) {
		t.Error("other logits behind adopted pages")
	}
	// Back into a kept page: it is copied, not written to.
	c.Truncate(40)
	if c.Need(1) != 1 {
		t.Errorf("needs %d", c.Need(1))
	}
	if !slices.Equal(feed(t, m, c, ids[80:90]...), want(slices.Concat(ids[:40], ids[80:90])...)) {
		t.Error("other logits behind a part of a kept page")
	}
	c.Free()
	b.Free()
	pages(10, 2)

	// The beginning of a kept page is copied.
	e := m.NewSeq()
	e.Copy(first, 20)
	pages(9, 2)
	if e.Len() != 20 || e.Page(0) == first || !slices.Equal(feed(t, m, e, ids[20:40]...), want(ids[:40]...)) {
		t.Error("other logits behind a copy")
	}
	e.Free()

	// A page of equal content takes the place of another.
	d := m.NewSeq()
	feed(t, m, d, ids[:66]...)
	pages(7, 2)
	d.Swap(0, first)
	pages(8, 1)
	d.Swap(1, second)
	pages(9, 0)
	d.Swap(1, second) // itself
	pages(9, 0)
	if !slices.Equal(feed(t, m, d, ids[66:70]...), want(ids[:70]...)) {
		t.Error("other logits behind swapped pages")
	}
	m.Cache().Forget(first) // d still holds it
	pages(9, 0)
	d.Free()
	pages(11, 1)
	m.Cache().Forget(second)
	pages(12, 0)
}

// TestPagesAsBytes: a page that was read from one model and written to another of the same weights gives the same bits.
func TestPagesAsBytes(t *testing.T) {
	for _, kv := range []kernel.KVType{kernel.KVF16, kernel.KVF32} {
		memory := newMemory("llama", tiny("llama"))
		from, to := memory.open(t, Options{Context: 128, KVPages: 12, KV: kv}), memory.open(t, Options{Context: 128, KVPages: 7, KV: kv})
		ids := randomIDs(100, 70, 1)
		a := from.NewSeq()
		want := slices.Clone(feed(t, from, a, ids...))
		other := to.NewSeq() // so that the pages get other numbers
		feed(t, to, other, ids[:3]...)

		buf := make([]byte, from.Cache().PageBytes())
		b := to.NewSeq()
		for i := range 2 {
			from.Cache().ReadPage(a.Page(i), buf)
			page := to.Cache().Take()
			to.Cache().WritePage(page, buf)
			again := make([]byte, to.Cache().PageBytes())
			if to.Cache().ReadPage(page, again); !slices.Equal(buf, again) {
				t.Errorf("%v: another page is read than was written", kv)
			}
			to.Cache().Keep(page)
			to.Cache().Drop(page)
			if !to.Cache().Idle(page) {
				t.Errorf("%v: the page is not the cache's alone", kv)
			}
			b.Adopt(page)
		}
		if !slices.Equal(feed(t, to, b, ids[64:]...), want) {
			t.Errorf("%v: other logits behind pages of another model", kv)
		}
		b.Free()
		other.Free()
		if to.Cache().FreePages() != 5 || to.Cache().IdlePages() != 2 {
			t.Errorf("%v: %d pages are free, %d idle", kv, to.Cache().FreePages(), to.Cache().IdlePages())
		}
		a.Free()
	}
}
