package zerocopy

import (
	"errors"
	"fmt"

	"github.com/containers/image/v5/copy"
)

// ErrOption: an option of copy.Options can't be honored for this copy.
var ErrOption = errors.New("not supported for this copy from a composefs repository")

// checkOptions refuses options by name. Keys to decrypt with are none of them: nothing
// in a repository is encrypted, and buildah always brings an empty set.
func checkOptions(o *copy.Options) error {
	for name, set := range map[string]bool{
		"signing":                        len(o.Signers) > 0 || o.SignBy != "" || o.SignBySigstorePrivateKeyFile != "",
		"encryption":                     o.OciEncryptLayers != nil || o.OciEncryptConfig != nil,
		"a forced compression format":    o.ForceCompressionFormat,
		"further compression variants":   len(o.EnsureCompressionVariantsExist) > 0,
		"a timestamp of the destination": o.DestinationTimestamp != nil,
	} {
		if set {
			return fmt.Errorf("%s: %w", name, ErrOption)
		}
	}
	return nil
}

// limitOf returns the limit that the options set on what is done at once.
func limitOf(o *copy.Options) limit {
	if o.ConcurrentBlobCopiesSemaphore != nil {
		return limit{semaphore: o.ConcurrentBlobCopiesSemaphore}
	}
	return limit{parallelism: int(min(o.MaxParallelDownloads, 1<<10))}
}
