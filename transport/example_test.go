package transport_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/transports/alltransports"

	"github.com/skopeo-cfs/skopeo-cfs/internal/fixtures"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
)

// dir holds the repository of the example, and what the example makes.
var dir string

func TestMain(m *testing.M) {
	var err error
	if dir, err = os.MkdirTemp("", "skopeo-cfs-transport"); err != nil {
		log.Fatal(err)
	}
	if err := fixtures.UnpackTo(dir, "sha512"); err != nil {
		log.Fatal(err)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// A program that copies an image out of a repository into an OCI layout. To
// write to containers-storage it would begin with
//
//	if reexec.Init() {
//		return
//	}
func Example() {
	src, err := alltransports.ParseImageName("composefs:[" + filepath.Join(dir, "sha512") + "]hello")
	if err != nil {
		log.Fatal(err)
	}
	dest, err := alltransports.ParseImageName("oci:" + filepath.Join(dir, "layout") + ":hello")
	if err != nil {
		log.Fatal(err)
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		log.Fatal(err)
	}
	defer policy.Destroy()
	copied, err := copy.Image(context.Background(), policy, dest, src, &copy.Options{})
	if err != nil {
		log.Fatal(err)
	}
	m, err := manifest.OCI1FromManifest(copied)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("image ID:", m.ConfigInfo().Digest)
	// Output: image ID: sha256:fb2ac53b70d375cdcc5868388ea2dcdb839bcc0d23a7c508cf635b728cdb271c
}
