package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"sync"
	"time"
)

// What an entry of the history says. Producer, receiver, nemesis and sampler
// write them; the checker reads nothing else about what was done to relay.
const (
	sayIntend  = "intend"  // an event is about to be published
	sayAcked   = "acked"   // JetStream confirmed it, under Seq
	sayRequest = "request" // a request arrived
	sayAnswer  = "answer"  // what it was answered; Status 0: nothing that counts
	sayFault   = "fault"   // a fault begins
	sayHeal    = "heal"    // it is over
	sayStart   = "start"   // a relay process works
	sayGone    = "gone"    // a relay process was killed
	sayPaused  = "paused"  // a relay process was stopped, for Millis
	sayEnded   = "ended"   // a relay process ended by itself; Status is its exit status
	sayReady   = "ready"   // /readyz answered otherwise than before
	sayGauge   = "gauge"   // how relay_ready reads: Number gauges, and in Note those that are 0
	sayLag     = "lag"     // the machine had no time for the campaign, for Millis until now
	sayLane    = "lane"    // how many events wait in lanes; Seq
	sayEbb     = "ebb"     // producing has ended and the last fault is over
	sayDrained = "drained" // nothing is left on the streams
	sayReplay  = "replay"  // dead letters were asked back; Note has the answer
	sayUsage   = "usage"   // what a relay process holds: Seq goroutines, Number descriptors, Millis MiB
	sayStepped = "stepped" // the clock of a relay process jumps
	sayTrouble = "trouble" // something in relay's log that must not be there
	sayAsked   = "asked"   // an operator asked something about a registered endpoint; Name is the verb, Millis how long it took, Note why it failed
)

// older is the note of the start of a relay that is not the present one.
const older = "older"

// entry is one line of the history. Which fields count depends on What.
type entry struct {
	At     time.Time `json:"at"`
	What   string    `json:"what"`
	ID     string    `json:"id,omitempty"`   // the webhook id
	Plan   plan      `json:"plan,omitempty"` // how the receiver is to treat it
	Path   string    `json:"path,omitempty"` // of its endpoint
	Hash   string    `json:"hash,omitempty"` // of the HTTP body
	Seq    uint64    `json:"seq,omitempty"`
	Number int       `json:"number,omitempty"` // of a request, or a fault
	Status int       `json:"status,omitempty"`
	Worker string    `json:"worker,omitempty"` // as relay writes it into its rows
	Name   string    `json:"name,omitempty"`   // of a fault; of a request to a registered endpoint, the version of its settings
	Keys   string    `json:"keys,omitempty"`   // the secrets that such a request is signed with
	Millis int64     `json:"ms,omitempty"`
	Note   string    `json:"note,omitempty"`
}

// history is the record of a campaign, on disk. It is safe for concurrent use.
type history struct {
	mu   sync.Mutex
	file *os.File
	to   *bufio.Writer
	err  error
}

func newHistory(path string) (*history, error) {
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("campaign: history: %w", err)
	}
	return &history{file: file, to: bufio.NewWriterSize(file, 1<<16)}, nil
}

// note appends an entry, dated now unless it says when.
func (h *history) note(e entry) {
	if e.At.IsZero() {
		e.At = time.Now()
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	line, err := json.Marshal(e)
	if err == nil {
		_, err = h.to.Write(append(line, '\n'))
	}
	h.err = errors.Join(h.err, err)
}

func (h *history) close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.err, h.to.Flush(), h.file.Close())
}

// readHistory reads what a history wrote.
func readHistory(path string) ([]entry, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("campaign: read the history: %w", err)
	}
	defer func() { _ = file.Close() }() // it was only read
	var entries []entry
	for lines := json.NewDecoder(bufio.NewReaderSize(file, 1<<16)); lines.More(); {
		var e entry
		if err := lines.Decode(&e); err != nil {
			return nil, fmt.Errorf("campaign: read the history: %w", err)
		}
		entries = append(entries, e)
	}
	return entries, nil
}
