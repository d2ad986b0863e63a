package main

import (
	"bytes"
	"fmt"
	"text/template"
)

// Sizes in a chart, in pixels.
const (
	chartWidth = 760
	barsAt     = 330 // where the bars begin
	longestBar = 270
	rowHeight  = 30
	rowsAt     = 62
)

// chartRow is a bar with what is written beside it.
type chartRow struct {
	Title, Value, Color string
	Y, TextY            int
	Width, ValueX       float64
}

// The colors can be read on white and on black.
const (
	colorFast  = "#2da44e"
	colorOther = "#bf8700"
	colorLimit = "#8c959f"
)

// chart draws the times of a group as bars, in an SVG.
func chart(g *Group) ([]byte, error) {
	var longest float64
	var shown []*Row
	for _, r := range g.Rows {
		if r.Name == rowTwice || r.Name == rowBefore { // another image, another program: not what is shown
			continue
		}
		shown = append(shown, r)
		longest = max(longest, r.Ratio)
	}
	var rows []chartRow
	for i, r := range shown {
		color := colorOther
		switch {
		case r.Limit:
			color = colorLimit
		case r.Name == rowFast, r.Name == rowAgain:
			color = colorFast
		}
		y := rowsAt + i*rowHeight
		width := max(1.5, longestBar*r.Ratio/longest)
		rows = append(rows, chartRow{
			Title: r.Title, Color: color, Y: y, TextY: y + 15, Width: width, ValueX: barsAt + width + 8,
			Value: fmt.Sprintf("%s, %s s", ratioText(r.Ratio), significant(r.Seconds)),
		})
	}
	var out bytes.Buffer
	err := chartTemplate.Execute(&out, map[string]any{
		"Width": chartWidth, "Height": rowsAt + len(rows)*rowHeight + 10, "BarsAt": barsAt, "TitlesEnd": barsAt - 10,
		"Title": g.Title, "Subtitle": g.size() + "; times, shorter is better; gray: what bounds them", "Rows": rows,
	})
	return out.Bytes(), err
}

var chartTemplate = template.Must(template.New("chart").Parse(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {{.Width}} {{.Height}}" width="{{.Width}}" height="{{.Height}}" role="img" font-family="-apple-system, 'Segoe UI', 'Noto Sans', 'DejaVu Sans', Helvetica, Arial, sans-serif" font-size="13" fill="#768390">
<title>{{html .Title}}</title>
<text x="10" y="24" font-size="16" font-weight="600">{{html .Title}}</text>
<text x="10" y="44" font-size="12">{{html .Subtitle}}</text>
{{range .Rows}}<text x="{{$.TitlesEnd}}" y="{{.TextY}}" text-anchor="end">{{html .Title}}</text>
<rect x="{{$.BarsAt}}" y="{{.Y}}" width="{{printf "%.1f" .Width}}" height="20" rx="2" fill="{{.Color}}"/>
<text x="{{printf "%.1f" .ValueX}}" y="{{.TextY}}">{{html .Value}}</text>
{{end}}</svg>
`))
