package fsverity_test

import (
	"crypto"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

func TestParse(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		size int // 0: an error
	}{
		"sha256":     {strings.Repeat("0f", 32), 32},
		"sha512":     {strings.Repeat("a9", 64), 64},
		"empty":      {"", 0},
		"short":      {strings.Repeat("00", 31), 0},
		"long":       {strings.Repeat("00", 65), 0},
		"between":    {strings.Repeat("00", 48), 0},
		"odd":        {strings.Repeat("0", 63), 0},
		"upper case": {strings.Repeat("0F", 32), 0},
		"no hex":     {strings.Repeat("0g", 32), 0},
		"a path":     {"../" + strings.Repeat("0", 61), 0},
	} {
		t.Run(name, func(t *testing.T) {
			d, err := fsverity.Parse(test.text)
			if test.size == 0 {
				assert.Error(t, err)
				assert.True(t, d.IsZero())
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.text, d.String())
			assert.Equal(t, test.size, d.Size())
			assert.False(t, d.IsZero())
		})
	}
}

func TestBytesAreACopy(t *testing.T) {
	raw := make([]byte, 32)
	d, err := fsverity.FromBytes(raw)
	require.NoError(t, err)
	raw[0] = 1
	d.Bytes()[1] = 1
	assert.Equal(t, make([]byte, 32), d.Bytes())
	for _, size := range []int{0, 1, 31, 33, 63, 65, 1000} {
		_, err := fsverity.FromBytes(make([]byte, size))
		assert.Error(t, err, size)
	}
}

func TestZeroDigest(t *testing.T) {
	var d fsverity.Digest
	assert.True(t, d.IsZero())
	assert.Zero(t, d.Size())
	assert.Empty(t, d.String())
	assert.Zero(t, fsverity.Algorithm{}.Size())
}

func TestAlgorithms(t *testing.T) {
	for name, test := range map[string]struct {
		algorithm          fsverity.Algorithm
		hash, logBlockSize uint8
		size, blockSize    int
	}{
		"fsverity-sha256-12": {fsverity.SHA256, 1, 12, 32, 4096},
		"fsverity-sha512-12": {fsverity.SHA512, 2, 12, 64, 4096},
		"fsverity-sha256-16": {fsverity.Algorithm{Hash: crypto.SHA256, LogBlockSize: 16}, 1, 16, 32, 65536},
		"fsverity-sha512-16": {fsverity.Algorithm{Hash: crypto.SHA512, LogBlockSize: 16}, 2, 16, 64, 65536},
	} {
		t.Run(name, func(t *testing.T) {
			assert.Equal(t, name, test.algorithm.String())
			assert.Equal(t, test.size, test.algorithm.Size())
			assert.Equal(t, test.blockSize, test.algorithm.BlockSize())
			assert.Equal(t, test.hash, test.algorithm.HashNumber())
			parsed, err := fsverity.ParseAlgorithm(name)
			require.NoError(t, err)
			assert.Equal(t, test.algorithm, parsed)
			numbered, err := fsverity.AlgorithmFromNumbers(test.hash, test.logBlockSize)
			require.NoError(t, err)
			assert.Equal(t, test.algorithm, numbered)
		})
	}
	for _, name := range []string{"", "sha256", "fsverity-sha256", "fsverity-sha256-13", "fsverity-sha384-12", "fsverity-sha256-12 ", "FSVERITY-SHA256-12"} {
		_, err := fsverity.ParseAlgorithm(name)
		assert.Error(t, err, name)
	}
	for _, numbers := range [][2]uint8{{0, 12}, {3, 12}, {255, 12}, {1, 0}, {1, 13}, {2, 17}, {2, 255}} {
		_, err := fsverity.AlgorithmFromNumbers(numbers[0], numbers[1])
		assert.Error(t, err, "%v", numbers)
	}
}

// What parses is spelled as it was, and is a digest of a known size.
func FuzzParse(f *testing.F) {
	for _, seed := range []string{"", "00", strings.Repeat("0f", 32), strings.Repeat("a9", 64), strings.Repeat("0F", 32)} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := fsverity.Parse(text)
		if err != nil {
			assert.True(t, d.IsZero())
			return
		}
		assert.Equal(t, text, d.String())
		again, err := fsverity.FromBytes(d.Bytes())
		require.NoError(t, err)
		assert.Equal(t, d, again)
	})
}

func FuzzParseAlgorithm(f *testing.F) {
	for _, seed := range []string{"", "fsverity-sha256-12", "fsverity-sha512-16", "fsverity-sha256-99"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, name string) {
		if a, err := fsverity.ParseAlgorithm(name); err == nil {
			assert.Equal(t, name, a.String())
		}
	})
}

// However a file is cut into writes, its digest is the same.
func FuzzHasher(f *testing.F) {
	f.Add([]byte("some bytes"), uint(3), uint(5000))
	f.Fuzz(func(t *testing.T, pattern []byte, cut, repeat uint) {
		var data []byte
		for range repeat % 10000 {
			data = append(data, pattern[:min(len(pattern), 16)]...)
		}
		cut %= uint(len(data) + 1)
		whole, parts := fsverity.NewHasher(fsverity.SHA512), fsverity.NewHasher(fsverity.SHA512)
		_, _ = whole.Write(data)
		_, _ = parts.Write(data[:cut])
		_, _ = parts.Write(data[cut:])
		assert.Equal(t, whole.Sum(), parts.Sum())
	})
}
