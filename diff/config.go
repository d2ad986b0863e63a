package diff

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
)

// ConfigChange is a field of a config that differs, or a key of one that has several.
type ConfigChange struct {
	// Field is label, env, entrypoint, cmd, user, workdir, port, volume, stopsignal,
	// architecture, variant or os.
	Field string `json:"field"`
	// Key is the label's or the variable's name, the port or the volume; "" of other
	// fields.
	Key string `json:"key,omitempty"`
	// Old and New are the values, an entrypoint and a command as JSON; "" where there is
	// none, or it is empty.
	Old string `json:"old"`
	New string `json:"new"`
	// Kind is Added or Removed where only one of the configs has the key or the field.
	Kind Kind `json:"kind"`
}

// Kind is what became of something.
type Kind string

// The kinds.
const (
	Added   Kind = "added"
	Removed Kind = "removed"
	Changed Kind = "changed"
)

// field is a field of a config, by its keys; with "" as the only one where it has none.
type field struct {
	name   string
	values map[string]string
}

// compareConfigs returns what differs between two configs.
func compareConfigs(old, new []byte) ([]ConfigChange, error) {
	before, err := configFields(old)
	if err != nil {
		return nil, fmt.Errorf("config of the old image: %w", err)
	}
	after, err := configFields(new)
	if err != nil {
		return nil, fmt.Errorf("config of the new image: %w", err)
	}
	changes := []ConfigChange{}
	for i, b := range before {
		a := after[i]
		keys := slices.AppendSeq(slices.Collect(maps.Keys(b.values)), maps.Keys(a.values))
		slices.Sort(keys)
		for _, key := range slices.Compact(keys) {
			change := ConfigChange{Field: b.name, Key: key, Kind: Changed}
			var had, has bool
			change.Old, had = b.values[key]
			change.New, has = a.values[key]
			switch {
			case !had:
				change.Kind = Added
			case !has:
				change.Kind = Removed
			case change.Old == change.New:
				continue
			}
			changes = append(changes, change)
		}
	}
	return changes, nil
}

// configFields returns the fields of a config that are compared, always the same ones.
func configFields(raw []byte) ([]field, error) {
	var image imgspecv1.Image
	if err := json.Unmarshal(raw, &image); err != nil {
		return nil, err
	}
	c := image.Config
	env := map[string]string{}
	for _, variable := range c.Env {
		name, value, _ := strings.Cut(variable, "=")
		env[name] = value
	}
	return []field{
		{"label", c.Labels},
		{"env", env},
		{"entrypoint", list(c.Entrypoint)},
		{"cmd", list(c.Cmd)},
		{"user", text(c.User)},
		{"workdir", text(c.WorkingDir)},
		{"port", set(c.ExposedPorts)},
		{"volume", set(c.Volumes)},
		{"stopsignal", text(c.StopSignal)},
		{"architecture", text(image.Architecture)},
		{"variant", text(image.Variant)},
		{"os", text(image.OS)},
	}, nil
}

func text(value string) map[string]string {
	if value == "" {
		return nil
	}
	return map[string]string{"": value}
}

func list(words []string) map[string]string {
	if len(words) == 0 {
		return nil
	}
	var encoded strings.Builder
	encoder := json.NewEncoder(&encoded)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(words) // strings always can be
	return text(strings.TrimSpace(encoded.String()))
}

func set(names map[string]struct{}) map[string]string {
	values := make(map[string]string, len(names))
	for name := range names {
		values[name] = ""
	}
	return values
}
