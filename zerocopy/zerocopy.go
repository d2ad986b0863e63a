// Package zerocopy copies images into containers-storage without copying the
// contents of their files: on a filesystem with reflinks, a layer's files share
// their blocks with the objects of a composefs repository. The image arrives with
// its own manifest, and so with the manifest's digest as well as its image ID.
//
// Copy replaces copy.Image of containers/image, for all transports.
//
// Each layer that the store lacks goes one of two ways. If the store's driver can
// take a staged layer, the layer's directory is made here, next to the store's
// layers, and becomes a layer by a rename once its digest is found to be the diff
// ID. Otherwise, or if something in the layer is unusual, the layer's tar is
// streamed to the store, which extracts it. Neither way needs a temporary file of
// the layer's size.
//
// # What is left after a failure
//
// Layers are added to the store only when all of them are staged, so a copy that
// fails or is cancelled before that leaves the store as it was. Layers that are
// in the store already stay there, even if no image uses them yet: another program
// may have begun to rely on them, as podman does while it pulls. They are complete
// and checked, a later copy uses them, and "podman system check --repair" removes
// those that are still unused after a day.
package zerocopy

import "github.com/opencontainers/go-digest"

// Options are optional.
type Options struct {
	// Extract has the store extract all layers, so that nothing is shared.
	Extract bool
	// Report is told what becomes of the layers. It is called by several
	// goroutines at once. If it is set, copy.Options.ReportWriter is used only
	// where copy.Image does the whole copy.
	Report func(Event)
	// Index is an index that lists the image, as it is or nil. It is kept beside the
	// image's manifest, as it is when an image is pulled by an index, so that the image
	// has the digest of that, too.
	Index []byte
}

// Event is a step of a layer's way into a store.
type Event struct {
	Layer  int           // index in the image's manifest
	Digest digest.Digest // the layer's diff ID
	Size   int64         // of the layer's tar, in bytes
	State  State
	Bytes  int64 // with Reading: how many more bytes of the tar have been read
}

// State is what an Event tells.
type State int

// What becomes of a layer: Found, or Reading (any number of times) and Done. A
// layer that can't be staged is read again from its start, after Restarted.
const (
	Found     State = iota // the store has it already
	Reading                // it is being read
	Restarted              // it will be read again
	Done                   // it is in the store
)

// Stats is what a copy into containers-storage came to. It is zero where
// copy.Image did the whole copy.
type Stats struct {
	// Found, Staged and Extracted count layers: those that the store had, those
	// that were made here, and those that the store extracted.
	Found, Staged, Extracted int
	// Files counts the regular files of the staged layers.
	Files int64
	// Shared and Written are the bytes of the files' contents that share their
	// blocks with the repository, and of those that do not.
	Shared, Written int64
}
