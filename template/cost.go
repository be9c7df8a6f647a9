package template

import (
	"cel.dev/cel-go/common/cost"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"

	"github.com/relaywebhooks/relay"
)

// prices says what a call costs for which CEL has no price of its own, which
// would count as one step: a step for every ten bytes of text that go in or come
// out, and for every entry of a list or map.
type prices struct{}

// CallCost returns nil for what CEL has a price for.
func (prices) CallCost(function, overload string, args []ref.Val, result ref.Val) *uint64 {
	if priced[overload] {
		return nil
	}
	total := uint64(1)
	switch function {
	case weighed:
		s := scale{left: relay.MaxTemplateCost}
		if !s.holds(args[0]) {
			s.left = 0
		}
		total += uint64(relay.MaxTemplateCost - max(s.left, 0)) //nolint:gosec // what is left is never more
	default:
		for _, v := range args {
			total += extent(v)
		}
		total += extent(result)
	}
	return &total
}

// priced are the calls that CEL has a price for. It is never changed.
var priced = func() map[string]bool {
	known := map[string]bool{}
	for id := range cost.StandardOverloadTrackers() {
		known[id] = true
	}
	return known
}()

// extent is the size of a value without what is in it.
func extent(v ref.Val) uint64 {
	switch v := v.(type) {
	case types.String:
		return uint64(len(v) / 10)
	case types.Bytes:
		return uint64(len(v) / 10)
	case traits.Sizer:
		if n, ok := v.Size().(types.Int); ok && n > 0 {
			return uint64(n)
		}
	}
	return 0
}

// weigh is the function weighed.
func weigh(args ...ref.Val) ref.Val {
	if s := (scale{left: relay.MaxTemplateCost}); !s.holds(args[0]) {
		return refuse(errLarge)
	}
	return args[0]
}

// scale weighs a value with all that is in it.
type scale struct{ left int }

// holds reports whether a value still fits. It gives up where it does not.
func (s *scale) holds(v ref.Val) bool {
	n := extent(v)
	if n >= uint64(max(s.left, 0)) { // before its entries are looked at
		s.left = 0
		return false
	}
	s.left--
	switch v := v.(type) {
	case types.String, types.Bytes:
		s.left -= int(n) //nolint:gosec // less than what is left
	case *types.Optional:
		return !v.HasValue() || s.holds(v.GetValue())
	case traits.Mapper:
		for it := v.Iterator(); it.HasNext() == types.True; {
			key := it.Next()
			if value, _ := v.Find(key); !s.holds(key) || !s.holds(value) {
				return false
			}
		}
	case traits.Lister:
		for it := v.Iterator(); it.HasNext() == types.True; {
			if !s.holds(it.Next()) {
				return false
			}
		}
	}
	return true
}
