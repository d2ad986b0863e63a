package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/skopeo-cfs/skopeo-cfs/internal/needs"
)

// notRun lists the blocks of commands that this test does not run, by page and first
// command.
var notRun = map[string][]string{
	"README.md":          {"make build", "sudo apt install ./bin/release/skopeo-cfs_*_amd64.deb"},
	"docs/build-from.md": {"bootc switch registry.example.com/org/os:custom"}, // changes the host
	// make package-check installs the packages and runs the command.
	"docs/installing.md": {"apt install ./skopeo-cfs_VERSION-1_amd64.deb", "tar xf skopeo-cfs-VERSION.tar.gz && cd skopeo-cfs-VERSION", "podman build -t skopeo-cfs -f contrib/Containerfile .", "make deb rpm dist"},
	// internal/linkinto runs these.
	"docs/linking.md": {
		"make -C skopeo-cfs podmanio-sources",
		"skopeo-cfs/hack/link-into --module-dir skopeo-cfs/build/podmanio --share-blocks --dry-run podman",
		"podman/bin/podman pull -q 'composefs:[repository]hello'",
		"skopeo-cfs/hack/link-into --undo podman",
		"skopeo-cfs/hack/link-into --module-dir skopeo-cfs/build/podmanio --share-blocks skopeo",
		"skopeo-cfs/hack/link-into --module-dir skopeo-cfs/build/podmanio --share-blocks buildah",
	},
	"docs/move.md": {"skopeo copy oci-archive:os.tar oci:/var/tmp/os"}, // ends in bootc switch
	// These change a source tree and publish it.
	"docs/releasing.md": {"go run ./internal/podmanio -update", ".ci/run", "git clone --branch v1.0.0 . build/release && git clone . build/v2", "make -C build/v2 build"},
	"docs/rescue.md":    {"mount -o ro /dev/vda3 /mnt"},
	"docs/serve.md":     {"systemctl enable --now skopeo-cfs-serve.socket"},
	// The server runs until it is ended. In docs/serve.md it runs in the background.
	"docs/skopeo-cfs-serve.1.md": {"skopeo-cfs serve --listen 127.0.0.1:5000"},
	// These need another user, or storage that bootc has made; they have tests of their own.
	"docs/skopeo-cfs-copy.1.md":            {"skopeo-cfs copy --to-user alice composefs:@booted containers-storage:localhost/os"},
	"docs/skopeo-cfs-copy-to-storage.1.md": {"skopeo-cfs copy-to-storage --unified", "skopeo-cfs copy-to-storage --to-user alice"},
}

// airGap is a page whose commands have a test of their own, with machines on both sides.
const airGap = "docs/air-gap.md"

// The commands in README.md and docs do what the pages say: those in blocks marked
// console are run in the order in which they stand, on a bootc host that each page has
// for itself. Where a page shows what a command prints, it prints that.
func TestTheCommandsInTheDocumentation(t *testing.T) {
	needs.Root(t)
	needs.Tool(t, "podman", "crun", "skopeo", "busybox", "unshare", "mkfs.xfs")
	host := newDocumentedHost(t)
	for _, page := range documents(t) {
		var steps []step
		for _, b := range blocksOf(t, page) {
			if b.isRun() {
				steps = append(steps, b.steps...)
			}
		}
		if len(steps) == 0 {
			continue
		}
		t.Run(nameOfPage(page), func(t *testing.T) {
			t.Parallel()
			all := host.run(t, steps)
			for i, got := range all {
				steps[i].check(t, page, got)
			}
			for i, got := range all {
				if t.Failed() { // what went before often says why
					t.Logf("# %s\n%s", steps[i].command, got.output)
				}
			}
		})
	}
}

// Every block with commands is marked console and run, or is in the list of those that
// are not.
func TestNoCommandInTheDocumentationIsLeftOut(t *testing.T) {
	found := map[string][]string{}
	for _, page := range documents(t) {
		name := nameOfPage(page)
		for _, b := range blocksOf(t, page) {
			if !b.isRun() && (b.language == "sh" || len(b.steps) > 0) {
				found[name] = append(found[name], b.first())
			}
		}
	}
	assert.Equal(t, notRun, found)
}

// documents returns the paths of the pages, but for airGap.
func documents(t testing.TB) []string {
	t.Helper()
	pages, err := filepath.Glob("../../docs/*.md")
	require.NoError(t, err)
	require.NotEmpty(t, pages)
	pages = slices.DeleteFunc(pages, func(page string) bool { return nameOfPage(page) == airGap })
	return append([]string{"../../README.md"}, pages...)
}

// nameOfPage returns the path of a page in the project.
func nameOfPage(page string) string { return strings.TrimPrefix(page, "../../") }

// block is a fenced block of a page.
type block struct {
	page, language string
	text           []string
	steps          []step
}

