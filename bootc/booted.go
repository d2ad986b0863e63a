package bootc

import (
	"encoding/json"
	"fmt"
	"io"
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

// idOfCommandLine returns the deployment ID in the arguments of a kernel, ""
// where there is none: composefs=ID, or composefs.digest=FORMAT:ID, which the
// initramfs that knows it heeds first.
func idOfCommandLine(line string) string {
	found := ""
	for _, argument := range splitCommandLine(line) {
		key, value, _ := strings.Cut(argument, "=")
		if key == "composefs.digest" {
			if id, ok := parseID(value[strings.LastIndex(value, ":")+1:]); ok {
				return id
			}
		}
		if id, ok := parseID(value); ok && key == "composefs" && found == "" {
			found = id
		}
	}
	return found
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
