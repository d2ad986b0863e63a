package main

import (
	"math"
	"slices"

	"github.com/skopeo-cfs/skopeo-cfs/internal/genimage"
)

// Results is everything that was measured.
type Results struct {
	Cores     int    `json:"cores"`
	Disk      string `json:"disk"`
	Memory    string `json:"memory"` // what is called memory
	Reading   *Group `json:"reading,omitempty"`
	Storage   *Group `json:"storage,omitempty"`
	Files     *Group `json:"files,omitempty"`
	Comparing *Group `json:"comparing,omitempty"`
	Verify    *Group `json:"verify,omitempty"`
	Serving   *Group `json:"serving,omitempty"`
	Goals     []Goal `json:"goals"`
}

// Group is ways that do the same, and how they compare.
type Group struct {
	Title    string `json:"title"`
	Files    int    `json:"files"`
	Bytes    int64  `json:"bytes"` // the files' size together
	Layers   int    `json:"layers"`
	Baseline string `json:"baseline"` // name of the row that ratios are to
	Rows     []*Row `json:"rows"`
}

// Row is a way. Times are the medians of its runs; memory, temporary files and
// disk the largest.
type Row struct {
	Name  string `json:"name"`
	Title string `json:"title"`
	// Limit: it is no way, but what none can be faster than by much.
	Limit bool `json:"limit,omitempty"`
	// Ratio is how many times as long as the baseline it takes: the median of
	// the ratios of neighbouring runs.
	Ratio float64 `json:"ratio"`
	Run
	Runs []Run `json:"runs"`
}

func newGroup(title string, spec genimage.Spec, baseline string) *Group {
	return &Group{Title: title, Files: spec.Files, Bytes: spec.Bytes, Layers: spec.Layers, Baseline: baseline}
}

func (g *Group) addRow(name, title string) *Row {
	r := &Row{Name: name, Title: title}
	g.Rows = append(g.Rows, r)
	return r
}

// find returns the row of a name.
func (g *Group) find(name string) *Row {
	return g.Rows[slices.IndexFunc(g.Rows, func(r *Row) bool { return r.Name == name })]
}

// add adds a run to a row.
func (g *Group) add(name string, run Run) {
	r := g.find(name)
	r.Runs = append(r.Runs, run)
}

// summarise computes of the runs what the rows say.
func (g *Group) summarise() {
	seconds := func(r Run) float64 { return r.Seconds }
	base := g.find(g.Baseline).Runs
	for _, r := range g.Rows {
		r.Ratio = ratio(r.Runs, base, seconds)
		r.Seconds = median(r.Runs, seconds)
		r.CPUSeconds = median(r.Runs, func(r Run) float64 { return r.CPUSeconds })
		for _, run := range r.Runs {
			r.PeakMemory = max(r.PeakMemory, run.PeakMemory)
			r.PeakKernel = max(r.PeakKernel, run.PeakKernel)
			r.Temporary = max(r.Temporary, run.Temporary)
			r.DiskAdded = max(r.DiskAdded, run.DiskAdded)
		}
	}
}

// growth returns the ratio of two rows' peak memory.
func (g *Group) growth(of, to string) float64 {
	return ratio(g.find(of).Runs, g.find(to).Runs, func(r Run) float64 { return float64(r.PeakMemory) })
}

// ratio returns the median of the ratios of runs of the same turn; where one was
// not run in all turns, the ratio of the medians.
func ratio(of, to []Run, value func(Run) float64) float64 {
	if len(of) != len(to) {
		return median(of, value) / median(to, value)
	}
	ratios := make([]float64, len(of))
	for i := range of {
		ratios[i] = value(of[i]) / value(to[i])
	}
	return middle(ratios)
}

func median(runs []Run, value func(Run) float64) float64 {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = value(r)
	}
	return middle(values)
}

// middle returns the median of values, NaN of none.
func middle(values []float64) float64 {
	if len(values) == 0 {
		return math.NaN()
	}
	slices.Sort(values)
	half := len(values) / 2
	if len(values)%2 == 1 {
		return values[half]
	}
	return (values[half-1] + values[half]) / 2
}

// Goal is something that is to be reached.
type Goal struct {
	Title string  `json:"title"`
	Got   float64 `json:"got"`
	Want  float64 `json:"want"`
	Least bool    `json:"least,omitempty"` // Want is the least that will do, not the most
	Unit  string  `json:"unit"`
	Met   bool    `json:"met"`
}

func atLeast(title string, got, want float64, unit string) Goal {
	return Goal{title, got, want, true, unit, got >= want}
}

func atMost(title string, got, want float64, unit string) Goal {
	return Goal{title, got, want, false, unit, got <= want}
}
