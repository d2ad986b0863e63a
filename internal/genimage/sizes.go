package genimage

import (
	"math"
	"math/rand/v2"
	"slices"
)

const (
	medianSize = 3 << 10  // bytes
	maxSize    = 64 << 20 // bytes, before what is left over is spread
	filesEmpty = 100      // one file of so many is empty
	filesACopy = 60       // one of so many is a copy of the file before it
)

// sizes returns sizes of so many files that are total bytes together. They are
// log-normally distributed, as in a distribution's image: half of the files are
// below 3 KiB, and few hold most of the bytes.
func sizes(r *rand.Rand, files int, total int64) []int64 {
	mean := float64(total) / float64(files)
	median := min(medianSize, mean/2)
	// The mean of such a distribution is median * exp(sigma²/2).
	sigma := math.Sqrt(2 * math.Log(max(mean/max(median, 1e-9), 1)))
	all := make([]int64, files)
	for i := range all {
		switch {
		case r.IntN(filesEmpty) == 0:
		case i > 0 && r.IntN(filesACopy) == 0:
			all[i] = all[i-1]
		default:
			all[i] = int64(min(median*math.Exp(sigma*r.NormFloat64()), maxSize, float64(total)/4))
		}
	}
	scale(all, int64(median), total)
	return all
}

// scale changes the sizes above median so that all are total together.
func scale(all []int64, median, total int64) {
	var small, large int64
	for _, size := range all {
		if size <= median {
			small += size
		} else {
			large += size
		}
	}
	largest := slices.Index(all, slices.Max(all))
	left := total
	if large > 0 && total > small {
		factor := float64(total-small) / float64(large)
		for i, size := range all {
			if size > median {
				all[i] = int64(float64(size) * factor)
			}
		}
	}
	for _, size := range all {
		left -= size
	}
	// Rounding leaves little; few files leave more, of either sign.
	for i := largest; left != 0; i = (i + 1) % len(all) {
		change := max(left, -all[i])
		all[i] += change
		left -= change
	}
}
