package diff

import (
	"context"
	"slices"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/packages"
)

// A small image may have paths of any length together.
func TestPathsAreBounded(t *testing.T) {
	c := &comparison{ctx: context.Background(), files: &Files{}, path: []byte("/x"), texts: maxTexts - 2}
	require.NoError(t, c.add(FileChange{Kind: Added}, 1))
	assert.ErrorIs(t, c.add(FileChange{Kind: Added}, 2), ErrTooLarge)
	assert.Len(t, c.files.Changes, 1)
}

// Versions that are written otherwise are no upgrade.
func TestEqualVersions(t *testing.T) {
	of := func(version string) []packages.Package {
		return []packages.Package{{Kind: packages.RPM, Name: "a", Version: version}}
	}
	p := comparePackages(of("1.0-1"), of("1.00-1"))
	assert.Empty(t, slices.Concat(p.Upgraded, p.Downgraded))
	assert.Len(t, p.Removed, 1)
	assert.Len(t, p.Added, 1)
}

func FuzzConfigs(f *testing.F) {
	f.Add([]byte(`{"architecture":"amd64","config":{"Env":["A=b","C"],"Labels":{"a":"b"},"Cmd":["x"],"ExposedPorts":{"80":{}}}}`), []byte(`{"config":{}}`))
	f.Add([]byte(`[]`), []byte(`{"config":null}`))
	f.Fuzz(func(t *testing.T, old, new []byte) {
		changes, err := compareConfigs(old, new)
		back, backErr := compareConfigs(new, old)
		require.Equal(t, err == nil, backErr == nil)
		require.Len(t, back, len(changes))
		for i, c := range changes {
			assert.Equal(t, []string{c.Field, c.Key, c.Old, c.New}, []string{back[i].Field, back[i].Key, back[i].New, back[i].Old})
		}
		same, err := compareConfigs(old, old)
		if err == nil {
			assert.Empty(t, same)
		}
	})
}
