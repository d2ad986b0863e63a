// Package vmtest has tests that run in a virtual machine, because they need a kernel
// and filesystems with fs-verity.
package vmtest
