// Package house has tests of the module as a whole: which package may import which,
// and what the packages export.
package house
