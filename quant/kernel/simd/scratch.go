package simd

import (
	"sync/atomic"
	"unsafe"

	"edged/quant/kernel"
)

// Sizes of a panel: 32 rows by 2048 columns of two-part weights are 128 KB, which stay in the second-level cache while
// all tokens pass; one-part weights take half of it.
const (
	panelRows = 32
	panelCols = 2048
	maxLanes  = 16
	minLanes  = 4
)

// maxGroup is the number of query heads for which a page's values are decoded once.
const maxGroup = 16

// maxBnBCols is the widest bitsandbytes matrix that is not left to portable Go.
const maxBnBCols = 32768

// bnbScales is the number of scales that are computed at a time: 16 rows of the widest matrix, or more of others.
const bnbScales = maxLanes * maxBnBCols / 64

// gemmArgs is struct gemm of csrc/args.h.
type gemmArgs struct {
	y     unsafe.Pointer
	ldy   int
	x     unsafe.Pointer
	ldx   int
	ahead unsafe.Pointer
	w     unsafe.Pointer
	s     unsafe.Pointer
	m     unsafe.Pointer
	q     unsafe.Pointer
	d     unsafe.Pointer
	g     unsafe.Pointer
	c     unsafe.Pointer
	tw    int
	nb    int
}

// gemvArgs is struct gemv of csrc/args.h.
type gemvArgs struct {
	y      unsafe.Pointer
	w      unsafe.Pointer
	q      unsafe.Pointer
	d      unsafe.Pointer
	g      unsafe.Pointer
	c      unsafe.Pointer
	h      unsafe.Pointer
	table  unsafe.Pointer
	s      unsafe.Pointer
	stride int
	nb     int
	groups int
	buf    unsafe.Pointer
	own    [7]uintptr // no pointers for the garbage collector: they end up behind the matrix
}

// fewArgs is struct few of csrc/few.c.
type fewArgs struct {
	y      unsafe.Pointer
	ldy    int
	w      unsafe.Pointer
	q      unsafe.Pointer
	d      unsafe.Pointer
	g      unsafe.Pointer
	c      unsafe.Pointer
	h      unsafe.Pointer
	stride int
	tw     int
	nb     int
	groups int
	buf    unsafe.Pointer
	own    [8]uintptr // as in gemvArgs
}

// packArgs is struct pack of csrc/args.h.
type packArgs struct {
	w      unsafe.Pointer
	s      unsafe.Pointer
	m      unsafe.Pointer
	in     unsafe.Pointer
	table  unsafe.Pointer
	scales unsafe.Pointer
	stride int
	nb     int
	buf    unsafe.Pointer
}

// scratch holds the buffers of one call. The arguments of kernels stand here because they are called through
// variables, and the compiler would move them to the heap.
type scratch struct {
	panel   [panelRows * panelCols * 2]byte
	s       [panelRows * panelCols / 32]float32
	m       [panelRows * panelCols / 32]float32
	word    [1]int64
	unit    [2]float32
	floats  [panelRows * panelCols / 2]float32
	weights [maxGroup][kernel.BlockPositions]float32
	table   [32]byte           // v + 128, or h + 128 and l + 128
	code    [maxBnBCols]int8   // bitsandbytes: activations, even columns before odd ones; or tokens turned
	bnb     [bnbScales]float32 // bitsandbytes: scales of 64 columns, turned
	buf     [40 * maxLanes]float32
	panels  [panelRows / minLanes][]byte // what the groups of a panel are read from
	next    [panelRows / minLanes][]byte // of the tiles, what is not prefetched yet, by group
	// Of query heads that are padded to four.
	padQ, padO [4 * kernel.MaxHeadDim]float32
	padM, padL [4]float32
	zeros      [maxLanes]float32
	page       [kernel.BlockPositions * kernel.MaxHeadDim]float32
	gemm       gemmArgs
	gemv       gemvArgs
	few        fewArgs
	pack       packArgs
	dot        dotArgs
	prepare    prepareArgs
	conv       convArgs
	delta      deltaArgs
	scan       scanArgs
	decay      [128]float32 // factors of the rows of a delta rule or a scan
	home       int          // where get looked first
}

// scratchList holds idle scratch: as many as there ever were calls at once. (A sync.Pool would be emptied by
// the garbage collector, and the next call would allocate.)
//
// A goroutine looks first where it put its scratch back, so that two threads do not pass one and the same,
// and the line that holds its address, to and fro: that cost a quarter of a microsecond a call.
type scratchList struct {
	idle [scratchSlots]struct {
		s atomic.Pointer[scratch]
		_ [56]byte
	}
}

const scratchSlots = 64

// home returns the slot at which the search begins: goroutines differ by their stacks, which are at least 2 KB apart.
func home() int {
	var here byte
	at := uintptr(unsafe.Pointer(&here)) >> 11
	return int((at ^ at>>6 ^ at>>12) % scratchSlots)
}

func (l *scratchList) get() *scratch {
	at := home()
	for i := range l.idle {
		slot := &l.idle[(at+i)%scratchSlots].s
		if s := slot.Load(); s != nil && slot.CompareAndSwap(s, nil) {
			s.home = at
			return s
		}
	}
	return &scratch{home: at}
}

func (l *scratchList) put(s *scratch) {
	// Drop the pointers to weights and activations, which must not be kept alive.
	clear(s.panels[:])
	clear(s.next[:])
	s.gemm, s.gemv, s.pack, s.dot, s.prepare = gemmArgs{}, gemvArgs{}, packArgs{}, dotArgs{}, prepareArgs{}
	s.few, s.conv, s.delta, s.scan = fewArgs{}, convArgs{}, deltaArgs{}, scanArgs{}
	for i := range l.idle { // home() may differ here, and get would search for it all round
		slot := &l.idle[(s.home+i)%scratchSlots].s
		if slot.Load() == nil && slot.CompareAndSwap(nil, s) {
			return
		}
	}
}
