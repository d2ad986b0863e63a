package attached_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/containers/image/v5/copy"
	"github.com/containers/image/v5/docker/reference"
	"github.com/containers/image/v5/manifest"
	"github.com/containers/image/v5/signature"
	"github.com/containers/image/v5/signature/sigstore"
	imagestorage "github.com/containers/image/v5/storage"
	"github.com/containers/image/v5/transports/alltransports"
	"github.com/containers/image/v5/types"
	"github.com/containers/storage"
	imgspecv1 "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/attached"
	"github.com/skopeo-cfs/skopeo-cfs/composefsrepo"
	"github.com/skopeo-cfs/skopeo-cfs/identity"
	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
	"github.com/skopeo-cfs/skopeo-cfs/internal/notice"
	"github.com/skopeo-cfs/skopeo-cfs/internal/original"
	"github.com/skopeo-cfs/skopeo-cfs/source"
	_ "github.com/skopeo-cfs/skopeo-cfs/transport"
	"github.com/skopeo-cfs/skopeo-cfs/zerocopy"
)

// signedName is what signatures say that the image is.
const signedName = "registry.example/org/os:1"

// key signs images, and has what policies demand of them.
type key struct {
	sign        func(t testing.TB, o original.Image) attached.Signature
	requirement map[string]any
}

// newSigstoreKey returns a new key of sigstore.
func newSigstoreKey(t testing.TB) key {
	t.Helper()
	dir := t.TempDir()
	keys := must(sigstore.GenerateKeyPair([]byte("secret")))
	private, public := filepath.Join(dir, "private"), filepath.Join(dir, "public")
	require.NoError(t, os.WriteFile(private, keys.PrivateKey, 0o600))
	require.NoError(t, os.WriteFile(public, keys.PublicKey, 0o644))
	return key{func(t testing.TB, o original.Image) attached.Signature {
		from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
		require.NoError(t, os.Mkdir(from, 0o755))
		require.NoError(t, os.WriteFile(filepath.Join(from, "manifest.json"), o.Manifest, 0o644))
		for d, blob := range o.Blobs {
			require.NoError(t, os.WriteFile(filepath.Join(from, d.Encoded()), blob, 0o644))
		}
		policy := must(signature.NewPolicyContext(&signature.Policy{Default: []signature.PolicyRequirement{signature.NewPRInsecureAcceptAnything()}}))
		defer policy.Destroy()
		_, err := copy.Image(t.Context(), policy, must(alltransports.ParseImageName("dir:"+to)), must(alltransports.ParseImageName("dir:"+from)), &copy.Options{
			SignBySigstorePrivateKeyFile: private, SignSigstorePrivateKeyPassphrase: []byte("secret"),
			SignIdentity: named(t, signedName), PreserveDigests: true,
		})
		require.NoError(t, err)
		return must(os.ReadFile(filepath.Join(to, "signature-1")))
	}, map[string]any{"type": "sigstoreSigned", "keyPath": public}}
}

