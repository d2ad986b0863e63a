// Package notice takes messages to the user from the packages, which print nothing, to
// the program, which prints them while a call is running.
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
