package house

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// order has the packages from the foundation up: each may import those before it.
var order = []string{
	"fsverity",
	"internal/erofs",
	"splitstream",
	"internal/erofs",
	"composefsrepo",
	"internal/lending",
	"tree",
	"tree/extract",
	"internal/usage",
	"bootc",
	"verify",
	"packages",
	"diff",
	"internal/defaultrepo",
	"reference",
	"internal/hosts",
	"verify",
	"internal/sources",
	"source",
	"transport",
	"zerocopy/unpack",
	"internal/keepannotations",
	"zerocopy",
	"rearchive",
	"identity",
	"internal/registries",
	"push",
	"attached",
	"serve",
	"cmd/skopeo-cfs",
	"docs/copy-booted",
}

// knowing are the packages that may import containers/image and containers/storage.
var knowing = []string{"internal/sources", "internal/keepannotations", "source", "transport", "zerocopy", "rearchive", "identity", "internal/registries", "push", "attached", "cmd/skopeo-cfs", "docs/copy-booted"}

// foundation are the internal packages that the packages above may use. They
// import none of those.
var foundation = []string{
	"internal/await",
	"internal/beneath",
	"internal/blobannotations",
	"internal/cloner",
	"internal/crc64iso",
	"internal/flock",
	"internal/fullname",
	"internal/lostzeros",
	"internal/notice",
	"internal/sqlitetable",
	"internal/tarend",
	"internal/ustar",
}

// libraries are the modules that have containers/image and containers/storage.
var libraries = []string{"github.com/containers/", "go.podman.io/"}

func TestImports(t *testing.T) {
	module := goOutput(t, "list", "-m")
	for _, line := range strings.Split(goOutput(t, "list", "-tags", buildTags, "-f", `{{.ImportPath}} {{join .Imports " "}}`, module+"/..."), "\n") {
		fields := strings.Fields(line)
		name := strings.TrimPrefix(fields[0], module+"/")
		at := slices.Index(order, name)
		isFoundation := slices.Contains(foundation, name)
		if at < 0 && !isFoundation {
			assert.True(t, strings.HasPrefix(name, "internal/"), "%s has no place in the order", name)
			continue
		}
		for _, imported := range fields[1:] {
			own, isOwn := strings.CutPrefix(imported, module+"/")
			switch {
			case isOwn && isFoundation:
				assert.Contains(t, foundation, own, "%s imports %s", name, own)
			case isOwn && !slices.Contains(foundation, own):
				assert.Contains(t, order[:at], own, "%s imports %s", name, own)
			case !slices.Contains(knowing, name):
				for _, library := range libraries {
					assert.False(t, strings.HasPrefix(imported, library), "%s imports %s", name, imported)
				}
			}
		}
	}
}

// buildTags are those of the Makefile.
const buildTags = "containers_image_openpgp exclude_graphdriver_btrfs exclude_graphdriver_devicemapper"

// TestEnvironment: packages below transport do what they are told and read no
// environment variables.
func TestEnvironment(t *testing.T) {
	for _, name := range order[:slices.Index(order, "transport")] {
		if name == "internal/defaultrepo" {
			continue // transport's: it finds what is meant where nothing is said
		}
		files, err := filepath.Glob(filepath.Join("../..", name, "*.go"))
		require.NoError(t, err)
		require.NotEmpty(t, files)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, call := range []string{"os.Getenv", "os.LookupEnv", "os.Environ", "os.ExpandEnv", "os.UserHomeDir", "os.UserCacheDir", "os.TempDir"} {
				assert.NotContains(t, string(text), call, file)
			}
		}
	}
}

// TestQuiet: only the command prints, and logs what a user sees by default.
func TestQuiet(t *testing.T) {
	for _, name := range append(slices.Clone(order), foundation...) {
		if isProgram(name) {
			continue
		}
		files, err := filepath.Glob(filepath.Join("../..", name, "*.go"))
		require.NoError(t, err)
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") {
				continue
			}
			text, err := os.ReadFile(file)
			require.NoError(t, err)
			for _, call := range []string{"fmt.Print", "os.Stdout", "os.Stderr", "log.Print", "logrus.Print", "logrus.Info", "logrus.Warn", "logrus.Error"} {
				assert.NotContains(t, string(text), call, file)
			}
		}
	}
}

func isProgram(name string) bool {
	return strings.HasPrefix(name, "cmd/") || strings.HasPrefix(name, "docs/")
}

func goOutput(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("go", args...)
	cmd.Dir = "../.."
	out, err := cmd.Output()
	require.NoError(t, err, "go %s", strings.Join(args, " "))
	return strings.TrimSpace(string(out))
}
