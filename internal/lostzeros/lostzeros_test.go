package lostzeros_test

import (
	"crypto/sha256"
	"testing"

	"github.com/stretchr/testify/assert"

	"github.com/skopeo-cfs/skopeo-cfs/internal/lostzeros"
)

func TestZerosAreFound(t *testing.T) {
	for name, test := range map[string]struct {
		size, zeros int
		found       bool
	}{
		"a record":                {1024, 10240 - 1024, true},
		"two records":             {1024, 20480 - 1024, true},
		"a block":                 {10240, 512, true},
		"what fills a block":      {1000, 24, true},
		"as many as are searched": {512, 1 << 20, true},
		"more":                    {512, 1<<20 + 512, false},
		"no whole block":          {512, 100, false},
		"none":                    {512, 0, false},
	} {
		t.Run(name, func(t *testing.T) {
			content := make([]byte, test.size+test.zeros)
			content[0] = 1
			want := sha256.Sum256(content)
			h := sha256.New()
			h.Write(content[:test.size])
			zeros, found := lostzeros.Find(h, int64(test.size), want[:])
			assert.Equal(t, test.found, found)
			if found {
				assert.EqualValues(t, test.zeros, zeros)
				assert.Equal(t, want[:], h.Sum(nil))
			}
		})
	}
}
