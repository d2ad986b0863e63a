//go:build !remote

package main

import (
	"context"
	"fmt"

	"github.com/containers/common/libimage"
	"github.com/containers/storage"
)

func init() {
	commands["pull"] = func(args []string) error {
		store, err := newStore()
		if err != nil {
			return err
		}
		for _, name := range args {
			if name == "-q" {
				continue
			}
			id, err := libimage.Pull(context.Background(), store, name)
			if err != nil {
				return err
			}
			fmt.Println(id)
		}
		return nil
	}
	commands["tag"] = func(args []string) error {
		store, err := newStore()
		if err != nil {
			return err
		}
		return store.AddNames(args[0], []string{args[1] + ":latest"})
	}
	commands["images"] = func(args []string) error {
		store, err := newStore()
		if err != nil {
			return err
		}
		images, err := store.Images()
		if err != nil {
			return err
		}
		for _, image := range images {
			fmt.Println(image.ID, image.Names)
		}
		return nil
	}
}

func newStore() (storage.Store, error) {
	options, err := storage.DefaultStoreOptions()
	if err != nil {
		return nil, err
	}
	return storage.GetStore(options)
}
