package zerocopy

import (
	"errors"
	"fmt"

	"github.com/containers/image/v5/copy"
)

// ErrOption: an option of copy.Options that can't be honored for an image of a
// composefs repository at this destination; see Copy.
var ErrOption = errors.New("not supported for an image of a composefs repository and this destination")

// checkOptions refuses options by name.
func checkOptions(o *copy.Options) error {
	for name, set := range map[string]bool{
		"signing":                        len(o.Signers) > 0 || o.SignBy != "" || o.SignBySigstorePrivateKeyFile != "",
		"encryption":                     o.OciEncryptLayers != nil || o.OciEncryptConfig != nil,
		"decryption":                     o.OciDecryptConfig != nil,
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
