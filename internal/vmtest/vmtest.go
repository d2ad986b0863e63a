// Package vmtest has tests that run in a virtual machine: those of what needs a
// kernel with fs-verity, on filesystems that have it.
package vmtest
