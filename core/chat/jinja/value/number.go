package value

import (
	"math"
	"math/big"
	"math/bits"
	"slices"
	"strconv"
	"strings"
)

const (
	// MaxDigits is how many digits Python reads or prints of a number.
	MaxDigits = 4300
	// maxBits bounds whole numbers: 2**131072 has 39,457 digits, which Python would not print.
	maxBits = 1 << 17
)

// FromBig is a whole number in the form that it always has: int64 where it fits.
func FromBig(i *big.Int) Value {
	if i.IsInt64() {
		return i.Int64()
	}
	return i
}

// IsNumber says whether a value is an int, a float or a bool.
func IsNumber(v Value) bool {
	switch v.(type) {
	case bool, int64, float64, *big.Int:
		return true
	}
	return false
}

// Int is a value as a Python int (a bool is one), with ok false for others.
func Int(v Value) (i int64, b *big.Int, ok bool) {
	switch t := v.(type) {
	case bool:
		return int64(BoolInt(t)), nil, true
	case int64:
		return t, nil, true
	case *big.Int:
		return 0, t, true
	}
	return 0, nil, false
}

// Big is the whole number that Int gave in its two forms.
func Big(i int64, b *big.Int) *big.Int {
	if b != nil {
		return b
	}
	return big.NewInt(i)
}

// Index is a whole number that fits, clipped where it does not, as slices take it.
func Index(v Value) (int64, bool) {
	i, b, ok := Int(v)
	if b != nil {
		if b.Sign() < 0 {
			return math.MinInt64, true
		}
		return math.MaxInt64, true
	}
	return i, ok
}

// Float is a number as a float. A whole number that is too large for one ends the rendering.
func (ev *Evaluation) Float(v Value) float64 {
	switch t := v.(type) {
	case float64:
		return t
	case *big.Int:
		f, _ := new(big.Float).SetInt(t).Float64()
		if math.IsInf(f, 0) {
			ev.Fail("OverflowError", "int too large to convert to float")
		}
		return f
	}
	i, _, _ := Int(v)
	return float64(i)
}

// CompareNumbers compares exactly, also a float with an int.
func CompareNumbers(a, b Value) int {
	x, xf := a.(float64)
	y, yf := b.(float64)
	switch {
	case xf && yf:
		switch {
		case x < y:
			return -1
		case x > y:
			return 1
		case x == y:
			return 0
		}
		return unordered
	case xf:
		c := CompareNumbers(b, a)
		if c == unordered {
			return c
		}
		return -c
	case yf:
		switch {
		case math.IsNaN(y):
			return unordered
		case math.IsInf(y, 1):
			return -1
		case math.IsInf(y, -1):
			return 1
		}
		i, big1, _ := Int(a)
		return new(big.Float).SetInt(Big(i, big1)).Cmp(big.NewFloat(y))
	}
	i, bi, _ := Int(a)
	j, bj, _ := Int(b)
	if bi == nil && bj == nil {
		switch {
		case i < j:
			return -1
		case i > j:
			return 1
		}
		return 0
	}
	return Big(i, bi).Cmp(Big(j, bj))
}

// Arithmetic computes a op b for numbers.
func (ev *Evaluation) Arithmetic(op string, a, b Value) Value {
	_, af := a.(float64)
	_, bf := b.(float64)
	if af || bf {
		return ev.FloatArithmetic(op, ev.Float(a), ev.Float(b))
	}
	i, bi, _ := Int(a)
	j, bj, _ := Int(b)
	if bi == nil && bj == nil {
		if v, ok := ev.ints(op, i, j); ok {
			return v
		}
	}
	return ev.bigs(op, Big(i, bi), Big(j, bj))
}

// ints computes where nothing overflows.
func (ev *Evaluation) ints(op string, i, j int64) (Value, bool) {
	switch op {
	case "+":
		s := i + j
		return s, (s > i) == (j > 0)
	case "-":
		s := i - j
		return s, (s < i) == (j > 0)
	case "*":
		hi, lo := bits.Mul64(magnitude(i), magnitude(j))
		return i * j, hi == 0 && lo < 1<<63
	case "//", "%":
		if j == 0 {
			ev.Fail("ZeroDivisionError", "integer division or modulo by zero")
		}
		if i == math.MinInt64 && j == -1 {
			return nil, false
		}
		q, r := i/j, i%j
		if r != 0 && (r < 0) != (j < 0) {
			q--
			r += j
		}
		if op == "//" {
			return q, true
		}
		return r, true
	case "/":
		if j == 0 {
			ev.Fail("ZeroDivisionError", "division by zero")
		}
		if magnitude(i) < 1<<53 && magnitude(j) < 1<<53 {
			return float64(i) / float64(j), true
		}
	}
	return nil, false
}

func magnitude(i int64) uint64 {
	if i < 0 {
		return -uint64(i)
	}
	return uint64(i)
}

