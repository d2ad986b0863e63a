package await_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"

	"github.com/skopeo-cfs/skopeo-cfs/internal/await"
)

var errCause = errors.New("the cause")

func TestDoReturnsTheError(t *testing.T) {
	assert.NoError(t, await.Do(t.Context(), func() error { return nil }))
	assert.Equal(t, errCause, await.Do(t.Context(), func() error { return errCause }))
}

// What never ends keeps nobody waiting for long.
func TestDoEndsWithTheContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		stuck := make(chan struct{})
		defer close(stuck)
		start := time.Now()
		assert.Equal(t, errCause, await.Do(ctx, func() error {
			cancel(errCause)
			<-stuck
			return nil
		}))
		assert.Less(t, time.Since(start), time.Second)
	})
}

// What is about to end is waited for.
func TestDoLetsFinishWhatIsAboutToEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		assert.NoError(t, await.Do(ctx, func() error {
			cancel(errCause)
			time.Sleep(100 * time.Millisecond)
			return nil
		}))
	})
}

// An error after the context's end is taken for its consequence.
func TestDoReturnsTheCause(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		assert.Equal(t, errCause, await.Do(ctx, func() error {
			cancel(errCause)
			time.Sleep(100 * time.Millisecond)
			return errors.New("a read was cancelled")
		}))
	})
}

func TestDoBeginsNothingAfterTheContext(t *testing.T) {
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errCause)
	assert.Equal(t, errCause, await.Do(ctx, func() error {
		t.Error("it was called")
		return nil
	}))
}
