package main

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"golang.org/x/text/language"
	"golang.org/x/text/message"

	"github.com/skopeo-cfs/skopeo-cfs/verify"
)

// verifyText returns a report as people read it.
func verifyText(r *verify.Report) string {
	var b strings.Builder
	for _, d := range r.Damages {
		writeDamage(&b, d)
	}
	writeRemovals(&b, r.Damages)
	for _, note := range r.Notes {
		fmt.Fprintf(&b, "Note: %s\n", sentence(note))
	}
	writeSummary(&b, r)
	return b.String()
}

// writeDamage writes a line about a damage, and below it what it touches and what to do.
func writeDamage(b *strings.Builder, d verify.Damage) {
	fmt.Fprintf(b, "%s: %s: %s\n", d.Kind, printable(d.Path), sentence(d.Detail))
	for _, p := range d.Places {
		fmt.Fprintf(b, "    in %s", p.Part)
		if p.Name != "" {
			fmt.Fprintf(b, " %s", printable(p.Name))
		}
		if len(p.Images) > 0 {
			fmt.Fprintf(b, " of %s", printableList(p.Images))
		}
		b.WriteByte('\n')
		for _, path := range p.Paths {
			fmt.Fprintf(b, "        %s\n", printable(path))
		}
		if p.More > 0 {
			fmt.Fprintf(b, "        and %d more\n", p.More)
		}
	}
	fmt.Fprintf(b, "    To do: %s\n", sentence(d.Advice))
}

// writeRemovals writes what stands in the way of mending the damages.
func writeRemovals(b *strings.Builder, damages []verify.Damage) {
	var paths []string
	for _, d := range damages {
		paths = append(paths, d.Remove...)
	}
	slices.Sort(paths)
	if paths = slices.Compact(paths); len(paths) > 0 {
		b.WriteString("To be removed, where a damage says so:\n")
	}
	for _, path := range paths {
		fmt.Fprintf(b, "    %s\n", printable(path))
	}
}

// writeSummary writes how much was checked.
func writeSummary(b *strings.Builder, r *verify.Report) {
	number := message.NewPrinter(language.English)
	count := func(n int64, what string) string {
		if n != 1 {
			what += "s"
		}
		return number.Sprintf("%d", n) + " " + what
	}
	size := func(bytes int64) string { return units.HumanSize(float64(bytes)) }
	fmt.Fprintf(b, "%s: %s", printable(r.Repository), count(r.Objects, "object"))
	if r.Measured > 0 {
		fmt.Fprintf(b, " (%s measured by the kernel)", number.Sprintf("%d", r.Measured))
	}
	fmt.Fprintf(b, " in %s checked, %s", count(int64(len(r.Images)), "image"), size(r.Bytes))
	if u := r.Unreferenced; u != nil && u.Objects > 0 {
		fmt.Fprintf(b, "; %s (%s) that nothing refers to", count(u.Objects, "object"), size(u.Bytes))
	}
	if u := r.Unreferenced; u != nil && u.Temporary > 0 {
		fmt.Fprintf(b, "; %s (%s) left behind", count(u.Temporary, "temporary file"), size(u.TemporaryBytes))
	}
	if !r.IsDamaged() {
		b.WriteString("; no damage\n")
		return
	}
	damaged := 0
	for _, im := range r.Images {
		if im.Damaged {
			damaged++
		}
	}
	fmt.Fprintf(b, "; %s", count(int64(len(r.Damages)+r.Omitted), "damage"))
	if r.Omitted > 0 {
		fmt.Fprintf(b, ", of which %s are not listed", number.Sprintf("%d", r.Omitted))
	}
	fmt.Fprintf(b, ", %s damaged\n", count(int64(damaged), "image"))
}

// sentence returns a text of the report on one line.
func sentence(text string) string { return oneLine(errors.New(text)) }

func printableList(names []string) string {
	var all []string
	for _, name := range names {
		all = append(all, printable(name))
	}
	return strings.Join(all, ", ")
}
