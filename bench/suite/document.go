package main

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/nats-io/nats-server/v2/server"
)

const preface = `# Benchmarks

Written by ` + "`make bench`" + ` from the reports of its runs. relay, and the bare loop that it is compared with ([bench/floor](bench/floor): fetch, POST, one insert for all rows that wait, acknowledge; no claims, no policy, no state), take turns on one machine. Load, receiver and Postgres run on the same machine and share its cores. Each run starts on an empty database and empty streams, with relay's default settings, NATS inside the process, payloads of 1 KB, and Postgres with fsync and synchronous_commit on. "Every message synced" is nats.sync: always, relay's default; "default sync" is 2m, that of NATS; "synced every second" is 1s.

Run any line yourself: [relay bench](README.md#measure-it) against a relay of yours, or ` + "`make bench BENCH=\"-only burst,rate -runs 3\"`" + ` for the whole arrangement.

`

const reading = `
## How to read it

- A figure is the median of its runs, with the lowest and the highest in brackets. A ratio is the median over pairs of runs that were made one directly after the other: what slowed the machine slowed both.
- Latency is from the call that publishes an event to the first byte of its first request at the receiver. In a burst it is the time spent waiting in the queue.
- CPU is in seconds for 1,000 deliveries: that of the process with its NATS server, and after the plus sign that of Postgres with all its processes. Load and receiver are not in it. At a low rate most of it is waking up. Where events were queued first it contains setting them aside, which is no delivery.
- "The same of the second in the middle" is not one of relay's goals: it is the p99 of each second, and of these the median. Where the p99 over all is far above it, a few seconds in which the disk paused have nearly all that was slow.
- Memory is the most that the process had resident, looked at every two seconds.
- First is when the first healthy delivery was made, counted from the first healthy publish.
- The bare loop waits for the answer to each acknowledgement, as relay must: only then it is known that no second delivery follows. It loses nothing by that which a plain acknowledgement would keep, but it is slower than one.

## What bounds them

- burst: processor time, of which both cores are full. For each webhook Postgres writes three rows where the bare loop writes one that nothing refers to: 40 µs against 7. Half of that is the rows and their indexes themselves, measured with plain inserts. Arrays in select lists instead of FROM, inserts that look for no conflict, and bodies as one value took it from 48 to 40. relay's process takes 96–105 µs against 57–65; of these its NATS server has 23, net/http 16 beside what calls it, Postgres' protocol 10, and the chain of policies 7. Parents of partitions, TOAST, batches four times as large and ones that wait 2 ms for more, a build with a profile of a burst (PGO), a heap three or eight times as large, 1,024 slots instead of 256 and 256 calls at a time instead of 64 changed the ratios by less than they vary. Fewer row versions for a webhook that is delivered at once would lift it, or a third core. On a machine that is shared the ratio of processor time varies between 1.75 and 2.25 from one minute to the next: what slows memory slows the bare loop more.
- hang: all that comes first is put off without a write, and moved while healthy events go by, 4 every 20 ms. Before 100,000 are put off, the server has to give them out and take their number: that is the time until the first healthy delivery. After that, nats-server's list of every message that is out is what counts. Whenever a delay of NakWithDelay or an AckWait is over, the server walks all of it under the lock that each delivery needs, 5 ms for 100,000. It gives up at the first acknowledgement that comes meanwhile, and begins anew 100 ms later: with an acknowledgement every few milliseconds it never got through, and with no event moved at all the p99 was 4.0 ms where it was 1.3 alone. So acknowledgements go out in step while many are put off, every 20 ms, and of an endpoint of which many are put off none sleeps that was refused: 1.4 ms, on a disk that costs nothing (/dev/shm); with moves, 2.2 ms for 8 every 20 ms and 1.8 for 4. Before, it made no difference how many were moved, nor how few slept. A consumer whose state is in a file has all of it encoded up to ten times a second, under the same lock; so relay's own server keeps it in memory. A server of somebody else's, or with a configuration file, keeps it in a file, for it may be started without relay. What is left are commits of Postgres, on the disk that holds the queue as well.
- mixed-1000-sick: "relay, all well" is the same load without a sick endpoint; what lies between it and "relay" is what the sick ones add. Where the disk costs nothing (/dev/shm) the p99 beside the sick is 2.0 and 2.9 ms, and without them 2.0: they add little more. Before what goes to sleep did so in step it was 3.3 and 6.1, and the slowest of a thousand 31 and 64: the server woke up to 1,100 at once. What is left is the disk. In the second run of the table it paused for 0.1 s and more in two of the seconds with all well, and in three with the sick. With every message synced each event costs at least two syncs of one stream, when it is stored and when it is removed, and each that is parked two more; with a sync every second the ratio to alone was 2.1 where it was 2.5 with one for each message, in runs made one after the other. Alone is a tenth of the load: all well, without anybody sick, is already about twice that. A faster disk lifts it, and so do several sets of streams, or an interval of syncing instead of each message.
- drain-100k: the endpoint takes 50 ms for an answer and relay calls it 64 times at once, so its own speed is 1,280 a second. An event that was parked costs about three times the CPU of one that was not: it is recorded twice, stored three times, and claimed once more. 57 % of both cores are in use then. Stamps at each step of the healthy deliveries show no step that is to blame: of those that took more than 2.5 ms, storing took eight times its median, giving out, claiming and sending five times theirs. They wait for a core everywhere, where a process of Postgres or a burst of goroutines stays for a millisecond or two. It is not the disk, since on /dev/shm the ratio is the same, and no longer the collection of garbage, 8 ms once a second. What is brought back comes four at a time now, where it is not stored as one batch, instead of fifty at once; a claim of a known event asks for its row before it sends what the event holds; and records begin 5 ms apart, so that Postgres commits 190 instead of 590 times a second. Together that took the p99 from 3.6 to 2.9 ms on /dev/shm, and from 6.3 to 5.3 on the disk (of 40,000 events, two runs each). Draining at 800 a second instead of 1,240 took it to 2.6 and no further. Nor does it matter how NATS syncs: the ratio was 2.7 with the default, 2.1 with every second, 2.5 with each message. Without any collection of garbage it was a fifth less, of which memory is the price. A third core lifts it.
- parked-million: a parked event costs no memory. What counts is the peak while the queue is being set aside, more than a gigabyte for a million, and how soon Go gives that back. In most seconds the p99 beside the million is what it is without. The others are the kernel's, not relay's: it writes what has been dirty for a while all at once, and whatever else wants the disk waits, most of all Postgres' commits. In the first seconds that is what Postgres has taken down of the million. With the server's default sync NATS adds hundreds of megabytes every five seconds: the p99 over half a minute was then 86 ms, which is why this is measured with a sync every second, and the README advises that. Segments of the write-ahead log that exist already, as those of a Postgres in use do, made no difference to drain-100k. A disk of its own for Postgres, or a smaller vm.dirty_background_bytes, should help as well; neither was tried.
- 100k-endpoints: an endpoint that was called takes about a kilobyte. Of more than 10,000 those are forgotten after two seconds of which nothing has to be remembered.
- audit-size: the rows are in tables of their own for each day, and their indexes are looked up by time and sequence, so that what is worked on lies at one end. With 10 million rows of the same day it costs what it costs with none.
- trust: relay without the guard is built for this comparison alone, from a changed source; no setting switches it off. The guard looks at an address when it is dialled, and a connection that is kept is not dialled again, so the last two sides make a connection for every webhook.
- three-relays: what the killed relay had in hand comes back when its AckWait is over, and is then delivered as quickly as anything else at that moment.
`

