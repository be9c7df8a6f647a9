package policy

import "time"

// throttle lets an endpoint rest that said it has too much to do. It is guarded
// by its endpoint's lock.
//
// Many calls are in flight when the first 429 arrives, and their answers are
// about the same moment. Only the first of an era counts.
type throttle struct {
	until time.Time
	era   uint64 // one more with every rest
	times int    // rests in a row
	noted bool   // one gateway error was let pass since the last success
}

const (
	firstRest   = time.Second
	longestRest = time.Minute
)

// failed takes a throttling answer into account: to a call that began in era,
// asking for asked (0 if it does not say). An answer that may be a lone gateway
// error is let pass once.
func (t *throttle) failed(now time.Time, era uint64, asked time.Duration, lone bool) {
	if era != t.era && asked == 0 {
		return
	}
	if lone && asked == 0 && !t.noted {
		t.noted = true
		return
	}
	rest := asked
	if asked == 0 {
		rest = min(firstRest<<min(t.times, 10), longestRest)
	}
	if era == t.era {
		t.times++
		t.era++
	}
	if until := now.Add(rest); until.After(t.until) {
		t.until = until
	}
}

// succeeded ends the row, if the call began after the last rest did.
func (t *throttle) succeeded(era uint64) {
	if era == t.era {
		t.times, t.noted = 0, false
	}
}
