package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
)

// updateManual writes the options of the manual pages anew, for make manual.
var updateManual = flag.Bool("update-manual", false, "write the options in the manual pages")

const manualDir = "../../docs"

// The program and each of its commands have a manual page, with the options that --help
// has.
func TestManual(t *testing.T) {
	root := newRootCommand()
	root.InitDefaultHelpFlag()
	pages := map[string]bool{}
	visit := func(cmd *cobra.Command) {
		if cmd.Hidden || cmd.Name() == "help" || cmd.Name() == "completion" {
			return
		}
		page := strings.ReplaceAll(cmd.CommandPath(), " ", "-") + ".1.md"
		pages[page] = true
		checkPage(t, cmd, filepath.Join(manualDir, page))
	}
	visit(root)
	for _, cmd := range root.Commands() {
		visit(cmd)
	}
	found, err := filepath.Glob(filepath.Join(manualDir, "*.1.md"))
	require.NoError(t, err)
	for _, path := range found {
		assert.True(t, pages[filepath.Base(path)], "%s is of no command", path)
	}
}

func checkPage(t *testing.T, cmd *cobra.Command, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	require.NoError(t, err, "the manual page of %q", cmd.CommandPath())
	text := string(data)
	before, rest, ok := strings.Cut(text, "\n## OPTIONS\n")
	require.True(t, ok, "%s has no section OPTIONS", path)
	_, after, ok := strings.Cut(rest, "\n## ")
	require.True(t, ok, "%s has nothing behind OPTIONS", path)
	want := before + "\n## OPTIONS\n\n" + options(cmd) + "\n## " + after
	if *updateManual {
		require.NoError(t, os.WriteFile(path, []byte(want), 0o644))
		return
	}
	assert.Equal(t, want, text, "%s: make manual writes the options anew", path)
	for _, section := range []string{"## NAME\n", "## SYNOPSIS\n", "## DESCRIPTION\n", "## SEE ALSO\n"} {
		assert.Contains(t, text, section, path)
	}
	name := strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	assert.True(t, strings.HasPrefix(text, "% "+name+" 1\n"), path)
	assert.Contains(t, text, "\n"+name+` \- `, path)
}

// options lists a command's own flags as a manual page has them, and those of the
// commands below it where it is not the program itself.
func options(cmd *cobra.Command) string {
	text := flagsOf(cmd)
	if cmd.HasParent() && cmd.HasSubCommands() {
		text = ""
		for _, sub := range cmd.Commands() {
			text += fmt.Sprintf("### %s\n\n%s\n", sub.Name(), flagsOf(sub))
		}
		text = strings.TrimSuffix(text, "\n")
	}
	return text
}

func flagsOf(cmd *cobra.Command) string {
	var b strings.Builder
	flags := cmd.NonInheritedFlags()
	flags.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" || f.Name == "version" {
			return
		}
		value, usage := pflag.UnquoteUsage(f)
		b.WriteString("**--" + f.Name + "**")
		if f.Shorthand != "" {
			b.WriteString(", **-" + f.Shorthand + "**")
		}
		if value != "" {
			b.WriteString("=*" + strings.NewReplacer("[", `\[`, "]", `\]`).Replace(value) + "*")
		}
		sentence := strings.ToUpper(usage[:1]) + usage[1:] + "."
		if f.DefValue != "" && f.DefValue != "false" && f.DefValue != "0" && f.DefValue != "0s" && f.DefValue != "[]" {
			sentence += fmt.Sprintf(" The default is %s.", f.DefValue)
		}
		b.WriteString("\n\n" + strings.NewReplacer("{{", `{{`, "*", `\*`, "_", `\_`).Replace(sentence) + "\n\n")
	})
	if b.Len() == 0 {
		return "None of its own; the global options are in **skopeo-cfs(1)**.\n"
	}
	return strings.TrimSuffix(b.String(), "\n")
}
