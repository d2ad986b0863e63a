//go:build !cgo

package main

// hasCgo: the C code that makes user namespaces is part of the program.
const hasCgo = false
