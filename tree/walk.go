package tree

import (
	"strings"

	"golang.org/x/sys/unix"
)

// walk is a way through a tree, as the kernel takes it in a process whose root
// directory is the tree's: nothing leads out.
type walk struct {
	dirs []*Node // from the root to where the walk is
	// node is what the path leads to, or nil; name its name in the last of dirs, or
	// "" where it is the last of dirs itself.
	name string
	node *Node
	// links is how many symlinks were followed.
	links int
}

// What the kernel bounds.
const (
	maxLinks = 40
	maxName  = 255
	maxPath  = unix.PathMax - 1
)

// in returns the directory that the walk's name is in.
func (w *walk) in() *Node { return w.dirs[len(w.dirs)-1] }

// follow follows a path from the root, and symlinks on the way; one at the end only
// where last or where a slash follows. That there is nothing at its end is no error,
// others are the kernel's.
func follow(root *Node, path string, last bool, child func(*Node, string) *Node) (walk, error) {
	w := walk{dirs: append(make([]*Node, 0, 8), root), node: root}
	if len(path) > maxPath {
		return w, unix.ENAMETOOLONG
	}
	for path != "" {
		component, rest, more := strings.Cut(path, "/")
		path = rest
		switch component {
		case "", ".":
			continue
		case "..":
			w.dirs = w.dirs[:max(1, len(w.dirs)-1)]
			w.name, w.node = "", w.in()
			continue
		}
		if len(component) > maxName {
			return w, unix.ENAMETOOLONG
		}
		w.name, w.node = component, child(w.in(), component)
		switch {
		case w.node == nil && strings.Trim(rest, "/") == "":
			return w, nil
		case w.node == nil:
			return w, unix.ENOENT
		case w.node.IsSymlink() && (more || last):
			if w.links++; w.links > maxLinks {
				return w, unix.ELOOP
			}
			target := w.node.Target
			if strings.HasPrefix(target, "/") {
				w.dirs = w.dirs[:1]
			}
			w.name, w.node = "", w.in()
			if more {
				target += "/" + rest
			}
			path = target
			continue
		case !more:
			return w, nil
		case !w.node.IsDir():
			return w, unix.ENOTDIR
		}
		w.dirs = append(w.dirs, w.node)
		w.name = ""
	}
	return w, nil
}
