package audit

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/relaywebhooks/relay"
)

// fake is a committer whose database is a function.
type fake struct {
	*committer[int, int]
	mu      sync.Mutex
	batches [][]uint64 // sequences, as they were written
	left    []int      // answers that nobody waited for
}

func newFake(o Options, write func(ctx context.Context, batch []*call[int, int]) error) *fake {
	l := &Log{o: o.withDefaults()}
	f := &fake{committer: newCommitter[int, int]("test", l)}
	f.write = func(ctx context.Context, batch []*call[int, int]) error {
		var seqs []uint64
		for _, q := range batch {
			seqs = append(seqs, q.key.Seq)
			q.out = q.in * 10
		}
		f.mu.Lock()
		f.batches = append(f.batches, seqs)
		f.mu.Unlock()
		return write(ctx, batch)
	}
	f.reduce = func(in *int, _ error) { *in = 0 }
	return f
}

func key(seq uint64) relay.Key { return relay.Key{Time: time.Unix(1, 0).UTC(), Seq: seq} }

// start runs a committer until the returned function is called.
func (f *fake) start() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() {
		f.run(ctx, context.Background())
		close(ended)
	}()
	return func() {
		cancel()
		<-ended
	}
}

func TestBatchIsWhatQueued(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(Options{MaxBatch: 4}, func(context.Context, []*call[int, int]) error {
			time.Sleep(time.Second) // the time that Postgres takes, in a bubble
			return nil
		})
		stop := f.start()
		var wg sync.WaitGroup
		ask := func(seq uint64, in int) {
			wg.Go(func() {
				if out, err := f.do(t.Context(), key(seq), 1, in); out != in*10 || err != nil {
					t.Errorf("%d: %d, %v", in, out, err)
				}
			})
			synctest.Wait() // it is queued
		}
		ask(9, 1) // goes out at once
		for _, seq := range []uint64{5, 3, 5, 8, 2, 7, 3} {
			ask(seq, int(seq))
		}
		wg.Wait()
		stop()
		// Sorted, at most four, an event once in a batch, and the first comes first.
		want := [][]uint64{{9}, {2, 3, 5, 8}, {3, 5, 7}}
		if !slices.EqualFunc(f.batches, want, slices.Equal[[]uint64]) {
			t.Errorf("batches: %v, want %v", f.batches, want)
		}
	})
}

// What comes one by one is written together where batches are to begin apart from each
// other, and the first one at once.
func TestBatchesBeginApart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(Options{}, func(context.Context, []*call[int, int]) error { return nil })
		f.apart = 5 * time.Millisecond
		stop := f.start()
		began := time.Now()
		var wg sync.WaitGroup
		for seq := range uint64(12) { // one in a millisecond
			wg.Go(func() {
				if _, err := f.do(t.Context(), key(seq), 1, 1); err != nil {
					t.Error(err)
				}
			})
			synctest.Wait()
			if seq == 0 && len(f.batches) != 1 {
				t.Error("the first one waits")
			}
			time.Sleep(time.Millisecond)
		}
		wg.Wait()
		stop()
		if len(f.batches) != 4 || time.Since(began) > 20*time.Millisecond {
			t.Errorf("batches: %v after %v", f.batches, time.Since(began))
		}
	})
}

func TestBatchIsBoundInBytes(t *testing.T) {
	f := newFake(Options{}, nil)
	for seq, weight := range []int{maxBatchBytes * 2, maxBatchBytes / 2, maxBatchBytes / 2, 1} {
		f.add(&call[int, int]{key: key(uint64(seq)), weight: weight})
	}
	var sizes []int
	for batch := f.next(); len(batch) > 0; batch = f.next() {
		sizes = append(sizes, len(batch))
	}
	if !slices.Equal(sizes, []int{1, 2, 1}) {
		t.Errorf("batches of %v", sizes)
	}
}

func TestBatchIsOfOneDay(t *testing.T) {
	f := newFake(Options{}, nil)
	for i, hour := range []int{20, 30, 1, 40, 23} { // since the first day's midnight
		f.add(&call[int, int]{key: relay.Key{Time: time.Unix(0, 0).Add(time.Duration(hour) * time.Hour), Seq: uint64(i)}})
	}
	var got [][]uint64
	for batch := f.next(); len(batch) > 0; batch = f.next() {
		var seqs []uint64
		for _, q := range batch {
			seqs = append(seqs, q.key.Seq)
		}
		got = append(got, seqs)
	}
	if want := [][]uint64{{2, 0, 4}, {1, 3}}; !slices.EqualFunc(got, want, slices.Equal[[]uint64]) {
		t.Errorf("batches: %v, want %v", got, want)
	}
}

