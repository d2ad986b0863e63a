package bootc

import (
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/moby/sys/mountinfo"

	"github.com/skopeo-cfs/skopeo-cfs/fsverity"
)

// parseID returns the deployment ID that is the value of a composefs argument:
// a ? before it allows objects without fs-verity.
func parseID(value string) (id string, ok bool) {
	id = strings.TrimPrefix(value, "?")
	_, err := fsverity.Parse(id)
	return id, err == nil
}

// idOfMounts returns the deployment ID in the source of what is mounted at /,
// "" if another filesystem is. Of several mounts the last covers the others.
func idOfMounts(table io.Reader) (string, error) {
	id := ""
	_, err := mountinfo.GetMountsFromReader(table, func(m *mountinfo.Info) (skip, stop bool) {
		if m.Mountpoint == "/" {
			id = idOfMountSource(m.Source)
		}
		return true, false
	})
	return id, err
}

// idOfMountSource returns the deployment ID in composefs:ID or
// transient:composefs=ID, "" of any other source.
func idOfMountSource(source string) string {
	name, value, ok := strings.Cut(strings.TrimPrefix(source, "transient:"), "composefs")
	if !ok || name != "" || value == "" || value[0] != ':' && value[0] != '=' {
		return ""
	}
	id, ok := parseID(value[1:])
	if !ok {
		return ""
	}
	return id
}

// idsOfCommandLine returns the deployment IDs in the arguments of a kernel, in the
// order in which the initramfs looks for their images: those of
// composefs.digest=FORMAT:ID that are of the repository's algorithm, of any if that
// is the zero Algorithm; then the first of composefs=ID.
func idsOfCommandLine(line string, algorithm fsverity.Algorithm) []string {
	var ids []string
	last := ""
	for _, argument := range splitCommandLine(line) {
		key, value, _ := strings.Cut(argument, "=")
		switch key {
		case "composefs.digest":
			if of, id, ok := parseDigest(value); ok && (of == algorithm || algorithm == fsverity.Algorithm{}) {
				ids = append(ids, id)
			}
		case "composefs":
			if id, ok := parseID(value); ok && last == "" {
				last = id
			}
		}
	}
	if last != "" {
		ids = append(ids, last)
	}
	return ids
}

// parseDigest returns the algorithm and the deployment ID that are the value of a
// composefs.digest argument, [?]FORMAT:ID with a FORMAT such as v1-sha512-12: the
// version of the EROFS image's format, and the algorithm.
func parseDigest(value string) (fsverity.Algorithm, string, bool) {
	format, text, _ := strings.Cut(strings.TrimPrefix(value, "?"), ":")
	version, name, _ := strings.Cut(format, "-")
	number, ok := strings.CutPrefix(version, "v")
	if _, err := strconv.ParseUint(number, 10, 32); err != nil || !ok {
		return fsverity.Algorithm{}, "", false
	}
	algorithm, err := fsverity.ParseAlgorithm("fsverity-" + name)
	if err != nil {
		return fsverity.Algorithm{}, "", false
	}
	id, err := fsverity.Parse(text)
	return algorithm, text, err == nil && id.Size() == algorithm.Size()
}

// splitCommandLine splits the arguments of a kernel: at white space that is not
// between double quotes, which it removes.
func splitCommandLine(line string) []string {
	var arguments []string
	var argument strings.Builder
	quoted := false
	for _, r := range line + " " {
		switch {
		case r == '"':
			quoted = !quoted
		case quoted || !strings.ContainsRune(" \t\n\v\f\r", r):
			argument.WriteRune(r)
		case argument.Len() > 0:
			arguments = append(arguments, argument.String())
			argument.Reset()
		}
	}
	if argument.Len() > 0 { // the quotes were not closed
		arguments = append(arguments, argument.String())
	}
	return arguments
}

// staged is the content of /run/composefs/staged-deployment.
type staged struct {
	ID     string `json:"depl_id"`
	Locked bool   `json:"finalization_locked"`
}

func parseStaged(data []byte) (staged, error) {
	var s staged
	if err := json.Unmarshal(data, &s); err != nil {
		return staged{}, err
	}
	if _, err := fsverity.Parse(s.ID); err != nil {
		return staged{}, fmt.Errorf("it names no deployment: %w", err)
	}
	return s, nil
}
