package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/oci/layout"
	"github.com/sirupsen/logrus"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fullname"
)

// target is where the images go.
type target struct {
	transport string // docker, dir, oci or containers-storage
	place     string // the registry with a path, the directory, or the store in brackets
	scoped    bool
	suffix    string
}

// target returns the destination that a text is.
func (o *syncOptions) target(text string) (target, error) {
	t := target{scoped: o.scoped, suffix: o.appendSuffix}
	if err := t.parse(text); err != nil {
		return target{}, fmt.Errorf("destination %.300q: %w", text, err)
	}
	if name, err := fullname.Parse("x:x"); err == nil {
		if _, err := name.WithSuffix(t.suffix); err != nil {
			return target{}, fmt.Errorf("--append-suffix %q: no tag can end so", t.suffix)
		}
	}
	if t.scoped && (t.transport == "oci" || t.transport == "containers-storage") {
		logrus.Warnf("--scoped has no effect with %s:, where images keep their whole names anyway", t.transport)
	}
	return t, nil
}

func (t *target) parse(text string) error {
	t.transport, t.place, _ = strings.Cut(text, ":")
	switch t.transport {
	case "docker":
		place, ok := strings.CutPrefix(t.place, "//")
		t.place = strings.TrimRight(place, "/")
		if named, err := reference.ParseNormalizedNamed(t.place + "/x"); !ok || t.place == "" || err != nil || !reference.IsNameOnly(named) {
			return errors.New("must be docker://REGISTRY, and may have a path behind it")
		}
	case "dir", "oci":
		if t.place == "" {
			return fmt.Errorf("must be %s:DIRECTORY", t.transport)
		}
		if t.transport == "oci" && strings.Contains(t.place, ":") {
			return errors.New("must be oci:DIRECTORY, and a layout can't be at a path with a colon in it")
		}
	case "containers-storage":
		if t.place != "" && (!strings.HasPrefix(t.place, "[") || strings.Index(t.place, "]") != len(t.place)-1) {
			return errors.New("must be containers-storage: and nothing more, since images keep their names there; or containers-storage:[STORE]")
		}
	default:
		return errors.New("must be containers-storage:, docker://REGISTRY, dir:DIRECTORY or oci:DIRECTORY")
	}
	return nil
}

// name returns the destination of an image, with the transport.
func (t target) name(n fullname.Name) (string, error) {
	n, err := n.WithSuffix(t.suffix)
	if err != nil {
		return "", err
	}
	below := n.Last()
	if t.scoped {
		below = n.Below()
	}
	switch name := n.String(); t.transport {
	case "docker":
		return "docker://" + t.place + "/" + below, isName(t.place + "/" + below)
	case "dir":
		return "dir:" + filepath.Join(t.place, below), nil
	case "oci":
		if _, err := layout.NewReference("/", name); err != nil {
			return "", fmt.Errorf("%q is no name that a layout can have: %w", name, err)
		}
		return "oci:" + t.place + ":" + name, nil
	default:
		return "containers-storage:" + t.place + name, isName(name)
	}
}

// isName returns an error if a text is no name to containers/image.
func isName(text string) error {
	if _, err := reference.ParseNormalizedNamed(text); err != nil {
		return fmt.Errorf("%q: %w", text, err)
	}
	return nil
}

// nameAll gives the images their destinations, and returns them: two tags of one image
// that come to the same name are one. Where different images do, that is an error.
func (t target) nameAll(images []*synced) ([]*synced, error) {
	var named []*synced
	var collisions []error
	at := map[string]*synced{}
	for _, i := range images {
		if i.err == nil {
			i.to, i.err = t.name(i.full)
		}
		other := at[i.to]
		switch {
		case i.err != nil:
			named = append(named, i)
		case other == nil:
			at[i.to] = i
			named = append(named, i)
		case other.config == "" || other.config != i.config:
			collisions = append(collisions, fmt.Errorf("%q and %q would both be %s", other.name, i.name, i.to))
		}
	}
	if len(collisions) == 0 {
		return named, nil
	}
	advice := "copy them in parts, by patterns"
	if !t.scoped && (t.transport == "docker" || t.transport == "dir") {
		advice = "--scoped keeps their whole names"
	}
	return nil, fmt.Errorf("%w; %s", someOf(collisions), advice)
}

// makeRoom makes the directory in which a destination is a file or a directory.
func (t target) makeRoom(to string) error {
	var dir string
	switch t.transport {
	case "dir":
		dir = filepath.Dir(strings.TrimPrefix(to, "dir:"))
	case "oci":
		dir = filepath.Dir(filepath.Clean(t.place))
	default:
		return nil
	}
	return os.MkdirAll(dir, 0o755)
}

// mayHave tells whether there is anything in which a destination could be. To look for
// an image in a store that is not there would make the store.
func (t target) mayHave(to string) bool {
	var at string
	switch t.transport {
	case "docker":
		return true
	case "dir":
		at = strings.TrimPrefix(to, "dir:")
	case "oci":
		at = t.place
	default:
		at = t.storeRoot()
	}
	_, err := os.Stat(at)
	return err == nil
}

// storeRoot returns the directory of the containers-storage.
func (t target) storeRoot() string {
	if t.place == "" {
		return defaultStores()[0]
	}
	root := strings.Trim(t.place, "[]")
	if _, behind, ok := strings.Cut(root, "@"); ok {
		root = behind
	}
	root, _, _ = strings.Cut(root, "+")
	root, _, _ = strings.Cut(root, ":")
	return root
}
