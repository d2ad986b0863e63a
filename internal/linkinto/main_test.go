package main

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

// TestMain runs the tests where the flag -all was given, as by make link-test: they
// have the go command resolve, vendor and build whole programs, which takes minutes.
func TestMain(m *testing.M) {
	flag.Parse()
	if !*all {
		fmt.Println("make link-test has these tests")
		return
	}
	os.Exit(m.Run())
}