// newOpenPGPKey returns a new key of OpenPGP.
func newOpenPGPKey(t testing.TB) key {
	t.Helper()
	needs.Tool(t, "gpg", "gpgconf")
	home, err := os.MkdirTemp("", "gnupg") // short, for the sake of the agent's socket
	require.NoError(t, err)
	t.Cleanup(func() {
		_ = exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	gpg := func(args ...string) {
		out, err := exec.Command("gpg", append([]string{"--homedir", home, "--batch", "--quiet", "--yes"}, args...)...).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	gpg("--passphrase", "", "--quick-generate-key", "os@example.com", "rsa2048", "sign", "never")
	public := filepath.Join(home, "public")
	gpg("--output", public, "--export", "os@example.com")
	return key{func(t testing.TB, o original.Image) attached.Signature {
		payload, signed := filepath.Join(home, "payload"), filepath.Join(home, "signed")
		require.NoError(t, os.WriteFile(payload, fmt.Appendf(nil, `{"critical": {"type": "atomic container signature", "image": {"docker-manifest-digest": %q}, "identity": {"docker-reference": %q}}, "optional": {}}`, o.Digest, signedName), 0o644))
		gpg("--output", signed, "--sign", payload)
		return must(os.ReadFile(signed))
	}, map[string]any{"type": "signedBy", "keyType": "GPGKeys", "keyPath": public}}
}

// policy demands a signature with the key on images in a repository, and refuses all
// others.
func (k key) policy(t testing.TB, repository string) *signature.PolicyContext {
	t.Helper()
	requirement := map[string]any{"signedIdentity": map[string]string{"type": "exactRepository", "dockerRepository": "registry.example/org/os"}}
	for name, value := range k.requirement {
		requirement[name] = value
	}
	raw := must(json.Marshal(map[string]any{
		"default":    []any{map[string]any{"type": "reject"}},
		"transports": map[string]any{"composefs": map[string]any{repository: []any{requirement}}},
	}))
	policy := must(signature.NewPolicyContext(must(signature.NewPolicyFromBytes(raw))))
	t.Cleanup(func() { require.NoError(t, policy.Destroy()) })
	return policy
}

// copyFunc is copy.Image, or zerocopy.Copy.
type copyFunc func(context.Context, *signature.PolicyContext, types.ImageReference, types.ImageReference, *copy.Options) ([]byte, error)

// signedRepository is a repository with an image that a registry has, and a reference
// to it.
func signedRepository(t testing.TB, how original.How) (original.Image, string, types.ImageReference) {
	t.Helper()
	o := original.New(t, "hello")
	path := filepath.Join(must(filepath.EvalSymlinks(t.TempDir())), "repository")
	o.AddTo(t, path, "localhost/os:latest", how)
	ref := must(alltransports.ParseImageName("composefs:[" + path + "]@" + o.ID.String()))
	return o, path, identity.With(ref, o.Manifest)
}

// having returns how the signatures are found.
func having(signatures ...attached.Signature) source.FindSignatures {
	return func(context.Context, *composefsrepo.Image) ([][]byte, error) {
		var all [][]byte
		for _, s := range signatures {
			all = append(all, s)
		}
		return all, nil
	}
}

// A policy that demands a signature accepts an image whose signature was found, and
// refuses it with the signature of another key, of another image, and with none; and it
// refuses another manifest of the image. copy.Image can't have signatures of sigstore,
// and that is said.
func TestPolicyAcceptsWhatIsSigned(t *testing.T) {
	for kind, keys := range map[string][2]key{
		"sigstore": {newSigstoreKey(t), newSigstoreKey(t)},
		"OpenPGP":  {newOpenPGPKey(t), newOpenPGPKey(t)},
	} {
		for way, how := range original.Ways {
			t.Run(kind+"/"+way, func(t *testing.T) {
				o, path, ref := signedRepository(t, how)
				policy, right := keys[0].policy(t, path), keys[0].sign(t, o)
				otherImage := keys[0].sign(t, original.New(t, "kinds"))
				otherManifest := identity.With(ref, o.ManifestOf(t, func(m *imgspecv1.Manifest) { m.Annotations["x"] = "y" }))
				accepts := func(copied copyFunc, ref types.ImageReference, signatures ...attached.Signature) error {
					to := must(alltransports.ParseImageName("dir:" + filepath.Join(t.TempDir(), "copy")))
					_, err := copied(t.Context(), policy, to, source.Signed(ref, having(signatures...)), &copy.Options{RemoveSignatures: true})
					return err
				}
				for name, copied := range map[string]copyFunc{"copy.Image": copy.Image, "zerocopy.Copy": zerocopy.Copy} {
					said := ""
					notice.Handle(func(text string) { said += text })
					err := accepts(copied, ref, right)
					notice.Handle(func(string) {})
					if name == "copy.Image" && right.IsSigstore() {
						assert.ErrorContains(t, err, "ource image rejected", name)
						assert.Contains(t, said, "manifest "+o.Digest.String()+" has signatures of sigstore, 1,")
						continue
					}
					assert.NoError(t, err, name)
					assert.NoError(t, accepts(copied, source.Repaired(ref), otherImage, right), name)
					for what, signatures := range map[string][]attached.Signature{
						"another key": {keys[1].sign(t, o)}, "another image": {otherImage}, "none": nil, "altered": {alter(right)},
					} {
						assert.ErrorContains(t, accepts(copied, ref, signatures...), "rejected", "%s: %s", name, what)
					}
					assert.ErrorContains(t, accepts(copied, otherManifest, right), "rejected", name)
				}
			})
		}
	}
}

// alter returns a signature with another byte in its middle.
func alter(s attached.Signature) attached.Signature {
	altered := append(attached.Signature{}, s...)
	altered[len(altered)/2] ^= 1
	return altered
}

// Whoever is not asked for signatures looks for none, and who is looks once.
func TestSignaturesAreLookedForWhenAsked(t *testing.T) {
	_, _, ref := signedRepository(t, original.Pulled)
	looked := 0
	find := func(context.Context, *composefsrepo.Image) ([][]byte, error) {
		looked++
		if looked == 1 {
			return nil, os.ErrDeadlineExceeded
		}
		return [][]byte{{1}}, nil
	}
	src := must(source.Signed(ref, find).NewImageSource(t.Context(), nil))
	defer src.Close()
	_, _, err := src.GetManifest(t.Context(), nil)
	require.NoError(t, err)
	assert.Zero(t, looked)
	_, err = src.GetSignatures(t.Context(), nil)
	assert.ErrorIs(t, err, os.ErrDeadlineExceeded)
	for range 2 {
		signatures, err := src.GetSignatures(t.Context(), nil)
		require.NoError(t, err)
		assert.Equal(t, [][]byte{{1}}, signatures)
		assert.Equal(t, 2, looked)
	}
	plain := must(ref.NewImageSource(t.Context(), nil))
	defer plain.Close()
	assert.Empty(t, must(plain.GetSignatures(t.Context(), nil)))
}

// Signatures that a registry or a store has are found there, and arrive in another store
// with the manifest that they are of; those of sigstore are for the program to add.
func TestSignaturesAreFoundInPlaces(t *testing.T) {
	needs.Root(t)
	o, path, ref := signedRepository(t, original.Raw)
	simple, modern := newOpenPGPKey(t), newSigstoreKey(t)
	both := []attached.Signature{simple.sign(t, o), modern.sign(t, o)}
	sys, name := system(t), named(t, serve(t, true)+"/org/os:1")
	o.Push(t, reference.Domain(name), "org/os", "1")
	must(attached.ToRegistry(t.Context(), sys, name, o.Digest, both))

	from, to := newStore(t), newStore(t)
	_, err := from.CreateImage(o.ID.Encoded(), nil, "", "", &storage.ImageOptions{Digest: o.Digest})
	require.NoError(t, err)
	require.NoError(t, from.SetImageBigData(o.ID.Encoded(), "manifest", o.Manifest, manifest.Digest))
	must(attached.ToStore(from, o.ID.Encoded(), o.Digest, both))

	dest := must(imagestorage.Transport.NewStoreReference(to, named(t, "localhost/os:latest"), ""))
	inRegistry := attached.With(ref, attached.Places{Origins: []reference.Named{name}, System: sys})
	_, err = zerocopy.Copy(t.Context(), modern.policy(t, path), dest, inRegistry, &copy.Options{SourceCtx: sys})
	require.NoError(t, err)
	_, err = zerocopy.Copy(t.Context(), simple.policy(t, path), dest, inRegistry, &copy.Options{SourceCtx: sys})
	assert.ErrorContains(t, err, "rejected", "a registry has none of OpenPGP")

	inStore := attached.With(ref, attached.Places{Stores: []string{from.GraphRoot()}})
	for _, k := range []key{modern, simple} {
		copied, err := zerocopy.Copy(t.Context(), k.policy(t, path), dest, inStore, nil)
		require.NoError(t, err)
		assert.Equal(t, o.Manifest, copied)
		assert.Equal(t, both[:1], must(attached.FromStore(to.GraphRoot(), o.ID.Encoded(), o.Digest)))
	}
	must(attached.ToStore(to, o.ID.Encoded(), o.Digest, both))
	assert.Equal(t, both, must(attached.FromStore(to.GraphRoot(), o.ID.Encoded(), o.Digest)))
}

func newStore(t testing.TB) storage.Store {
	t.Helper()
	dir := t.TempDir()
	store := must(storage.GetStore(storage.StoreOptions{GraphRoot: filepath.Join(dir, "root"), RunRoot: filepath.Join(dir, "run"), GraphDriverName: "vfs"}))
	t.Cleanup(func() { _, err := store.Shutdown(true); require.NoError(t, err) })
	return store
}
