package audit

import (
	"time"

	"github.com/jackc/pgx/v5/pgtype"
)

// The arrays that a batch is sent as. pgx asks an array for each element in an
// any: a string, a time or an id in one is an allocation of its own, a pointer to
// it is none. Those were half of what a claim and a record allocated.
type (
	texts   []string
	times   []time.Time
	numbers []int64
	ids     [][16]byte
	blobs   [][]byte // a nil element is null
)

// array is each of them.
type array interface {
	pgtype.ArrayGetter
	length() int
}

// The elements, as pgx knows how to read them.
type (
	textElement   string
	timeElement   time.Time
	numberElement int64
	idElement     [16]byte
	blobElement   []byte
)

func dimensions(n int) []pgtype.ArrayDimension {
	return []pgtype.ArrayDimension{{Length: int32(n), LowerBound: 1}} //nolint:gosec // a batch is small
}

// Dimensions, Index and IndexType make texts a [pgtype.ArrayGetter].
func (a texts) Dimensions() []pgtype.ArrayDimension { return dimensions(len(a)) }

// Index returns a pointer to an element.
func (a texts) Index(i int) any { return (*textElement)(&a[i]) }

func (a texts) length() int { return len(a) }

// IndexType returns what Index returns.
func (texts) IndexType() any { return new(textElement) }

// TextValue makes it a [pgtype.TextValuer].
func (e *textElement) TextValue() (pgtype.Text, error) {
	return pgtype.Text{String: string(*e), Valid: true}, nil
}

// Dimensions, Index and IndexType make times a [pgtype.ArrayGetter].
func (a times) Dimensions() []pgtype.ArrayDimension { return dimensions(len(a)) }

// Index returns a pointer to an element.
func (a times) Index(i int) any { return (*timeElement)(&a[i]) }

func (a times) length() int { return len(a) }

// IndexType returns what Index returns.
func (times) IndexType() any { return new(timeElement) }

// TimestamptzValue makes it a [pgtype.TimestamptzValuer].
func (e *timeElement) TimestamptzValue() (pgtype.Timestamptz, error) {
	return pgtype.Timestamptz{Time: time.Time(*e), Valid: true}, nil
}

// Dimensions, Index and IndexType make numbers a [pgtype.ArrayGetter].
func (a numbers) Dimensions() []pgtype.ArrayDimension { return dimensions(len(a)) }

// Index returns a pointer to an element.
func (a numbers) Index(i int) any { return (*numberElement)(&a[i]) }

func (a numbers) length() int { return len(a) }

// IndexType returns what Index returns.
func (numbers) IndexType() any { return new(numberElement) }

// Int64Value makes it a [pgtype.Int64Valuer].
func (e *numberElement) Int64Value() (pgtype.Int8, error) {
	return pgtype.Int8{Int64: int64(*e), Valid: true}, nil
}

// Dimensions, Index and IndexType make ids a [pgtype.ArrayGetter].
func (a ids) Dimensions() []pgtype.ArrayDimension { return dimensions(len(a)) }

// Index returns a pointer to an element.
func (a ids) Index(i int) any { return (*idElement)(&a[i]) }

func (a ids) length() int { return len(a) }

// IndexType returns what Index returns.
func (ids) IndexType() any { return new(idElement) }

// UUIDValue makes it a [pgtype.UUIDValuer].
func (e *idElement) UUIDValue() (pgtype.UUID, error) {
	return pgtype.UUID{Bytes: [16]byte(*e), Valid: true}, nil
}

// Dimensions, Index and IndexType make blobs a [pgtype.ArrayGetter].
func (a blobs) Dimensions() []pgtype.ArrayDimension { return dimensions(len(a)) }

// Index returns a pointer to an element.
func (a blobs) Index(i int) any { return (*blobElement)(&a[i]) }

func (a blobs) length() int { return len(a) }

// IndexType returns what Index returns.
func (blobs) IndexType() any { return new(blobElement) }

// BytesValue makes it a [pgtype.BytesValuer].
func (e *blobElement) BytesValue() ([]byte, error) { return *e, nil }
