package backup

import (
	"math/rand/v2"
	"testing"

	"instance-debootstrap/pkg/filesystem"
)

// TestAnImageIsDividedIntoDataAndZeros: every used block is in it once and in order,
// nothing else is, and zeros are nowhere but where there are any.
func TestAnImageIsDividedIntoDataAndZeros(t *testing.T) {
	const block, blocks, start = 4096, 4096, 1 << 20
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 0))
		extents := func(n, most int, unit int64) (list []filesystem.Extent) {
			for range n {
				x := filesystem.Extent{Offset: r.Int64N(blocks*block/unit) * unit, Bytes: (1 + r.Int64N(int64(most))) * unit}
				if x.Bytes = min(x.Bytes, blocks*block-x.Offset); x.Bytes > 0 {
					list = append(list, x)
				}
			}
			return list
		}
		mark := func(list []filesystem.Extent) (is [blocks * block / 512]bool) {
			for _, x := range list {
				for at := x.Offset; at < x.Offset+x.Bytes; at += 512 {
					is[at/512] = true
				}
			}
			return is
		}
		var used []filesystem.Extent
		inUse := mark(extents(20, 600, block))
		for i, is := range inUse {
			if is && (i == 0 || !inUse[i-1]) {
				used = append(used, filesystem.Extent{Offset: int64(i) * 512})
			}
			if is {
				used[len(used)-1].Bytes += 512
			}
		}
		zeros := extents(int(seed%30), 300, []int64{512, block}[seed%2]) // they overlap
		isZero := mark(zeros)
		next, left := int64(start), 0
		var seen [len(inUse)]bool
		for p := range divide(used, zeros, start) {
			if p.offset < next || p.bytes <= 0 || p.bytes%512 != 0 || !p.zero && p.bytes > pieceBytes || p.zero && p.bytes < leastZero {
				t.Fatalf("seed %d: %+v after byte %d", seed, p, next)
			}
			next = p.offset + p.bytes
			for i := (p.offset - start) / 512; i < (next-start)/512; i++ {
				seen[i] = true
				if p.zero && !isZero[i] {
					t.Fatalf("seed %d: sector %d is not zero", seed, i)
				}
			}
			if p.zero {
				left++
			}
		}
		if seen != inUse {
			t.Errorf("seed %d: not all that is in use is in the image, or more is", seed)
		}
		if seed == 29 && left == 0 {
			t.Error("no zeros are left out")
		}
	}
}
