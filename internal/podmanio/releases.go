package main

// release is a version of go.podman.io/image/v5, and the go.podman.io/storage and
// go.podman.io/common that belong to it.
type release struct{ image, storage, common string }

// libraries returns the versions by module path.
func (r release) libraries() map[string]string {
	return map[string]string{"go.podman.io/image/v5": r.image, "go.podman.io/storage": r.storage, "go.podman.io/common": r.common}
}

// releases are what the module is checked against, the oldest first: those of
// podman 5.7, 5.8 and 6.0, and what came after.
//
// The module's go.mod asks for the oldest, because whoever links the module gets
// at least what it asks for: a podman must not get other libraries by that than
// those it was made for. The command that is shipped is built with the newest,
// because it has to read the configuration as the newest podman does.
var releases = []release{
	{"v5.38.0", "v1.61.0", "v0.66.0"},
	{"v5.39.3", "v1.62.2", "v0.67.1"},
	{"v5.40.0", "v1.63.0", "v0.68.0"},
	{"v5.41.2", "v1.64.2", "v0.69.0"},
	{"v5.42.0", "v1.65.0", "v0.69.0"},
}

func oldest() release { return releases[0] }

func newest() release { return releases[len(releases)-1] }
