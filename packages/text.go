package packages

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"io"
	"strconv"
)

// maxLine is how much is held of a line, in bytes; what follows is passed over, since
// it is in no line that is asked for.
const maxLine = 4 << 10

// lines calls visit with the lines of a file, the longest cut. The line is valid
// during the call.
func lines(ctx context.Context, r io.Reader, visit func(line []byte) error) error {
	buffered := bufio.NewReaderSize(r, maxLine)
	for n := 0; ; n++ {
		if n%1024 == 0 && ctx.Err() != nil {
			return ctx.Err()
		}
		line, err := buffered.ReadSlice('\n')
		for more := err; errors.Is(more, bufio.ErrBufferFull); {
			line = bytes.Clone(line[:maxLine])
			if ctx.Err() != nil {
				return ctx.Err()
			}
			_, more = buffered.ReadSlice('\n')
			err = more
		}
		ended := errors.Is(err, io.EOF)
		if err != nil && !ended {
			return err
		}
		if line = bytes.TrimSuffix(line, []byte("\n")); len(line) > 0 || !ended {
			if err := visit(bytes.TrimSuffix(line, []byte("\r"))); err != nil {
				return err
			}
		}
		if ended {
			return nil
		}
	}
}

// parseSize returns a size that a database states in decimal, in units of so many
// bytes; 0 where it is none.
func parseSize(text string, unit int64) int64 {
	n, err := strconv.ParseInt(text, 10, 64)
	if err != nil || n < 0 || n > (1<<62)/unit {
		return 0
	}
	return n * unit
}
