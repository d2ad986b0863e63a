// Package await calls functions that take no context, such as those of
// containers/storage, which wait in the kernel for the locks of other programs.
package await

import (
	"context"
	"time"
)

// grace is how long what has begun may take to come to its end when the context
// is done. A store is in the middle of writing then, mostly, and would leave a
// temporary file behind, or a layer that the next program has to remove.
const grace = 500 * time.Millisecond

// Do calls do, and returns its error. If ctx is done meanwhile, Do returns soon: nil
// if do has succeeded by then, else the cause of the context's end. What do has
// begun may go on in that case: do must not rely on anything that the caller then
// removes, and what it sets must not be looked at.
func Do(ctx context.Context, do func() error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
	}
	select {
	case err := <-done:
		if err == nil {
			return nil // it is done, and to say otherwise would be wrong
		}
	case <-time.After(grace):
	}
	return context.Cause(ctx)
}