// document writes BENCHMARKS.md from all results that are there.
func (m *machine) document(ctx context.Context) error {
	var goals, parts bytes.Buffer
	versions := map[string]bool{}
	var busy []float64
	for _, sc := range scenarios() {
		all, err := m.results(sc.name)
		if err != nil {
			return err
		}
		for _, l := range all {
			versions[l.Version] = true
			busy = append(busy, l.Busy)
		}
		if len(all) == 0 || sc.once {
			continue
		}
		for _, g := range sc.goals {
			g.row(&goals, sc, all)
		}
		sc.part(&parts, all)
	}
	fmt.Printf("\n%s", goals.String())
	if m.Out == "" {
		return nil
	}
	var b bytes.Buffer
	b.WriteString(preface)
	fmt.Fprintf(&b, "## The machine\n\n%s- relay at %s\n", m.aboutMachine(ctx), strings.Join(slices.Sorted(maps.Keys(versions)), ", "))
	if mid, ok := middle(busy); ok {
		fmt.Fprintf(&b, "- load average before the runs: %s, %s to %s. What is much above 1 is other work, which the figures suffer from\n",
			short(mid), short(slices.Min(busy)), short(slices.Max(busy)))
	}
	b.WriteString("\n## The goals\n\n| scenario | | measured | goal | |\n|---|---|---|---|---|\n")
	b.Write(goals.Bytes())
	b.Write(parts.Bytes())
	if err := m.profileText(&b); err != nil {
		return err
	}
	b.WriteString(reading)
	return os.WriteFile(m.Out, b.Bytes(), 0o644) //nolint:gosec // a document
}

