package main

import (
	"errors"
	"fmt"
	"io/fs"
)

// explainPolicy says what a user can do who has no trust policy, as on a
// machine without any of the containers packages.
func explainPolicy(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("reading the trust policy: %w; name one with --policy, or use --insecure-policy", err)
	}
	return fmt.Errorf("reading the trust policy: %w", err)
}
