// Package house has the tests that hold for the module as a whole: which package
// may import which, and what the packages export.
package house
