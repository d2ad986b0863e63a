package composefsrepo

import (
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

func TestParseMeta(t *testing.T) {
	for name, test := range map[string]struct {
		text string
		want fsverity.Algorithm
		err  error
	}{
		"as written": {
			text: `{"version":1,"algorithm":"fsverity-sha512-12","features":{"compatible":[],"read-only-compatible":["v1_erofs"],"incompatible":[]},"erofs_formats":{"default":1}}`,
			want: fsverity.SHA512,
		},
		"least":                 {text: `{"version":1,"algorithm":"fsverity-sha256-12"}`, want: fsverity.SHA256},
		"larger blocks":         {text: `{"version":1,"algorithm":"fsverity-sha256-16"}`, want: fsverity.Algorithm{Hash: fsverity.SHA256.Hash, LogBlockSize: 16}},
		"features without list": {text: `{"version":1,"algorithm":"fsverity-sha256-12","features":{}}`, want: fsverity.SHA256},
		"compatible features":   {text: `{"version":1,"algorithm":"fsverity-sha256-12","features":{"compatible":["a"],"read-only-compatible":["b"]}}`, want: fsverity.SHA256},
		"version 2":             {text: `{"version":2,"algorithm":"fsverity-sha512-12"}`, err: ErrUnsupported},
		"version 0":             {text: `{"version":0,"algorithm":"fsverity-sha512-12"}`, err: ErrUnsupported},
		"no version":            {text: `{"algorithm":"fsverity-sha512-12"}`, err: ErrUnsupported},
		"incompatible feature":  {text: `{"version":1,"algorithm":"fsverity-sha512-12","features":{"incompatible":["encrypted"]}}`, err: ErrUnsupported},
		"unknown algorithm":     {text: `{"version":1,"algorithm":"fsverity-blake3-12"}`, err: ErrUnsupported},
		"no algorithm":          {text: `{"version":1}`, err: ErrUnsupported},
		"no JSON":               {text: `version: 1`, err: ErrNotRepository},
		"nothing":               {text: ``, err: ErrNotRepository},
		"another type":          {text: `[1]`, err: ErrNotRepository},
		"text for the version":  {text: `{"version":"1","algorithm":"fsverity-sha512-12"}`, err: ErrNotRepository},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := parseMeta([]byte(test.text))
			if test.err != nil {
				require.ErrorIs(t, err, test.err)
				return
			}
			require.NoError(t, err)
			assert.Equal(t, test.want, got)
		})
	}
}

func FuzzMeta(f *testing.F) {
	f.Add([]byte(`{"version":1,"algorithm":"fsverity-sha512-12","features":{"compatible":[],"read-only-compatible":[],"incompatible":[]}}`))
	f.Add([]byte(`{"version":1e0,"features":null}`))
	f.Add([]byte(`[[[[`))
	f.Fuzz(func(t *testing.T, data []byte) {
		algorithm, err := parseMeta(data)
		if (err == nil) == (algorithm == fsverity.Algorithm{}) {
			t.Errorf("algorithm %v and error %v", algorithm, err)
		}
	})
}

func TestTagsAreEncodedAndDecoded(t *testing.T) {
	for tag, name := range map[string]string{
		"localhost/hello:latest": "localhost%2Fhello:latest",
		"100%/odd name":          "100%25%2Fodd name",
		"%2F":                    "%252F",
		"plain":                  "plain",
		"\xff\x01":               "\xff\x01",
	} {
		encoded, err := encodeTag(tag)
		require.NoError(t, err)
		assert.Equal(t, name, encoded)
		decoded, ok := decodeTag(name)
		assert.True(t, ok)
		assert.Equal(t, tag, decoded)
	}
	for _, tag := range []string{"", ".", "..", "@sha256:00", "a\x00b", string(make([]byte, 300))} {
		_, err := encodeTag(tag)
		assert.Error(t, err, "%q", tag)
	}
	for _, name := range []string{"a%2fb", "a%20b", "100%", "@x", ".."} {
		_, ok := decodeTag(name)
		assert.False(t, ok, name)
	}
}

func FuzzTag(f *testing.F) {
	f.Add("localhost%2Fhello:latest")
	f.Add("100%25%2Fodd name")
	f.Fuzz(func(t *testing.T, text string) {
		if name, err := encodeTag(text); err == nil {
			if tag, ok := decodeTag(name); !ok || tag != text {
				t.Errorf("%q is encoded as %q, which decodes to %q, %v", text, name, tag, ok)
			}
		}
		if tag, ok := decodeTag(text); ok {
			if name, err := encodeTag(tag); err != nil || name != text {
				t.Errorf("%q decodes to %q, which is encoded as %q, %v", text, tag, name, err)
			}
		}
	})
}
