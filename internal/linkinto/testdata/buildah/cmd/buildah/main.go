// Command buildah stands for buildah where images are linked into it.
package main

import (
	"context"
	"fmt"
	"os"

	"github.com/containers/common/libimage"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
)

func main() {
	if reexec.Init() {
		return
	}
	options, err := storage.DefaultStoreOptions()
	if err != nil {
		fatal(err)
	}
	store, err := storage.GetStore(options)
	if err != nil {
		fatal(err)
	}
	// Of "buildah from", what happens before there is a container.
	id, err := libimage.Pull(context.Background(), store, os.Args[2])
	if err != nil {
		fatal(err)
	}
	fmt.Println(id)
}

func fatal(err error) {
	fmt.Fprintln(os.Stderr, "Error:", err)
	os.Exit(125)
}
