package main

import (
	"io"
	"os"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"
)

// isTerminal tells whether an output is a terminal.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// showsBars tells whether what is written to out shows on a terminal that can move its
// cursor, as bars need it.
func showsBars(out io.Writer) bool {
	return isTerminal(out) && os.Getenv("TERM") != "dumb"
}

// linesUnlessTerminal returns a writer to out that no library takes for a terminal,
// unless it is one that can show bars.
func linesUnlessTerminal(out io.Writer) io.Writer {
	if showsBars(out) {
		return out
	}
	return struct{ io.Writer }{out}
}

// setLogColors has messages without colors where the user wants none
// (https://no-color.org), or the terminal has none.
func setLogColors() {
	if os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		logrus.SetFormatter(&logrus.TextFormatter{DisableColors: true})
	}
}
