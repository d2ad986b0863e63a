package zerocopy_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"

	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// A program that copies an image into containers-storage: without copying
// contents where that can be done, else the plain way. Like every program that
// writes to containers-storage, its main begins with
//
//	if reexec.Init() {
//		return
//	}
func ExampleImage() {
	policy, err := signature.DefaultPolicy(nil)
	if err != nil {
		log.Fatal(err)
	}
	policyContext, err := signature.NewPolicyContext(policy)
	if err != nil {
		log.Fatal(err)
	}
	defer policyContext.Destroy()
	dest, src := parse("containers-storage:localhost/os:42"), parse("composefs:quay.io/org/os:42")

	ctx := context.Background()
	_, stats, err := zerocopy.Image(ctx, policyContext, dest, src, &copy.Options{}, nil)
	if errors.Is(err, zerocopy.ErrUnsupported) {
		_, err = copy.Image(ctx, policyContext, dest, src, &copy.Options{})
	}
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(stats.Shared, "bytes are shared with the repository")
}

func parse(name string) types.ImageReference {
	ref, err := alltransports.ParseImageName(name)
	if err != nil {
		log.Fatal(err)
	}
	return ref
}
