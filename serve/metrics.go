package serve

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
)

// metrics are the numbers that Prometheus may ask for. Its text format is a few
// lines; the client library for it is larger than this package.
type metrics struct {
	clients, running atomic.Int64
	sent, broken     atomic.Int64
	checked, damaged atomic.Int64
	underWay         sync.WaitGroup
	mu               sync.Mutex
	answers          map[int]int64 // by status
}

func (m *metrics) begin() {
	m.underWay.Add(1)
	m.running.Add(1)
}

func (m *metrics) end(r *response, complete bool) {
	m.running.Add(-1)
	m.sent.Add(r.sent)
	if !complete {
		m.broken.Add(1)
	}
	m.mu.Lock()
	if m.answers == nil {
		m.answers = map[int]int64{}
	}
	m.answers[r.statusOf()]++
	m.mu.Unlock()
	m.underWay.Done()
}

// wait waits until no request is under way.
func (m *metrics) wait() { m.underWay.Wait() }

// serve writes the metrics as Prometheus' text format 0.0.4.
func (m *metrics) serve(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	m.mu.Lock()
	answers := maps.Clone(m.answers)
	m.mu.Unlock()
	const prefix = "skopeo_cfs_serve_"
	describe := func(name, kind, help string) {
		fmt.Fprintf(w, "# HELP %s%s %s\n# TYPE %s%s %s\n", prefix, name, help, prefix, name, kind)
	}
	describe("responses_total", "counter", "Requests that were answered, by status.")
	for _, status := range slices.Sorted(maps.Keys(answers)) {
		fmt.Fprintf(w, "%sresponses_total{code=\"%d\"} %d\n", prefix, status, answers[status])
	}
	for _, number := range []struct {
		name, kind, help string
		value            int64
	}{
		{"clients", "gauge", "Connections that are open.", m.clients.Load()},
		{"requests", "gauge", "Requests that are being answered.", m.running.Load()},
		{"sent_bytes_total", "counter", "Bytes of manifests and blobs that were sent.", m.sent.Load()},
		{"broken_responses_total", "counter", "Responses that were not sent to their end.", m.broken.Load()},
		{"layers_checked_total", "counter", "Layers that were read to be checked.", m.checked.Load()},
		{"layers_damaged_total", "counter", "Layers that did not come out right.", m.damaged.Load()},
	} {
		describe(number.name, number.kind, number.help)
		fmt.Fprintf(w, "%s%s %d\n", prefix, number.name, number.value)
	}
}
