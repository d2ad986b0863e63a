// Package notice carries what a user should hear of while a call is under way, from
// the packages, which print nothing, to a program that does.
package notice

import (
	"fmt"
	"sync/atomic"
)

var handler atomic.Pointer[func(string)]

// Handle sets the function that is called with each notice, a line of text. Without
// one, notices are dropped.
func Handle(handle func(text string)) { handler.Store(&handle) }

// Printf gives notice.
func Printf(format string, args ...any) {
	if handle := handler.Load(); handle != nil {
		(*handle)(fmt.Sprintf(format, args...))
	}
}
