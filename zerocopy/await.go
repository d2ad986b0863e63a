package zerocopy

import "context"

// await calls do, and returns its error, or that of ctx as soon as ctx is done. A
// store waits for the locks of other programs in the kernel, where no context
// reaches it. What do has begun goes on in that case: do must not rely on anything
// that the caller then removes.
func await(ctx context.Context, do func() error) error {
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
