package attached_test

import (
	"context"
	"log"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"

	"github.com/skopeo-cfs/skopeo-cfs/attached"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// A program that copies the image of a bootc host, if it is signed as the system's policy
// demands for the scope composefs:/sysroot/composefs. Its signatures are those that bootc's
// own containers-storage has.
func ExampleWith() {
	ref, err := alltransports.ParseImageName("composefs:@booted")
	if err != nil {
		log.Fatal(err)
	}
	ref = attached.With(ref, attached.Places{Stores: []string{"/usr/lib/bootc/storage"}})
	dest, err := alltransports.ParseImageName("oci:/srv/images:os")
	if err != nil {
		log.Fatal(err)
	}
	rules, err := signature.DefaultPolicy(nil)
	if err != nil {
		log.Fatal(err)
	}
	policy, err := signature.NewPolicyContext(rules)
	if err != nil {
		log.Fatal(err)
	}
	defer policy.Destroy()
	// An OCI layout has no place for signatures.
	if _, err := zerocopy.Copy(context.Background(), policy, dest, ref, &copy.Options{RemoveSignatures: true}); err != nil {
		log.Fatal(err)
	}
}
