package main

import (
	"io"
	"os"

	"github.com/sirupsen/logrus"
	"golang.org/x/term"
)

// showsBars tells whether what is written to out shows on a terminal that can move its
// cursor, as bars need it.
func showsBars(out io.Writer) bool {
	file, ok := out.(*os.File)
	return ok && term.IsTerminal(int(file.Fd())) && os.Getenv("TERM") != "dumb"
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
