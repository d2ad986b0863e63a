// Command skopeo stands for skopeo where images are linked into it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containers/storage/pkg/reexec"
)

func main() {
	if reexec.Init() {
		return
	}
	if err := copyImage(context.Background(), os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "FATA", err)
		os.Exit(1)
	}
}
