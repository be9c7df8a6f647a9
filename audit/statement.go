package audit

import (
	"errors"
	"regexp"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// statement is SQL for a batch, which comes as one array a column: for as many
// rows as there may be, and for a single one, as most batches are while there is
// little to do. Postgres needs 0.4 instead of 0.6 ms for that one, if it has had
// nothing to do for a moment.
//
// The arrays are unnested in a select list, side by side, and not in a FROM: there
// Postgres writes each of them down in a store of its own first, which took a tenth
// of all that it has to do for a webhook.
type statement struct{ many, one string }

// newStatement makes a statement from the SQL for many rows. In it an array is
// $1::type[] or, if the statement itself makes it, a query in parentheses; a row's
// position is that of generate_subscripts.
func newStatement(many string) statement { return statement{many: many, one: ofOne(many)} }

var (
	element  = regexp.MustCompile(`unnest\((\$\d+::\w+)\[\]\)`)
	made     = regexp.MustCompile(`unnest\((\(.*?\))::\w+\[\]\)`) // of an array that the statement itself makes
	position = regexp.MustCompile(`generate_subscripts\([^)]*\)`)
)

// ofOne turns SQL that takes arrays into SQL that takes the only element of each.
func ofOne(sql string) string {
	sql = element.ReplaceAllString(sql, "$1")
	sql = made.ReplaceAllString(sql, "$1[1]")
	return position.ReplaceAllString(sql, "1")
}

// queue adds the statement to what is sent to Postgres together, with the table of
// a day and arguments of which each is an array, or the same for all rows.
func (s statement) queue(b *pgx.Batch, d time.Time, args []any) {
	if row, ok := onlyRow(args); ok {
		b.Queue(onDay(s.one, d), row...)
		return
	}
	b.Queue(onDay(s.many, d), args...)
}

// onlyRow returns the only element of each array, and reports false if one has
// none or more.
func onlyRow(args []any) ([]any, bool) {
	row := make([]any, len(args))
	for i, a := range args {
		ok := true
		switch a := a.(type) {
		case array:
			if ok = a.length() == 1; ok {
				row[i] = a.Index(0)
			}
		case []int32:
			row[i], ok = only(a)
		case []bool:
			row[i], ok = only(a)
		case []float64:
			row[i], ok = only(a)
		default:
			row[i] = a
		}
		if !ok {
			return nil, false
		}
	}
	return row, true
}

func only[T any](a []T) (any, bool) {
	if len(a) != 1 {
		return nil, false
	}
	return a[0], true
}

// insertion is a statement that puts in rows: one for rows that are all new, and
// one for rows of which some may be there already.
type insertion struct{ fresh, careful statement }

// newInsertion makes an insertion from SQL that does nothing on a conflict.
func newInsertion(careful string) insertion {
	return insertion{
		fresh:   newStatement(strings.Replace(careful, "ON CONFLICT DO NOTHING\n", "", 1)),
		careful: newStatement(careful),
	}
}

// doubtFor is how long rows that come after one that was there already are taken
// for such ones too: they come in crowds, when relay or Postgres was away, and each
// one that was taken for new is an error in the log of Postgres.
const doubtFor = 10 * time.Second

// novelty knows whether rows are likely to be new. With ON CONFLICT, Postgres looks
// for each row first, and inserts it in two steps, which takes a tenth of all that
// it has to do for a webhook (BenchmarkClaimAndRecord, with 256 callers). Without, a
// single row that is there fails a batch, which is written again then. nil takes
// no row for new. It is safe for concurrent use.
type novelty struct {
	doubted atomic.Int64 // until when, in nanoseconds since 1970
}

// write has an insertion made, as often as it needs to be.
func (n *novelty) write(i insertion, do func(statement) error) error {
	if n == nil || time.Now().UnixNano() < n.doubted.Load() {
		return do(i.careful)
	}
	err := do(i.fresh)
	if e, ok := errors.AsType[*pgconn.PgError](err); !ok || e.Code != "23505" {
		return err
	}
	n.doubted.Store(time.Now().Add(doubtFor).UnixNano())
	return do(i.careful)
}
