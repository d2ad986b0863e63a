// Command transport is the command without, plus the transport composefs:.
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
	if _, err := copy.Image(context.Background(), policy, to, from, nil); err != nil {
		log.Fatal(err)
	}
}
