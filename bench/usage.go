package bench

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// Usage is what a process, or a tree of processes, used during a run.
type Usage struct {
	Name       string  `json:"name"` // the URL of its metrics, or pid <n>
	CPUSeconds float64 `json:"cpu_seconds"`
	CPUPer1000 float64 `json:"cpu_seconds_per_1000"` // requests that were answered
	MemBefore  int64   `json:"memory_before"`        // bytes: RSS; of a tree, PSS
	MemAfter   int64   `json:"memory_after"`
	MemMost    int64   `json:"memory_most"` // seen every two seconds
}

// meter reads what processes have used so far. It is not safe for concurrent
// use.
type meter struct {
	urls   []string
	pids   []int
	client *http.Client
	first  []reading
	most   []int64
}

// reading is one look at one process.
type reading struct {
	cpu    float64
	memory int64
}

func newMeter(o Options) *meter {
	return &meter{urls: o.Metrics, pids: o.PIDs, client: &http.Client{Timeout: 10 * time.Second}}
}

// start takes the readings from which stop counts.
func (m *meter) start(ctx context.Context) (err error) {
	m.first, err = m.read(ctx)
	m.most = make([]int64, len(m.first))
	m.note(m.first)
	return err
}

// sample looks for peaks of memory until ctx ends.
func (m *meter) sample(ctx context.Context) {
	tick := time.NewTicker(2 * time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			if now, err := m.read(ctx); err == nil {
				m.note(now)
			}
		}
	}
}

func (m *meter) note(now []reading) {
	for i, r := range now {
		m.most[i] = max(m.most[i], r.memory)
	}
}

// stop says what was used since start, for so many answered requests.
func (m *meter) stop(ctx context.Context, answered int64) ([]Usage, error) {
	last, err := m.read(ctx)
	if err != nil {
		return nil, err
	}
	m.note(last)
	usages := make([]Usage, len(last))
	for i, r := range last {
		cpu := r.cpu - m.first[i].cpu
		usages[i] = Usage{
			Name: m.name(i), CPUSeconds: cpu,
			MemBefore: m.first[i].memory, MemAfter: r.memory, MemMost: m.most[i],
		}
		if answered > 0 {
			usages[i].CPUPer1000 = cpu / float64(answered) * 1000
		}
	}
	return usages, nil
}

func (m *meter) name(i int) string {
	if i < len(m.urls) {
		return m.urls[i]
	}
	return "pid " + strconv.Itoa(m.pids[i-len(m.urls)])
}

func (m *meter) read(ctx context.Context) ([]reading, error) {
	all := make([]reading, 0, len(m.urls)+len(m.pids))
	for _, u := range m.urls {
		r, err := m.scrape(ctx, u)
		if err != nil {
			return nil, fmt.Errorf("bench: read the metrics: %w", err)
		}
		all = append(all, r)
	}
	for _, pid := range m.pids {
		r, err := tree(pid)
		if err != nil {
			return nil, fmt.Errorf("bench: read what process %d uses: %w", pid, err)
		}
		all = append(all, r)
	}
	return all, nil
}

// scrape reads the two metrics that every Prometheus client gives.
func (m *meter) scrape(ctx context.Context, url string) (reading, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return reading{}, err
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return reading{}, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return reading{}, fmt.Errorf("%s answers %s", url, resp.Status)
	}
	return parseMetrics(resp.Body)
}

func parseMetrics(text io.Reader) (r reading, err error) {
	found := 0
	lines := bufio.NewScanner(text)
	for lines.Scan() {
		name, value, ok := strings.Cut(lines.Text(), " ")
		if !ok || name != "process_cpu_seconds_total" && name != "process_resident_memory_bytes" {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			return r, fmt.Errorf("%s is %q", name, value)
		}
		found++
		if name == "process_cpu_seconds_total" {
			r.cpu = v
		} else {
			r.memory = int64(v)
		}
	}
	if lines.Err() == nil && found < 2 {
		return r, errors.New("there is no process_cpu_seconds_total or process_resident_memory_bytes")
	}
	return r, lines.Err()
}

// ticks is what /proc counts CPU time in: USER_HZ, 100 on every Linux.
const ticks = 100

// tree adds up a process and all its descendants, those that have ended and
// were waited for included.
func tree(root int) (reading, error) {
	parents := map[int]int{}
	cpu := map[int]float64{}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		return reading{}, err
	}
	for _, name := range stats {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // it has ended
		}
		pid, parent, seconds, ok := parseStat(text)
		if ok {
			parents[pid], cpu[pid] = parent, seconds
		}
	}
	if _, ok := parents[root]; !ok {
		return reading{}, errors.New("there is no such process in /proc")
	}
	var sum reading
	for pid := range parents {
		if !descends(parents, pid, root) {
			continue
		}
		sum.cpu += cpu[pid]
		sum.memory += pss(pid)
	}
	return sum, nil
}

func descends(parents map[int]int, pid, root int) bool {
	for range 100 { // no tree is deeper; pids may be reused while they are read
		if pid == root {
			return true
		}
		parent, ok := parents[pid]
		if !ok {
			return false
		}
		pid = parent
	}
	return false
}

// parseStat reads /proc/<pid>/stat: the parent, and the CPU time of the process
// and of its children that were waited for.
func parseStat(text []byte) (pid, parent int, seconds float64, ok bool) {
	head, rest, ok := bytes.Cut(text, []byte(" (")) // the name may hold anything but ends at the last )
	end := bytes.LastIndexByte(rest, ')')
	if !ok || end < 0 {
		return 0, 0, 0, false
	}
	fields := strings.Fields(string(rest[end+1:]))
	if len(fields) < 15 {
		return 0, 0, 0, false
	}
	pid, err := strconv.Atoi(string(head))
	parent, err2 := strconv.Atoi(fields[1])
	if err != nil || err2 != nil {
		return 0, 0, 0, false
	}
	for _, field := range fields[11:15] { // utime, stime, cutime, cstime
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, 0, 0, false
		}
		seconds += n / ticks
	}
	return pid, parent, seconds, true
}

// pss is the process's share of the memory that it uses, in bytes; 0 if that
// may not be read.
func pss(pid int) int64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "Pss:"); ok {
			kib, err := strconv.ParseInt(strings.Fields(value)[0], 10, 64)
			if err == nil {
				return kib << 10
			}
		}
	}
	return 0
}
