package rearchive

import (
	"encoding/json"
	"reflect"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

var newDiffIDs = []digest.Digest{digest.FromString("a"), digest.FromString("b")}

func TestConfigKeepsWhatItHas(t *testing.T) {
	config, err := newConfig([]byte(`{
		"unknown": {"big": 12345678901234567890.12345, "<&>": null}, "Labels": 1,
		"rootfs": {"type": "layers", "diff_ids": ["sha256:old"], "more": [1]},
		"history": [{"empty_layer": true, "comment": "x"}, {}], "config": {"Labels": {"diff_ids": "sha256:old"}}
	}`), newDiffIDs)
	require.NoError(t, err)
	assert.JSONEq(t, `{
		"unknown": {"big": 12345678901234567890.12345, "<&>": null}, "Labels": 1,
		"rootfs": {"type": "layers", "diff_ids": ["`+newDiffIDs[0].String()+`", "`+newDiffIDs[1].String()+`"], "more": [1]},
		"history": [{"empty_layer": true, "comment": "x"}, {}], "config": {"Labels": {"diff_ids": "sha256:old"}}
	}`, string(config))
	assert.Contains(t, string(config), "12345678901234567890.12345")
}

func TestDocumentsThatCanBeReadInTwoWaysAreRefused(t *testing.T) {
	for name, config := range map[string]string{
		"no object":            `[]`,
		"no JSON":              `{`,
		"no root filesystem":   `{}`,
		"of another spelling":  `{"rootfs": {"diff_ids": []}, "RootFS": {"diff_ids": []}}`,
		"of another spelling,": `{"rootfs": {"diff_ids": [], "DIFF_IDS": []}}`,
	} {
		t.Run(name, func(t *testing.T) {
			_, err := newConfig([]byte(config), newDiffIDs)
			assert.Error(t, err)
		})
	}
}

// FuzzConfig: where a config is edited at all, it has the new diff IDs, and
// everything else that it had.
func FuzzConfig(f *testing.F) {
	f.Add([]byte(`{"rootfs": {"type": "layers", "diff_ids": ["sha256:x"]}, "history": [{"empty_layer": true}], "x": 1.0}`))
	f.Add([]byte(`{"rootfs": null, "rootfs": {}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		edited, err := newConfig(data, newDiffIDs)
		if err != nil {
			return
		}
		var parsed struct {
			RootFS imgspecv1.RootFS `json:"rootfs"`
		}
		if err := json.Unmarshal(edited, &parsed); err == nil && !slices.Equal(parsed.RootFS.DiffIDs, newDiffIDs) {
			t.Fatalf("%s", edited)
		}
		if want, got := withoutDiffIDs(t, data), withoutDiffIDs(t, edited); !reflect.DeepEqual(want, got) {
			t.Fatalf("want %v\ngot %v", want, got)
		}
	})
}

func withoutDiffIDs(t testing.TB, data []byte) map[string]any {
	var all map[string]any
	if err := json.Unmarshal(data, &all); err != nil {
		t.Fatal(err)
	}
	rootFS, _ := all["rootfs"].(map[string]any)
	delete(rootFS, "diff_ids")
	if len(rootFS) == 0 {
		delete(all, "rootfs") // may have been null
	}
	return all
}
