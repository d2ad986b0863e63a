// Command podman stands for podman where images are linked into it.
package main

import (
	"fmt"
	"os"

	"github.com/containers/storage/pkg/reexec"
)

var commands = map[string]func(args []string) error{}

func main() {
	if reexec.Init() {
		return
	}
	run, ok := commands[os.Args[1]]
	if !ok {
		fmt.Fprintln(os.Stderr, "no such command")
		os.Exit(125)
	}
	if err := run(os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "Error:", err)
		os.Exit(125)
	}
}
