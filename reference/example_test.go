package reference_test

import (
	"fmt"
	"log"

	"github.com/skopeo-cfs/skopeo-cfs/reference"
)

func ExampleParse() {
	r, err := reference.Parse("[/srv/repository]quay.io/org/os:42")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println("repository:", r.Repository())
	fmt.Println("tag:", r.Tag())
	fmt.Println(r)
	// Output:
	// repository: /srv/repository
	// tag: quay.io/org/os:42
	// [/srv/repository]quay.io/org/os:42
}

// A short name finds the tag that it is short for.
func ExampleFind() {
	tag, err := reference.Find("hello", []string{"localhost/hello:latest", "quay.io/org/os:42"})
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(tag)
	// Output: localhost/hello:latest
}
