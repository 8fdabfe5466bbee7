package kinds

import (
	"math"

	"edged/core/model/arch"
)

// road rotates and scales pairs of a layer's outputs (Azizi et al. 2024, RoAd): in each group of group_size
// outputs one of the first half with one of the second. A row of the change is made of two rows of the
// matrix, and of its bias likewise.
func (r *Reader) road(module string) (*Change, error) {
	theta, s, err := r.tensor(module, "road_theta", 1)
	if err != nil {
		return nil, err
	}
	alpha, n, err := r.tensor(module, "road_alpha", 1)
	if err != nil {
		return nil, err
	}
	group, per := r.o.GroupSize, map[string]float64{"road_1": 0.5, "road_2": 1, "road_4": 2}[r.o.Variant]
	switch {
	case per == 0:
		return nil, r.fail(arch.ErrUnsupported, "variant %q of RoAd; the served ones are road_1, road_2 and road_4", r.o.Variant)
	case group < 2 || group%2 != 0 || s[0] != n[0]:
		return nil, r.fail(arch.ErrInvalid, "module %s: road_theta %v and road_alpha %v in groups of %d", module, s, n, group)
	}
	// factors of an output itself and of the one it is paired with.
	factors := func(o int) (own, other float32) {
		i, j := o, o
		switch half := group / 2; r.o.Variant {
		case "road_1":
			i = o/group*half + o%half
			j = i
		case "road_4":
			i = o/group*2*group + o%group
			j = i + group
		}
		own = alpha[i] * float32(math.Cos(float64(theta[i])))
		other = alpha[j] * float32(math.Sin(float64(theta[j])))
		if o%group < group/2 {
			other = -other
		}
		return own, other
	}
	return &Change{
		B: Shape{Rows: int(float64(s[0]) / per)}, Scale: 1,
		Dense: true, ByRow: true, Blocks: group,
		Partner: func(o int) int {
			if o%group < group/2 {
				return o + group/2
			}
			return o - group/2
		},
		Paired: func(o int, w, other, dst []float32) {
			f, g := factors(o)
			for i, v := range w {
				dst[i] = float32(v*(f-1)) + float32(other[i]*g)
			}
		},
	}, nil
}
