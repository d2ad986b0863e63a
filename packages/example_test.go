package packages_test

import (
	"context"
	"fmt"
	"log"
	"testing/fstest"

	"github.com/skopeo-cfs/skopeo-cfs/packages"
)

func ExampleRead() {
	// Any file system will do: os.DirFS of a root directory, or that of an image.
	fsys := fstest.MapFS{"lib/apk/db/installed": {Data: []byte("P:musl\nV:1.2.5-r0\nA:x86_64\n\nP:zlib\nV:1.3.1-r1\nA:x86_64\n\n")}}
	found, err := packages.Read(context.Background(), fsys)
	if err != nil {
		log.Fatal(err)
	}
	for _, p := range found {
		fmt.Println(p.Kind, p.Name, p.Version, p.Arch)
	}
	fmt.Println(packages.APK.CompareVersions("1.2.5-r0", "1.2.5-r10"))
	// Output:
	// apk musl 1.2.5-r0 x86_64
	// apk zlib 1.3.1-r1 x86_64
	// -1
}
