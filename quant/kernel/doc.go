// Package kernel is the arithmetic of the forward pass: the Kernels interface over row ranges, and its portable
// implementation, which specifies every result bit by bit.
//
// It must not know models, threads or caches. Calls allocate nothing and may run concurrently on disjoint
// outputs. A row's result depends on that row's inputs only: never on how many rows, which range or which
// implementation computed it.
//
// # The specified arithmetic
//
// Every implementation computes exactly what is written here, so that a board answers as the machine it was tested on.
// All values are IEEE 754 binary32 in round-to-nearest-even with subnormals; fma(a, b, c) rounds once; every other
// operation rounds by itself. Only the payload and sign of a NaN are left open.
//
// Sum16, the dot product of float32 vectors: 16 lanes start at +0; lane k mod 16 takes fma(w[k], x[k], lane)
// in order of k; a last group of fewer than 16 is padded with zeros on both sides. The lanes are folded 16 →
// 8 → 4 → 2 → 1 by adding lane i+n/2 to lane i.
//
// MatMul, Exact, and Fast for weights that are floats, IQ1_S or IQ1_M (see Quantised): weights are decoded as
// package quant specifies and Sum16 is taken over the whole row.
//
// MatMul, Fast, for the others works in blocks of 32 columns. An activation block is quantised as follows:
// amax is the largest |x|; where it is infinite or NaN, d = NaN and q = 0; where it is below 2⁻¹⁰⁰, d = 0 and
// q = 0; otherwise d = amax/127, q = x·(127/amax) rounded to the nearest even integer. g = d·Σq. A weight
// block is w[k] = s·v[k] + m with integers v, a float32 scale s, and, in the formats Q4_1, Q5_1, Q2_K, Q4_K
// and Q5_K, an offset m:
//
//	Q8_0 Q4_0 Q5_0 IQ4_NL MXFP4   s = d, v = the stored integer (table value), MXFP4's table doubled and s halved
//	Q4_1 Q5_1                     s = d, m = the stored offset
//	Q4_K Q5_K                     s = d·sc, m = -(dmin·min)
//	IQ4_XS                        s = d·(sc-32)
//	Q6_K Q3_K                     s = d, v = sc·q, sc of its 16 columns, q signed
//	Q2_K                          s = d, v = sc·q, and an offset m = -(dmin·min) for each half of the block
//	IQ2_XXS … Q8_K                s and v of quant.Integers
//	Group2 Group4 Group8          s and v of quant.GroupBlock, and an offset where zeros are no integers
//	NF4 FP4                       c = max |code|; s = absmax·(c/16256), v = round(code·16256/c)
//
// All of these products but the last are exact. From acc = +0, blocks in order: acc = fma(Σ v·q, s·d, acc),
// where the integer sum is exact and rounded once to float32; then acc = fma(m, g, acc) where there is an
// offset, in Q2_K once for each half with that half's g. NVFP4 and groups of 16 have a scale for each half of
// a block: acc = fma(Σ v·q, s·d, acc) is done for columns 0…15 and then for 16…31.
//
// The 16256 = 127·128 of the bitsandbytes formats lets an implementation use two int8 tables, v = 128·h + l. One int8
// table (v = round(127·code)) costs half of the multiplications, but moves the weights by 0.4 % RMS, 15 times what two
// tables do together with all other roundings on the way.
//
// Exp: below -87 it is 0, above 88 it is +Inf, NaN stays NaN. Otherwise z = fma(x, log2 e, 3·2²²), n = z - 3·2²²,
// r = fma(n, -ln2hi, x), r = fma(n, -ln2lo, r), a polynomial of degree 5 in r by Horner's rule with fma, then
// fma(p, r·r, r) + 1 scaled by 2ⁿ. The constants are in exp.go (Cephes' expf). Its error is below 1.5 units in the last
// place.
//
// Attend: a page's scores are Sum16 of the query and the (exactly decoded) key; the maximum M is raised to the page's
// largest score first, and where it rises, L and O are multiplied by Exp(old M - M); p = Exp(score - M), invisible
// positions count as +0; L takes the fold of the 16 lanes p[i] + p[i+16]; O[j] = fma(p, v[j], O[j]) in order of
// positions. Caps, slopes and biases change the scores of a page before its largest is looked for, in this order (see
// AttendArgs and its method adjust); a sink enters when the output is made (FinishSinks).
//
// Func says what each activation is; Softmax, L2Norm and the others are specified where they are defined.
package kernel
