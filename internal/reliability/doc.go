// Package reliability tests the command from outside: beside other programs that
// use the same containers-storage, killed, interrupted, waiting for a lock, on a
// full disk. It has tests only. Each is a row of docs/reliability.md, which the
// long form of the tests writes:
//
//	go test ./internal/reliability -args -each 1m -report FILE
//
// Without -each the tests take the short form, which is part of the gate.
package reliability
