package bench

import (
	"fmt"
	"io"
	"text/tabwriter"
)

// Print writes the report for people.
func (r Report) Print(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if r.Options.Queued > 0 {
		fmt.Fprintf(t, "queued first\t%d in %.2f s\n", r.Options.Queued, r.QueuedSeconds)
	}
	if r.SettledSeconds > 0 {
		fmt.Fprintf(t, "set aside\tafter %.2f s, %.0f/s\n", r.SettledSeconds, float64(r.Options.Queued)/r.SettledSeconds)
	}
	if r.RecoveryEnded > 0 {
		fmt.Fprintf(t, "98 %% of those delivered\tfrom %.2f s to %.2f s of the load\n", r.RecoveryBegan, r.RecoveryEnded)
	}
	fmt.Fprintf(t, "published\t%d of %d in %.2f s, %.0f/s\n", r.Confirmed, r.Published, r.PublishSeconds, r.PublishRate)
	fmt.Fprintf(t, "throughput\t%.0f/s, first publish to last first delivery %.2f s\n", r.Throughput, r.Seconds)
	fmt.Fprintf(t, "lost\t%d\n", r.Lost)
	fmt.Fprintf(t, "duplicates\t%d\n", r.Duplicates)
	if r.Refused != "" {
		fmt.Fprintf(t, "not confirmed\t%d, the first: %s\n", r.Published-r.Confirmed, r.Refused)
	}
	for _, u := range r.Usage {
		fmt.Fprintf(t, "%s\tCPU %.2f s, %.3f s per 1,000 deliveries; memory %s, before %s, at most %s\n",
			u.Name, u.CPUSeconds, u.CPUPer1000, mib(u.MemAfter), mib(u.MemBefore), mib(u.MemMost))
	}
	fmt.Fprintf(t, "this bench\tCPU %.2f s, %.3f s per 1,000 deliveries\n", r.BenchCPU, r.BenchCPUPer1000)
	if err := t.Flush(); err != nil {
		return err
	}
	return r.printKinds(w)
}

func (r Report) printKinds(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(t, "\nendpoints\tevents\treceived\tdelivered\trequests\tduplicates\tfirst ms\tp50 ms\tp90 ms\tp99 ms\tmax ms\t")
	for _, k := range r.Kinds {
		name := string(k.Kind)
		if k.Queued {
			name += ", queued first"
		}
		fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%.1f\t%.2f\t%.2f\t%.2f\t%.2f\t\n", name, k.Confirmed, k.Received, k.Delivered,
			k.Requests, k.Duplicates, k.FirstMS, k.Latency.P50, k.Latency.P90, k.Latency.P99, k.Latency.Max)
	}
	return t.Flush()
}

func mib(bytes int64) string { return fmt.Sprintf("%.0f MiB", float64(bytes)/(1<<20)) }
