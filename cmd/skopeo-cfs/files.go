package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"path"

	"github.com/spf13/cobra"

	"github.com/skopeo-cfs/skopeo-cfs/tree"
)

type filesOptions struct {
	global             *globalOptions
	asJSON, layers, du bool
}

func newFilesCommand(global *globalOptions) *cobra.Command {
	options := filesOptions{global: global}
	cmd := &cobra.Command{
		Use:   "files IMAGE [PATH]",
		Short: "List the files of an image",
		Long: `List the files of an image, or those at PATH, as they are when its layers are mounted.
Symlinks in PATH are followed within the image. No content is read.

` + imageArgument + `

The columns are type and permissions, owner, group, size in bytes (the number, for a
device), time in UTC, and name. A name with control characters is quoted. If a layer
has files in a directory, but no entry for it, the directory's time is "-".`,
		Example: `  skopeo-cfs files @booted /etc
  skopeo-cfs files --du os:42 /usr/lib
  skopeo-cfs files --json os:42 | jq -r '.[] | select(.xattrs) | .path'`,
		Args:              cobra.RangeArgs(1, 2),
		ValidArgsFunction: completeInside(global, pathsInside),
		RunE: func(cmd *cobra.Command, args []string) error {
			at := "/"
			if len(args) > 1 {
				at = args[1]
			}
			return options.run(cmd.Context(), args[0], at, cmd.OutOrStdout())
		},
	}
	cmd.Flags().BoolVar(&options.asJSON, "json", false, "print JSON")
	cmd.Flags().BoolVar(&options.layers, "layers", false, "show first the number of the layer that each file is from, the lowest being 1")
	cmd.Flags().BoolVar(&options.du, "du", false, "show as the size of a directory that of all files in it; one with several names counts once")
	return cmd
}

func (o *filesOptions) run(ctx context.Context, image, at string, stdout io.Writer) error {
	return withTree(ctx, o.global, image, func(files *tree.Tree) error {
		n, err := files.Lookup(at)
		if err != nil {
			return err
		}
		return buffered(stdout, func(out io.Writer) error {
			l := &fileLister{filesOptions: o, ctx: ctx, out: out, json: jsonArray{out: out}, first: map[*tree.Node]string{}}
			if o.du {
				l.totals = map[*tree.Node]int64{}
				l.sum(n, map[*tree.Node]bool{})
			}
			return l.list(path.Join("/", at), n)
		})
	})
}

// fileLister lists files.
type fileLister struct {
	*filesOptions
	ctx    context.Context
	out    io.Writer
	json   jsonArray
	first  map[*tree.Node]string // the first path of what has several
	totals map[*tree.Node]int64  // of directories
	listed bool                  // a directory was
}

// sum sets the totals of a directory and of those in it. A file that was counted is
// not counted again.
func (l *fileLister) sum(n *tree.Node, counted map[*tree.Node]bool) (total int64) {
	switch {
	case n.IsDir():
		for _, child := range n.Children() {
			if total += l.sum(child.Node, counted); total < 0 {
				total = math.MaxInt64
			}
		}
		l.totals[n] = total
	case !n.IsRegular() || counted[n]:
		return 0
	default:
		if n.Links > 1 {
			counted[n] = true
		}
		total = n.Size
	}
	return total
}

func (l *fileLister) list(at string, n *tree.Node) error {
	switch {
	case l.asJSON:
		if err := l.listJSON(at, n); err != nil {
			return err
		}
		return l.json.end()
	case n.IsDir():
		return l.listDirectory(at, n)
	default:
		return printColumns(l.out, [][]string{l.row(at, at, n)})
	}
}

func (l *fileLister) describe(at string, n *tree.Node) *listedFile {
	f := listNode(at, n)
	if total, ok := l.totals[n]; ok {
		f.Total = &total
	}
	if !n.IsDir() && n.Links > 1 {
		if first, ok := l.first[n]; ok {
			f.LinkTo = first
		} else {
			l.first[n] = at
		}
	}
	return f
}

func (l *fileLister) row(at, name string, n *tree.Node) []string {
	row := l.describe(at, n).columns(name)
	if l.layers {
		row = append([]string{fmt.Sprint(n.Layer + 1)}, row...)
	}
	return row
}

// listDirectory prints what is in a directory, and then in those that are in it.
func (l *fileLister) listDirectory(at string, n *tree.Node) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	heading := printable(at) + ":"
	if total, ok := l.totals[n]; ok {
		heading += fmt.Sprintf("\ntotal %d", total)
	}
	if l.listed {
		heading = "\n" + heading
	}
	l.listed = true
	if _, err := fmt.Fprintln(l.out, heading); err != nil {
		return err
	}
	var rows [][]string
	for _, child := range n.Children() {
		rows = append(rows, l.row(path.Join(at, child.Name), child.Name, child.Node))
	}
	if err := printColumns(l.out, rows); err != nil {
		return err
	}
	for _, child := range n.Children() {
		if child.IsDir() {
			if err := l.listDirectory(path.Join(at, child.Name), child.Node); err != nil {
				return err
			}
		}
	}
	return nil
}

func (l *fileLister) listJSON(at string, n *tree.Node) error {
	if err := l.ctx.Err(); err != nil {
		return err
	}
	if err := l.json.add(l.describe(at, n)); err != nil {
		return err
	}
	for _, child := range n.Children() {
		if err := l.listJSON(path.Join(at, child.Name), child.Node); err != nil {
			return err
		}
	}
	return nil
}
