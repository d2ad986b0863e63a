package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/pkg/cli"
	"github.com/containers/image/v5/pkg/cli/sigstore"
	"github.com/containers/image/v5/signature/signer"
	"github.com/spf13/pflag"
	"golang.org/x/term"
)

// signingOptions say which signatures a copy gets, with skopeo's names.
type signingOptions struct {
	remove         bool
	bySigstore     string
	byPrivateKey   string
	identity       string
	passphraseFile string

	signers []*signer.Signer
}

func (o *signingOptions) addFlags(flags *pflag.FlagSet) {
	flags.BoolVar(&o.remove, "remove-signatures", false, "do not copy the source's signatures")
	flags.StringVar(&o.bySigstore, "sign-by-sigstore", "", "sign the copy with the sigstore parameter file at `path`; see containers-sigstore-signing-params.yaml(5)")
	flags.StringVar(&o.byPrivateKey, "sign-by-sigstore-private-key", "", "sign the copy with the sigstore private key at `path`")
	flags.StringVar(&o.passphraseFile, "sign-passphrase-file", "", "read the passphrase of the private key from the file at `path`")
}

// addIdentityFlag adds the flag of what signs one image.
func (o *signingOptions) addIdentityFlag(flags *pflag.FlagSet) {
	flags.StringVar(&o.identity, "sign-identity", "", "`reference` that the signature is for (default: the destination's)")
}

// apply sets what the flags say. The caller calls close after the copy.
func (o *signingOptions) apply(ctx context.Context, options *copy.Options, stdout io.Writer) error {
	options.RemoveSignatures = o.remove
	if o.bySigstore == "" && o.byPrivateKey == "" {
		if o.identity != "" || o.passphraseFile != "" {
			return fmt.Errorf("--sign-identity and --sign-passphrase-file need --sign-by-sigstore or --sign-by-sigstore-private-key")
		}
		return nil
	}
	if o.identity != "" {
		named, err := reference.ParseNamed(o.identity)
		if err != nil {
			return fmt.Errorf("--sign-identity %q: %w", o.identity, err)
		}
		options.SignIdentity = named
	}
	if o.byPrivateKey != "" {
		passphrase, err := o.passphrase(ctx)
		if err != nil {
			return err
		}
		options.SignBySigstorePrivateKeyFile, options.SignSigstorePrivateKeyPassphrase = o.byPrivateKey, passphrase
	}
	if o.bySigstore != "" {
		signer, err := sigstore.NewSignerFromParameterFile(o.bySigstore, &sigstore.Options{
			PrivateKeyPassphrasePrompt: func(string) (string, error) {
				passphrase, err := o.passphrase(ctx)
				return string(passphrase), err
			},
			Stdin: os.Stdin, Stdout: stdout,
		})
		if err != nil {
			return fmt.Errorf("--sign-by-sigstore: %w", err)
		}
		o.signers = append(o.signers, signer)
		options.Signers = o.signers
	}
	return nil
}

// passphrase reads the passphrase of a private key from its file, else from the
// terminal.
func (o *signingOptions) passphrase(ctx context.Context) ([]byte, error) {
	if o.passphraseFile != "" {
		passphrase, err := cli.ReadPassphraseFile(o.passphraseFile)
		if err != nil {
			return nil, fmt.Errorf("--sign-passphrase-file: %w", err)
		}
		return []byte(passphrase), nil
	}
	return promptForPassphrase(ctx)
}

// promptForPassphrase asks for the passphrase on the terminal. When the context ends, the
// terminal shows again what is typed.
func promptForPassphrase(ctx context.Context) ([]byte, error) {
	stdin := int(os.Stdin.Fd())
	before, err := term.GetState(stdin)
	if err != nil {
		return nil, errors.New("standard input is not a terminal, so the passphrase can't be asked for: use --sign-passphrase-file")
	}
	fmt.Fprint(os.Stderr, "Passphrase of the private key: ")
	defer fmt.Fprintln(os.Stderr)
	var passphrase []byte
	done := make(chan error, 1)
	go func() {
		var err error
		passphrase, err = term.ReadPassword(stdin)
		done <- err
	}()
	select {
	case err = <-done:
	case <-ctx.Done():
		return nil, errors.Join(context.Cause(ctx), term.Restore(stdin, before))
	}
	if err != nil {
		return nil, fmt.Errorf("reading the passphrase: %w", err)
	}
	return passphrase, nil
}

// close ends the use of what signs.
func (o *signingOptions) close() {
	for _, s := range o.signers {
		_ = s.Close() // nothing is lost by it
	}
}