// row says whether one goal is met.
func (g goal) row(b *bytes.Buffer, sc scenario, all []line) {
	x, ok := g.figure(all)
	if !ok {
		return
	}
	sign, met := "≥", "**not met**"
	if g.atMost {
		sign = "≤"
	}
	if g.met(x) {
		met = "met"
	}
	fmt.Fprintf(b, "| %s | %s | %s | %s %g | %s |\n", sc.name, g.text, short(x), sign, g.limit, met)
}

// part has the figures of one scenario, side by side, and the commands.
func (sc scenario) part(b *bytes.Buffer, all []line) {
	fmt.Fprintf(b, "\n## %s\n\n%s.\n\n", sc.name, upper(sc.title))
	b.WriteString("| | runs | per second | p50 ms | p99 ms | first ms | CPU | memory MiB | lost | duplicates |\n|---|---|---|---|---|---|---|---|---|---|\n")
	commands := ""
	for _, side := range sides(all) {
		of := of(all, side)
		if of[0].Extra != nil {
			continue // it is not relay bench's
		}
		if line := fmt.Sprintf("%s: %s", side, of[0].Command); !strings.Contains(commands, line) {
			commands += line + "\n"
		}
		fmt.Fprintf(b, "| %s | %d | %s | %s | %s | %s | %s + %s | %s | %g | %g |\n", side, len(of),
			spread(of, throughput), spread(of, p50), spread(of, p99), spread(of, first), spread(of, cpu), spread(of, cpuPostgres),
			spread(of, memory), slices.Max(values(of, lost)), slices.Max(values(of, duplicates)))
	}
	for _, side := range sides(all) {
		if of := of(all, side); settled(of[0]) > 0 {
			fmt.Fprintf(b, "\n%s: what was queued first was set aside %s s after the first of it was published, %s events a second.\n",
				upper(side), spread(of, settled), spread(of, settledRate))
		}
	}
	fmt.Fprintf(b, "\n```text\n%s```\n", commands)
}

// sides are the sides of a scenario, in the order of their runs.
func sides(all []line) (names []string) {
	for _, l := range all {
		if !slices.Contains(names, l.Side) {
			names = append(names, l.Side)
		}
	}
	return names
}

// spread is the median with the lowest and the highest.
func spread(of []line, figure func(line) float64) string {
	v := values(of, figure)
	mid, _ := middle(v)
	if len(v) == 1 {
		return short(mid)
	}
	return fmt.Sprintf("%s [%s–%s]", short(mid), short(slices.Min(v)), short(slices.Max(v)))
}

// short has three digits that count.
func short(x float64) string {
	switch {
	case x >= 100 || x == float64(int(x)):
		return fmt.Sprintf("%.0f", x)
	case x >= 10:
		return fmt.Sprintf("%.1f", x)
	case x >= 1:
		return fmt.Sprintf("%.2f", x)
	}
	return fmt.Sprintf("%.3f", x)
}

func upper(s string) string { return strings.ToUpper(s[:1]) + s[1:] }

// profileText shows where the time goes, if profiles were taken.
func (m *machine) profileText(b *bytes.Buffer) error {
	files, err := filepath.Glob(filepath.Join(m.Results, "profile-*.txt"))
	if err != nil || len(files) == 0 {
		return err
	}
	b.WriteString("\n## Where the time goes\n\nA burst of 60,000 events, by the CPU profiler: first by what functions do themselves, then with all that they call.\n")
	for _, name := range files {
		text, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		title := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(name), "profile-"), ".txt")
		fmt.Fprintf(b, "\n### %s\n\n```text\n%s\n```\n", strings.ReplaceAll(title, "-", ", sync "), strings.TrimSpace(string(text)))
	}
	return nil
}

// aboutMachine says what the figures depend on.
func (m *machine) aboutMachine(ctx context.Context) string {
	return fmt.Sprintf("- %d cores, %s\n- %s of memory\n- %s\n- Go %s, nats-server %s, Postgres %s\n", runtime.NumCPU(),
		fromFile("/proc/cpuinfo", "model name"), fromFile("/proc/meminfo", "MemTotal"),
		output(ctx, "uname", "-srm"), strings.TrimPrefix(runtime.Version(), "go"), server.VERSION, m.database)
}

// fromFile is the first value with this name in a file of /proc.
func fromFile(file, name string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown " + name
	}
	for line := range strings.Lines(string(text)) {
		if key, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(key) == name {
			return strings.TrimSpace(value)
		}
	}
	return "unknown " + name
}
