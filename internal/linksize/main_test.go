package main

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// Only packages that the base lacks count, each with its shortest time.
func TestInitializationIsAddedUp(t *testing.T) {
	base := measured{packages: map[string]time.Duration{}}
	require.NoError(t, base.note(strings.NewReader("init internal/bytealg @0.008 ms, 0.5 ms clock, 0 bytes, 0 allocs\n")))
	m := measured{packages: map[string]time.Duration{}}
	for _, trace := range []string{
		"init internal/bytealg @0.008 ms, 0.7 ms clock, 0 bytes, 0 allocs\ninit example.org/a @1 ms, 0.03 ms clock, 16 bytes, 1 allocs\n",
		"something else\ninit example.org/a @1 ms, 0.01 ms clock, 16 bytes, 1 allocs\ninit example.org/b @1 ms, 0.2 ms clock, 16 bytes, 1 allocs\n",
	} {
		require.NoError(t, m.note(strings.NewReader(trace)))
	}
	assert.Equal(t, 210*time.Microsecond, m.added(base))
	assert.Error(t, m.note(strings.NewReader("init example.org/a @1 ms, much ms clock, 16 bytes\n")))
}
