// Command copy-booted copies the image of the running bootc host into
// containers-storage, without copying the contents of its files.
package main

import (
	"context"
	"log"
	"os"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/storage/pkg/reexec"

	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

func main() {
	if reexec.Init() { // containers-storage extracts layers in processes of its own
		return
	}
	policy := must(signature.NewPolicyContext(must(signature.DefaultPolicy(nil))))
	src := must(alltransports.ParseImageName("composefs:@booted"))
	dest := must(alltransports.ParseImageName("containers-storage:localhost/booted:latest"))
	must(zerocopy.Copy(context.Background(), policy, dest, src, &copy.Options{ReportWriter: os.Stdout}))
}

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatal(err)
	}
	return value
}
