package fsverity_test

import (
	"bufio"
	"bytes"
	"crypto"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
)

// patterned returns the file of testdata/README.md.
func patterned(size int) []byte {
	data := make([]byte, size)
	for i := range data {
		data[i] = byte(i ^ i>>8 ^ i>>16)
	}
	return data
}

// Sizes on both sides of every boundary: of a block, of a level of the tree, of
// the level above it.
func TestDigestsAreThoseOfFsverityUtils(t *testing.T) {
	f, err := os.Open("testdata/digests.txt")
	require.NoError(t, err)
	defer f.Close()
	algorithms := []fsverity.Algorithm{
		fsverity.SHA256, fsverity.SHA512,
		{Hash: crypto.SHA256, LogBlockSize: 16}, {Hash: crypto.SHA512, LogBlockSize: 16},
	}
	lines := 0
	for in := bufio.NewScanner(f); in.Scan(); lines++ {
		fields := strings.Fields(in.Text())
		require.Len(t, fields, 1+len(algorithms))
		size, err := strconv.Atoi(fields[0])
		require.NoError(t, err)
		data := patterned(size)
		for i, a := range algorithms {
			computed, err := fsverity.Compute(a, bytes.NewReader(data))
			require.NoError(t, err)
			assert.Equal(t, fields[1+i], computed.String(), "%d bytes, %s", size, a)
		}
	}
	assert.Equal(t, 17, lines)
}

func TestEveryObjectOfTheFixturesHasItsName(t *testing.T) {
	for _, name := range fixtures.Repositories {
		files, err := filepath.Glob(filepath.Join(fixtures.Unpack(t, name), "objects/*/*"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		algorithm := fsverity.SHA256
		if strings.HasSuffix(name, "sha512") {
			algorithm = fsverity.SHA512
		}
		for _, file := range files {
			data, err := os.ReadFile(file)
			require.NoError(t, err)
			computed, err := fsverity.Compute(algorithm, bytes.NewReader(data))
			require.NoError(t, err)
			assert.Equal(t, filepath.Base(filepath.Dir(file))+filepath.Base(file), computed.String())
		}
	}
}

func TestDigestDoesNotDependOnHowItIsWritten(t *testing.T) {
	data := patterned(3*4096 + 1)
	want, err := fsverity.Compute(fsverity.SHA256, bytes.NewReader(data))
	require.NoError(t, err)
	h := fsverity.NewHasher(fsverity.SHA256)
	for _, step := range []int{1, 7, 4095, 4096, 4097, len(data)} {
		for rest := data; len(rest) > 0; {
			n := min(step, len(rest))
			written, err := h.Write(rest[:n])
			require.NoError(t, err)
			require.Equal(t, n, written)
			rest = rest[n:]
		}
		assert.Equal(t, want, h.Sum(), "%d bytes a time, and used before", step)
	}
}

func TestComputeReturnsTheReadersError(t *testing.T) {
	_, err := fsverity.Compute(fsverity.SHA256, iotest.ErrReader(os.ErrPermission))
	assert.ErrorIs(t, err, os.ErrPermission)
}

func TestMeasureOfAFileWithoutVerity(t *testing.T) {
	f, err := os.Create(filepath.Join(t.TempDir(), "file"))
	require.NoError(t, err)
	defer f.Close()
	_, err = fsverity.Measure(f)
	assert.ErrorIs(t, err, fsverity.ErrNotEnabled)
}