// bigRoom counts a big number of so many bits before it is made.
func (ev *Evaluation) bigRoom(n int) {
	if n > maxBits {
		ev.Stop("a whole number of more than %d bits", maxBits)
	}
	ev.Alloc(int64(n/8) + 64)
	ev.Work(n/64 + n/64*(n/64)/256)
}

func (ev *Evaluation) bigs(op string, a, b *big.Int) Value {
	out := new(big.Int)
	switch op {
	case "+":
		ev.bigRoom(max(a.BitLen(), b.BitLen()) + 1)
		return FromBig(out.Add(a, b))
	case "-":
		ev.bigRoom(max(a.BitLen(), b.BitLen()) + 1)
		return FromBig(out.Sub(a, b))
	case "*":
		ev.bigRoom(a.BitLen() + b.BitLen())
		return FromBig(out.Mul(a, b))
	case "//", "%":
		if b.Sign() == 0 {
			ev.Fail("ZeroDivisionError", "integer division or modulo by zero")
		}
		ev.bigRoom(a.BitLen() + b.BitLen())
		q, r := out.QuoRem(a, b, new(big.Int))
		if r.Sign() != 0 && (r.Sign() < 0) != (b.Sign() < 0) {
			q.Sub(q, big.NewInt(1))
			r.Add(r, b)
		}
		if op == "//" {
			return FromBig(q)
		}
		return FromBig(r)
	case "/":
		if b.Sign() == 0 {
			ev.Fail("ZeroDivisionError", "division by zero")
		}
		ev.bigRoom(a.BitLen() + b.BitLen())
		f, _ := new(big.Rat).SetFrac(a, b).Float64()
		if math.IsInf(f, 0) {
			ev.Fail("OverflowError", "integer division result too large for a float")
		}
		return f
	}
	return ev.bigPower(a, b)
}

func (ev *Evaluation) bigPower(a, b *big.Int) Value {
	if b.Sign() < 0 {
		return ev.FloatArithmetic("**", ev.Float(FromBig(a)), ev.Float(FromBig(b)))
	}
	switch {
	case b.Sign() == 0 || a.IsInt64() && a.Int64() == 1:
		return int64(1)
	case a.Sign() == 0:
		return int64(0)
	case a.IsInt64() && a.Int64() == -1:
		return 1 - 2*int64(b.Bit(0))
	case !b.IsInt64() || b.Int64() > maxBits || (int64(a.BitLen())-1)*b.Int64() > maxBits:
		ev.Stop("a whole number of more than %d bits", maxBits)
	}
	n := a.BitLen() * int(b.Int64())
	ev.bigRoom(min(n, maxBits))
	return FromBig(new(big.Int).Exp(a, b, nil))
}

// FloatArithmetic computes x op y.
func (ev *Evaluation) FloatArithmetic(op string, x, y float64) Value {
	switch op {
	case "+":
		return x + y
	case "-":
		return x - y
	case "*":
		return x * y
	case "/":
		if y == 0 {
			ev.Fail("ZeroDivisionError", "float division by zero")
		}
		return x / y
	case "//", "%":
		if y == 0 {
			ev.Fail("ZeroDivisionError", "float floor division by zero")
		}
		q, r := floorMod(x, y)
		if op == "//" {
			return q
		}
		return r
	}
	switch {
	case x == 0 && y < 0:
		ev.Fail("ZeroDivisionError", "0.0 cannot be raised to a negative power")
	case x < 0 && y != math.Trunc(y) && !math.IsInf(x, 0) && !math.IsInf(y, 0) && !math.IsNaN(y):
		ev.Fail("TypeError", "a negative number to a broken power is complex, which is not known here")
	}
	p := power(x, y)
	if math.IsInf(p, 0) && !math.IsInf(x, 0) && !math.IsInf(y, 0) {
		ev.Fail("OverflowError", "(34, 'Numerical result out of range')")
	}
	return p
}

// power is x to y. Python's C library rounds once; Go's Pow is off by some of the last bits, so whole powers
// are computed with more digits.
func power(x, y float64) float64 {
	n := math.Abs(y)
	if n != math.Trunc(n) || n > 1024 || n < 2 || math.IsNaN(x) || math.IsInf(x, 0) || x == 0 {
		return math.Pow(x, y)
	}
	const digits = 400
	out, base := big.NewFloat(1).SetPrec(digits), big.NewFloat(x).SetPrec(digits)
	for k := uint64(n); k > 0; k >>= 1 {
		if k&1 == 1 {
			out.Mul(out, base)
		}
		base.Mul(base, base)
	}
	if y < 0 {
		out.Quo(big.NewFloat(1).SetPrec(digits), out)
	}
	f, _ := out.Float64()
	return f
}