// isRun tells whether the block's commands are run by the test.
func (b block) isRun() bool {
	return b.language == "console" && !slices.Contains(notRun[nameOfPage(b.page)], b.first())
}

// first returns the block's first line, without a prompt.
func (b block) first() string {
	if len(b.steps) > 0 {
		return b.steps[0].command
	}
	return b.text[0]
}

// step is a command of a page, with what the page says that it prints.
type step struct {
	line    int
	command string
	output  []string
}

// blocksOf returns the fenced blocks of a page.
func blocksOf(t testing.TB, page string) []block {
	t.Helper()
	data, err := os.ReadFile(page)
	require.NoError(t, err)
	var blocks []block
	inside := false
	for i, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
		switch language, fence := strings.CutPrefix(line, "```"); {
		case fence && inside:
			inside = false
			b := &blocks[len(blocks)-1]
			require.NotEmpty(t, b.text, "%s:%d: an empty block", page, i+1)
		case fence:
			inside = true
			blocks = append(blocks, block{page: page, language: language})
		case inside:
			blocks[len(blocks)-1].add(i+1, line)
		}
	}
	require.False(t, inside, "%s: a block without an end", page)
	return blocks
}

// add adds a line: a command after a prompt, the rest of one, or what it prints.
func (b *block) add(number int, line string) {
	b.text = append(b.text, line)
	command, ok := strings.CutPrefix(line, "$ ")
	if !ok && b.language != "sh" && b.language != "ini" && b.language != "toml" {
		command, ok = strings.CutPrefix(line, "# ")
	}
	switch n := len(b.steps) - 1; {
	case ok:
		b.steps = append(b.steps, step{line: number, command: command})
	case n < 0:
	case len(b.steps[n].output) == 0 && strings.HasSuffix(b.steps[n].command, `\`):
		b.steps[n].command += "\n" + line
	default:
		b.steps[n].output = append(b.steps[n].output, line)
	}
}

// check compares what a command did with what the page says. A command fails if the
// page shows its error, and only then.
func (s step) check(t testing.TB, page string, got ran) {
	t.Helper()
	where := fmt.Sprintf("%s:%d: %s", page, s.line, s.command)
	if !got.done {
		assert.Fail(t, "was not run", where)
		return
	}
	fails := slices.ContainsFunc(s.output, func(line string) bool {
		return strings.HasPrefix(line, "skopeo-cfs: ") || strings.HasPrefix(line, "Error: ")
	})
	assert.Equal(t, fails, got.code != 0, "%s: exit code %d, and:\n%s", where, got.code, got.output)
	if want := strings.TrimSpace(strings.Join(s.output, "\n")); want != "" {
		assert.Regexp(t, pattern(want), spaced(got.output), where)
	}
}

var (
	spaces = regexp.MustCompile(`[ \t]+`)
	ages   = regexp.MustCompile(`\b(\d+|About an?) \w+ ago\b`)
)

// spaced makes columns one space wide, as their width varies with what is in them, and
// everything as old.
func spaced(text string) string {
	var b strings.Builder
	text = ages.ReplaceAllString(text, "10 months ago")
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		b.WriteString(strings.TrimRight(spaces.ReplaceAllString(line, " "), " ") + "\n")
	}
	return b.String()
}

// pattern returns the regular expression of an output in a page. A line of ... stands
// for any lines, ... in a line for anything.
func pattern(want string) string {
	var b strings.Builder
	for line := range strings.Lines(spaced(want)) {
		if line == "...\n" {
			b.WriteString(`(?:.*\n)*?`)
			continue
		}
		b.WriteString(strings.ReplaceAll(regexp.QuoteMeta(line), regexp.QuoteMeta("..."), ".*"))
	}
	return `\A` + b.String() + `\z`
}

// The errors that docs/troubleshooting.md explains are those of the sources.
func TestTheErrorsInTroubleshootingAreThoseOfTheSources(t *testing.T) {
	page, err := os.ReadFile("../../docs/troubleshooting.md")
	require.NoError(t, err)
	rows := regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(string(page), -1)
	require.NotEmpty(t, rows)
	var sources strings.Builder
	for _, pattern := range []string{"*.go", "../../*/*.go", "../../zerocopy/unpack/*.go", "../../internal/*/*.go"} {
		paths, err := filepath.Glob(pattern)
		require.NoError(t, err)
		for _, path := range paths {
			if !strings.HasSuffix(path, "_test.go") {
				source, err := os.ReadFile(path)
				require.NoError(t, err)
				sources.Write(source)
			}
		}
	}
	for _, row := range rows {
		if row[1] != "Source image rejected" { // of containers/image
			assert.True(t, strings.Contains(sources.String(), row[1]), row[1])
		}
	}
}
