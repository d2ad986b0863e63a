package tartest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"testing"

	"github.com/containers/storage/pkg/archive"
	"github.com/containers/storage/pkg/reexec"
	"github.com/containers/storage/pkg/unshare"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// extractor is a process that unpacks as chrootarchive.UntarUncompressed does it:
// by archive.Unpack, with the directory for its root. That starts a process for
// each tar, and this one leaves the directory again for the next: else most of
// the time for fuzzing would go into starting processes.
type extractor struct {
	requests  *json.Encoder
	responses *json.Decoder
}

// extraction is what an extractor is told.
type extraction struct {
	Dest    string
	Options *archive.TarOptions
	Tar     []byte
}

const extractorName = "tartest-extractor"

func init() { reexec.Register(extractorName, extract) }

// extract is what the process runs.
func extract() {
	outside, err := unix.Open("/", unix.O_PATH|unix.O_DIRECTORY, 0)
	if err != nil {
		panic(err)
	}
	requests, responses := json.NewDecoder(os.Stdin), json.NewEncoder(os.Stdout)
	for {
		var request extraction
		if err := requests.Decode(&request); err != nil {
			return
		}
		if err := errors.Join(unix.Chdir(request.Dest), unix.Chroot("."), unix.Chdir("/")); err != nil {
			panic(err)
		}
		message := ""
		if err := archive.Unpack(bytes.NewReader(request.Tar), "/", request.Options); err != nil {
			message = fmt.Sprintf("%v (%T)", err, err)
		}
		if err := errors.Join(unix.Fchdir(outside), unix.Chroot("."), responses.Encode(message)); err != nil {
			panic(err)
		}
	}
}

// extractors are those for processes in a user namespace, and not.
var extractors = map[bool]func() (*extractor, error){
	false: sync.OnceValues(func() (*extractor, error) { return startExtractor(false) }),
	true:  sync.OnceValues(func() (*extractor, error) { return startExtractor(true) }),
}

func startExtractor(inUserNS bool) (*extractor, error) {
	command := reexec.Command(extractorName)
	command.Env = os.Environ()
	if inUserNS {
		command.Env = append(command.Env, unshare.UsernsEnvName+"=done")
	}
	in, err := command.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := command.StdoutPipe()
	if err != nil {
		return nil, err
	}
	return &extractor{json.NewEncoder(in), json.NewDecoder(out)}, command.Start()
}

// Extract unpacks a tar into the directory dest, as containers-storage unpacks a
// layer. It needs root, and a TestMain that calls reexec.Init. The error has the text
// and the type of theirs.
func Extract(t testing.TB, content []byte, dest string, options *archive.TarOptions) error {
	t.Helper()
	e, err := extractors[options.InUserNS]()
	require.NoError(t, err)
	require.NoError(t, e.requests.Encode(extraction{dest, options, content}))
	var message string
	if err := e.responses.Decode(&message); err != nil {
		require.NotErrorIs(t, err, io.EOF, "the extractor has ended")
		require.NoError(t, err)
	}
	if message != "" {
		return errors.New(message)
	}
	return nil
}