// floorMod is Python's divmod for floats.
func floorMod(x, y float64) (q, r float64) {
	r = math.Mod(x, y)
	q = (x - r) / y
	if r != 0 {
		if (y < 0) != (r < 0) {
			r += y
			q--
		}
	} else {
		r = math.Copysign(0, y)
	}
	if q == 0 {
		return math.Copysign(0, x/y), r
	}
	f := math.Floor(q)
	if q-f > 0.5 {
		f++
	}
	return f, r
}

// FormatFloat is Python's repr of a float: the shortest digits that read back, with an exponent below 1e-4
// and from 1e16.
func FormatFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if a := math.Abs(f); a != 0 && (a < 1e-4 || a >= 1e16) {
		return strconv.FormatFloat(f, 'e', -1, 64)
	}
	s := strconv.FormatFloat(f, 'f', -1, 64)
	if !strings.Contains(s, ".") {
		s += ".0"
	}
	return s
}

// FormatInt writes a whole number, if it has no more digits than Python prints.
func (ev *Evaluation) FormatInt(v Value) string {
	i, b, _ := Int(v)
	if b == nil {
		return strconv.FormatInt(i, 10)
	}
	if b.BitLen() > MaxDigits*10/3+4 {
		ev.tooManyDigits()
	}
	ev.Work(b.BitLen())
	ev.Alloc(int64(b.BitLen()))
	s := b.String()
	if len(strings.TrimPrefix(s, "-")) > MaxDigits {
		ev.tooManyDigits()
	}
	return s
}

func (ev *Evaluation) tooManyDigits() {
	ev.Fail("ValueError", "Exceeds the limit (%d digits) for integer string conversion", MaxDigits)
}

// ParseInt is Python's int(text, base).
func ParseInt(s string, base int) (Value, bool) {
	s = strings.TrimFunc(s, IsSpace)
	sign := ""
	if s != "" && (s[0] == '-' || s[0] == '+') {
		if s[0] == '-' {
			sign = "-"
		}
		s = s[1:]
	}
	if len(s) > 1 && s[0] == '0' {
		of := map[byte]int{'b': 2, 'o': 8, 'x': 16}[s[1]|0x20]
		if of != 0 && (base == 0 || base == of) && len(s) > 2 {
			s = strings.TrimPrefix(s[2:], "_")
			base = of
		} else if base == 0 && strings.Trim(s, "0_") != "" {
			return nil, false
		}
	}
	if base == 0 {
		base = 10
	}
	if s == "" || s[0] == '_' || s[len(s)-1] == '_' || strings.Contains(s, "__") {
		return nil, false
	}
	s = asciiDigits(strings.ReplaceAll(s, "_", ""))
	if len(s) > MaxDigits && base&(base-1) != 0 || len(s) > maxBits {
		return nil, false
	}
	for _, c := range []byte(s) {
		if DigitValue(c) >= base {
			return nil, false
		}
	}
	i, ok := new(big.Int).SetString(sign+s, base)
	if !ok {
		return nil, false
	}
	return FromBig(i), true
}

// ParseFloat is Python's float(text).
func ParseFloat(s string) (float64, bool) {
	s = strings.TrimFunc(s, IsSpace)
	bare := strings.ToLower(strings.TrimLeft(s, "+-"))
	if len(s)-len(bare) > 1 {
		return 0, false
	}
	switch bare {
	case "inf", "infinity":
		if s[0] == '-' {
			return math.Inf(-1), true
		}
		return math.Inf(1), true
	case "nan":
		return math.NaN(), true
	}
	if len(s) > 1<<16 || bare == "" || strings.ContainsAny(bare, "xpni") || strings.HasPrefix(bare, "_") || strings.HasSuffix(bare, "_") ||
		strings.Contains(
			bare,
			"__",
		) || strings.Contains(bare, "_.") || strings.Contains(bare, "._") || strings.Contains(bare, "_e") || strings.Contains(bare, "e_") {
		return 0, false
	}
	f, err := strconv.ParseFloat(asciiDigits(strings.ReplaceAll(s, "_", "")), 64)
	if err != nil && !math.IsInf(f, 0) && f != 0 {
		return 0, false
	}
	if err != nil && !strings.Contains(err.Error(), "range") {
		return 0, false
	}
	return f, true
}

// AllocProduct counts a * b bytes, which may not fit a number.
func (ev *Evaluation) AllocProduct(a, b int64) {
	if a > 0 && b > ev.maxBytes/a {
		ev.Alloc(ev.maxBytes + 1)
	}
	ev.Alloc(a * b)
	ev.Work(int(a * b / 256))
}

// Repeat is s * n.
func (ev *Evaluation) Repeat(s string, n int64) string {
	if n <= 0 || s == "" {
		return ""
	}
	ev.AllocProduct(int64(len(s)), n)
	return strings.Repeat(s, int(n))
}

// RepeatItems is items * n.
func (ev *Evaluation) RepeatItems(items []Value, n int64) []Value {
	if len(items) == 0 || n <= 0 {
		return nil
	}
	ev.AllocProduct(SizeValue*int64(len(items)), n)
	return slices.Repeat(items, int(n))
}
