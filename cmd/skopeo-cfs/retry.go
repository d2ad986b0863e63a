package main

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/containers/common/pkg/retry"
	"github.com/spf13/pflag"
)

// retryOptions say how often something is tried again that a network has made fail.
type retryOptions struct {
	times int
	delay time.Duration
}

func (o *retryOptions) addFlags(flags *pflag.FlagSet) {
	flags.IntVar(&o.times, "retry-times", 0, "`number` of retries after an error of the network or the registry")
	flags.DurationVar(&o.delay, "retry-delay", 0, "`time` to wait before a retry (default: one second, doubled with each retry)")
}

// do calls what until it succeeds, or has failed too often, or for a reason that does
// not pass.
func (o *retryOptions) do(ctx context.Context, what func() error) error {
	return retry.IfNecessary(ctx, what, &retry.Options{
		MaxRetry: o.times, Delay: o.delay,
		IsErrorRetryable: func(err error) bool { return ctx.Err() == nil && isRetryable(err) },
	})
}

// isRetryable is retry.IsErrorRetryable, which does not look into joined errors: all
// of these have to be such.
func isRetryable(err error) bool {
	for ; err != nil; err = errors.Unwrap(err) {
		if retry.IsErrorRetryable(err) {
			return true
		}
		if joined, ok := err.(interface{ Unwrap() []error }); ok {
			return !slices.ContainsFunc(joined.Unwrap(), func(err error) bool { return !isRetryable(err) })
		}
	}
	return false
}
