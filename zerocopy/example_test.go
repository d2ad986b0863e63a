package zerocopy_test

import (
	"context"
	"fmt"
	"log"
	"os"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/opencontainers/go-digest"

	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// A program that copies an image into containers-storage. Like every program that
// writes to containers-storage, its main begins with
//
//	if reexec.Init() {
//		return
//	}
func ExampleCopy() {
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
	manifest, err := zerocopy.Copy(ctx, policyContext, dest, src, &copy.Options{ReportWriter: os.Stdout})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(digest.FromBytes(manifest))
}

func parse(name string) types.ImageReference {
	ref, err := alltransports.ParseImageName(name)
	if err != nil {
		log.Fatal(err)
	}
	return ref
}
