// Command sharing is the command transport with a call that shares blocks.
package main

import (
	"context"
	"log"
	"os"

	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/storage/pkg/reexec"

	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

func main() {
	if reexec.Init() || len(os.Args) != 3 {
		return
	}
	from, err := alltransports.ParseImageName(os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	to, err := alltransports.ParseImageName(os.Args[2])
	if err != nil {
		log.Fatal(err)
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		log.Fatal(err)
	}
	if _, err := zerocopy.Copy(context.Background(), policy, to, from, nil); err != nil {
		log.Fatal(err)
	}
}