func TestRepeatedUntilCommitted(t *testing.T) {
	errs := []error{
		&pgconn.ConnectError{}, context.DeadlineExceeded, errors.New("unexpected EOF"),
		&pgconn.PgError{Code: "57P01"}, &pgconn.PgError{Code: "40001"}, &pgconn.PgError{Code: "53300"},
		&pgconn.PgError{Code: "25006"}, &pgconn.PgError{Code: "42703"}, &pgconn.PgError{Code: "XX000"}, errAgain,
	}
	synctest.Test(t, func(t *testing.T) {
		tries := 0
		f := newFake(Options{}, func(context.Context, []*call[int, int]) error {
			if tries++; tries <= len(errs) {
				return errs[tries-1]
			}
			return nil
		})
		stop := f.start()
		defer stop()
		began := time.Now()
		if out, err := f.do(t.Context(), key(1), 1, 4); out != 40 || err != nil {
			t.Fatalf("%d, %v", out, err)
		}
		if tries != len(errs)+1 || time.Since(began) > 10*time.Second {
			t.Errorf("%d tries in %v", tries, time.Since(began))
		}
		if err := f.log.health.failing(); err != nil {
			t.Errorf("still failing: %v", err)
		}
	})
}

func TestHealthTellsAFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(Options{}, func(context.Context, []*call[int, int]) error {
			return &pgconn.PgError{Code: "57P03", Message: "the database system is starting up"}
		})
		ctx, giveUp := context.WithTimeout(t.Context(), time.Minute)
		defer giveUp()
		go f.run(ctx, ctx)
		_, err := f.do(t.Context(), key(1), 1, 1)
		if !errors.Is(err, ErrClosed) {
			t.Errorf("a call that could not be answered got %v", err)
		}
		if err := f.log.health.failing(); err == nil {
			t.Error("it says it is well")
		}
	})
}

// TestRefusedRowsAreFound lets the database refuse some rows, one of them even
// after it was reduced.
func TestRefusedRowsAreFound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(Options{}, func(_ context.Context, batch []*call[int, int]) error {
			for _, q := range batch {
				if q.in < 0 || q.key.Seq == 13 {
					return &pgconn.PgError{Code: "22021"}
				}
			}
			return nil
		})
		var wg sync.WaitGroup
		for seq := range uint64(32) {
			in, want := int(seq), int(seq)*10
			if seq%7 == 0 {
				in, want = -1, 0
			}
			wg.Go(func() {
				out, err := f.do(t.Context(), key(seq), 1, in)
				if refused := errors.Is(err, ErrRefused); refused != (seq == 13) || !refused && out != want {
					t.Errorf("%d: %d, %v", seq, out, err)
				}
			})
		}
		synctest.Wait()
		stop := f.start()
		wg.Wait()
		stop()
	})
}

func TestCallerLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(Options{}, func(context.Context, []*call[int, int]) error {
			time.Sleep(time.Second)
			return nil
		})
		f.abandoned = func(_, out int) { f.left = append(f.left, out) }
		stop := f.start()
		gone := errors.New("gone")
		ctx, leave := context.WithCancelCause(t.Context())
		var wg sync.WaitGroup
		for seq := range uint64(3) { // the first is being written, two are queued
			wg.Go(func() {
				if _, err := f.do(ctx, key(seq), 1, int(seq)+1); !errors.Is(err, gone) {
					t.Errorf("%d: %v", seq, err)
				}
			})
			synctest.Wait()
		}
		leave(gone)
		wg.Wait()
		stop()
		if !slices.Equal(f.left, []int{10}) || len(f.batches) != 1 {
			t.Errorf("left: %v, batches: %v; want the first given back and the others never begun", f.left, f.batches)
		}
	})
}

func TestEndWaitsForWhoWaits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFake(Options{MaxBatch: 1}, func(context.Context, []*call[int, int]) error {
			time.Sleep(time.Second)
			return nil
		})
		var wg sync.WaitGroup
		for seq := range uint64(5) {
			wg.Go(func() {
				if _, err := f.do(t.Context(), key(seq), 1, 1); err != nil {
					t.Errorf("%d: %v", seq, err)
				}
			})
		}
		synctest.Wait()
		stop := f.start()
		stop() // with five in the queue
		wg.Wait()
		if _, err := f.do(t.Context(), key(9), 1, 1); !errors.Is(err, ErrClosed) {
			t.Errorf("a closed committer said %v", err)
		}
	})
}

func TestJudge(t *testing.T) {
	tests := []struct {
		err  error
		want trouble
	}{
		{nil, none},
		{errors.New("EOF"), away},
		{&pgconn.PgError{Code: "08006"}, away},
		{&pgconn.PgError{Code: "40P01"}, away},
		{&pgconn.PgError{Code: "57014"}, away},
		{&pgconn.PgError{Code: "58030"}, away},
		{&pgconn.PgError{Code: "42703"}, away},
		{&pgconn.PgError{Code: "55P03"}, locked},
		{&pgconn.PgError{Code: "23514"}, noPartition},
		{&pgconn.PgError{Code: "42P01"}, noPartition},
		{&pgconn.PgError{Code: "23514", ConstraintName: "webhooks_status"}, refused},
		{&pgconn.PgError{Code: "23505"}, refused},
		{&pgconn.PgError{Code: "22P05"}, refused},
		{&pgconn.PgError{Code: "54000"}, refused},
	}
	for _, test := range tests {
		if got := judge(test.err); got != test.want {
			t.Errorf("judge(%v) = %d, want %d", test.err, got, test.want)
		}
	}
}
