// Command askstore prints which store containers/storage opens where nothing is
// said of it, as podman does: its root, its driver and the names of its images,
// on a line each.
package main

import (
	"fmt"
	"log"

	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"
)

func main() {
	if reexec.Init() {
		return
	}
	options, err := storage.DefaultStoreOptions()
	if err != nil {
		log.Fatal(err)
	}
	store, err := storage.GetStore(options)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(store.GraphRoot())
	fmt.Println(store.GraphDriverName())
	images, err := store.Images()
	if err != nil {
		log.Fatal(err)
	}
	for _, image := range images {
		for _, name := range image.Names {
			fmt.Println(name)
		}
	}
	if _, err := store.Shutdown(false); err != nil {
		log.Fatal(err)
	}
}
