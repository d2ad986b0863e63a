package zerocopy_test

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/signature"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/storage"
	"github.com/containers/storage/pkg/reexec"

	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// copyingProcess is the name under which the test starts itself to copy an image
// in a process of its own.
const copyingProcess = "zerocopy-test-copy"

// copyProcess returns a process that copies an image of a repository into the
// overlay store below dir: fast, or the plain way.
func copyProcess(dir, repo, name string, fast bool) (cmd *exec.Cmd, output *bytes.Buffer) {
	cmd = reexec.Command(copyingProcess, dir, repo, name, fmt.Sprint(fast))
	output = &bytes.Buffer{}
	cmd.Stdout, cmd.Stderr = output, output
	return cmd, output
}

// copyInProcess is what the process does.
func copyInProcess() {
	if err := runCopy(os.Args[1], os.Args[2], os.Args[3], os.Args[4] == "true"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func runCopy(dir, repo, name string, fast bool) error {
	store, err := storage.GetStore(storeOptions(dir, "overlay"))
	if err != nil {
		return err
	}
	dest, err := imagestorage.Transport.ParseStoreReference(store, copied)
	if err != nil {
		return err
	}
	src, err := alltransports.ParseImageName("composefs:[" + repo + "]" + name)
	if err != nil {
		return err
	}
	policy, err := signature.NewPolicyContext(&signature.Policy{
		Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()},
	})
	if err != nil {
		return err
	}
	if fast {
		_, _, err = zerocopy.Image(context.Background(), policy, dest, src, nil, nil)
	} else {
		_, err = copy.Image(context.Background(), policy, dest, src, &copy.Options{})
	}
	return err
}

// wait waits for a process that is to succeed.
func wait(t testing.TB, cmd *exec.Cmd, output *bytes.Buffer) {
	t.Helper()
	if err := cmd.Wait(); err != nil {
		t.Errorf("copying: %v: %s", err, output)
	}
}
