package policy

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

// TestRetryAfter holds R9 of the list of hostile answers.
func TestRetryAfter(t *testing.T) {
	const longest = 24 * time.Hour
	tests := []struct {
		values []string
		want   time.Duration
	}{
		{nil, 0},
		{[]string{""}, 0},
		{[]string{"120"}, 2 * time.Minute},
		{[]string{" 120\t"}, 2 * time.Minute},
		{[]string{"0"}, 0},
		{[]string{"-5"}, 0},
		{[]string{"+5"}, 0},
		{[]string{"1e9"}, 0},
		{[]string{"120.5"}, 0},
		{[]string{"0x10"}, 0},
		{[]string{"١٢"}, 0}, // digits, but not HTTP's
		{[]string{"inf"}, 0},
		{[]string{"NaN"}, 0},
		{[]string{"soon"}, 0},
		{[]string{"86400"}, longest},
		{[]string{"86401"}, longest},
		{[]string{"9223372036854775807"}, longest},
		{[]string{"99999999999999999999"}, longest},
		{[]string{"Mon, 23 Nov 2026 12:05:00 GMT"}, 5 * time.Minute},
		{[]string{"Monday, 23-Nov-26 12:05:00 GMT"}, 5 * time.Minute},
		{[]string{"Mon Nov 23 12:05:00 2026"}, 5 * time.Minute},
		{[]string{"Mon, 23 Nov 2026 11:00:00 GMT"}, 0},
		{[]string{"Fri, 31 Dec 9999 23:59:59 GMT"}, longest},
		{[]string{"Sat, 01 Jan 0000 00:00:00 GMT"}, 0},
		{[]string{"60", "120"}, 2 * time.Minute},
		{[]string{"120", "60"}, 2 * time.Minute},
		{[]string{"-5", "60", "inf"}, time.Minute},
		{[]string{"60", "Mon, 23 Nov 2026 12:05:00 GMT"}, 5 * time.Minute},
	}
	for _, test := range tests {
		t.Run(fmt.Sprintf("R9 %q", test.values), func(t *testing.T) {
			if got := retryAfter(http.Header{"Retry-After": test.values}, noon, longest); got != test.want {
				t.Errorf("%v, want %v", got, test.want)
			}
		})
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, value := range []string{"120", "-5", "99999999999999999999", "Mon, 23 Nov 2026 12:05:00 GMT", "Fri, 31 Dec 9999 23:59:59 GMT", "inf"} {
		f.Add(value, "", int64(24*time.Hour))
	}
	f.Add("60", "120", int64(1))
	f.Fuzz(func(t *testing.T, first, second string, bound int64) {
		longest := time.Duration(max(bound, 0))
		both := retryAfter(http.Header{"Retry-After": {first, second}}, noon, longest)
		if both < 0 || both > longest {
			t.Errorf("%q, %q: %v is not between 0 and %v", first, second, both, longest)
		}
		if one := retryAfter(http.Header{"Retry-After": {first}}, noon, longest); one > both {
			t.Errorf("%q alone asks for %v, with %q for %v", first, one, second, both)
		}
	})
}
