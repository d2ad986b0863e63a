package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"text/template"

	"github.com/docker/go-units"
)

// formatHelp is how flags describe a template.
const formatHelp = "print each with the Go `template`, or \"json\""

// newFormat parses a template as --format has it: of one thing, to which "json",
// "size" (of bytes, for people) and "join" may be applied. \t and \n stand for a
// tabulator and a new line.
func newFormat(text string) (*template.Template, error) {
	text = strings.NewReplacer(`\t`, "\t", `\n`, "\n").Replace(text)
	parsed, err := template.New("--format").Funcs(template.FuncMap{
		"join": func(words []string, separator string) string { return strings.Join(words, separator) },
		"json": func(v any) (string, error) {
			out, err := json.Marshal(v)
			return string(out), err
		},
		"size": func(bytes int64) string { return units.HumanSize(float64(bytes)) },
	}).Parse(text)
	if err != nil {
		return nil, fmt.Errorf("--format: %w", err)
	}
	return parsed, nil
}

// printFormat prints each item by a template, a line each. A template that begins
// with "table" and a space has its columns, which tabulators separate, lined up.
func printFormat[T any](text string, items []T, stdout io.Writer) error {
	text, table := strings.CutPrefix(text, "table ")
	format, err := newFormat(text)
	if err != nil {
		return err
	}
	var lines bytes.Buffer
	for _, item := range items {
		if err := format.Execute(&lines, item); err != nil {
			return fmt.Errorf("--format: %w", err)
		}
		lines.WriteByte('\n')
	}
	if !table {
		_, err := lines.WriteTo(stdout)
		return err
	}
	columns := tabwriter.NewWriter(stdout, 0, 8, 2, ' ', 0)
	if _, err := lines.WriteTo(columns); err != nil {
		return err
	}
	return columns.Flush()
}

// printJSON prints a value as JSON for programs and people.
func printJSON(v any, stdout io.Writer) error {
	encoder := json.NewEncoder(stdout)
	encoder.SetIndent("", "    ")
	return encoder.Encode(v)
}
