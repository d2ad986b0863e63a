package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/docker/go-units"
	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// report prints the results and writes the files that were asked for.
func report(results *Results, o options) error {
	for _, g := range []*Group{results.Reading, results.Storage, results.Files, results.Comparing, results.Verify, results.Serving} {
		if g != nil {
			printGroup(os.Stdout, g)
		}
	}
	fmt.Printf("On %d cores; the disk is %s; memory is %s.\n\n", results.Cores, results.Disk, results.Memory)
	if !o.quick { // they are not for small images
		printGoals(os.Stdout, results)
	}
	if o.jsonPath != "" {
		data, err := json.MarshalIndent(results, "", "  ")
		if err != nil {
			return err
		}
		if err := writeFile(o.jsonPath, append(data, '\n')); err != nil {
			return err
		}
	}
	if o.svgPath != "" && results.Storage != nil {
		data, err := chart(results.Storage)
		if err != nil {
			return fmt.Errorf("drawing the chart: %w", err)
		}
		return writeFile(o.svgPath, data)
	}
	return nil
}

func writeFile(path string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, data, 0o644)
}

// printGroup prints a table.
func printGroup(out io.Writer, g *Group) {
	fmt.Fprintf(out, "%s: %s\n\n", g.Title, g.size())
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprint(w, "time\tseconds\tCPU seconds\tpeak memory\ttemporary\tdisk added\t\n")
	for _, r := range g.Rows {
		fmt.Fprintf(w, "%s\t%.2f\t%.2f\t%s\t%s\t%s\t  %s\n",
			ratioText(r.Ratio), r.Seconds, r.CPUSeconds, bytesText(r.PeakMemory), bytesText(r.Temporary), bytesText(r.DiskAdded), r.Title)
	}
	w.Flush()
	fmt.Fprintln(out)
}

// printGoals prints what was to be reached and what was.
func printGoals(out io.Writer, results *Results) {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	for _, goal := range results.Goals {
		verdict, bound := "missed", "at most"
		if goal.Met {
			verdict = "reached"
		}
		if goal.Least {
			bound = "at least"
		}
		fmt.Fprintf(w, "%s\t%s\t%s%s\twanted: %s %g%s\n", verdict, goal.Title, fmt.Sprintf("%.3g", goal.Got), goal.Unit, bound, goal.Want, goal.Unit)
	}
	w.Flush()
}

// size says how large the image is.
func (g *Group) size() string {
	return message.NewPrinter(language.English).Sprintf("%d files, %s, %d layers", g.Files, bytesText(g.Bytes), g.Layers)
}

// ratioText returns a ratio in so many digits as mean something.
func ratioText(ratio float64) string { return significant(ratio) + "×" }

func significant(value float64) string {
	switch {
	case value >= 9.95:
		return fmt.Sprintf("%.0f", value)
	case value >= 0.095:
		return fmt.Sprintf("%.2g", value)
	}
	return fmt.Sprintf("%.1g", value)
}

// bytesText returns a number of bytes for people.
func bytesText(bytes int64) string {
	if bytes < 0 {
		return "-" + bytesText(-bytes)
	}
	if bytes == 0 {
		return "0"
	}
	return units.CustomSize("%.3g %s", float64(bytes), 1000, []string{"B", "kB", "MB", "GB", "TB", "PB"})
}
