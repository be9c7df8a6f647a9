package relay

import (
	"errors"
	"regexp"
	"strconv"
	"strings"
	"time"
)

var days = regexp.MustCompile(`^([0-9]{1,6})d(.*)$`)

// ParseDuration reads a duration as people write it in relay's settings: as
// [time.ParseDuration] does, with days too, and never without a unit. A negative
// one is refused. The error completes a sentence that begins with the setting's
// name.
func ParseDuration(s string) (time.Duration, error) {
	s = strings.TrimSpace(s)
	var whole time.Duration
	if m := days.FindStringSubmatch(s); m != nil {
		n, _ := strconv.Atoi(m[1]) // at most six digits
		if n > 100_000 {
			return 0, errors.New("is longer than relay can count")
		}
		if whole, s = time.Duration(n)*24*time.Hour, m[2]; s == "" {
			return whole, nil
		}
	}
	d, err := time.ParseDuration(s)
	if err != nil || s == "0" {
		return 0, errors.New("is not a duration; write it with a unit, such as 30s, 5m or 2d")
	}
	if d < 0 {
		return 0, errors.New("must not be negative")
	}
	if whole+d < 0 {
		return 0, errors.New("is longer than relay can count")
	}
	return whole + d, nil
}

// FormatDuration writes what [ParseDuration] reads, without idle zeros.
func FormatDuration(d time.Duration) string {
	const day = 24 * time.Hour
	if d > 0 && d%day == 0 {
		return strconv.FormatInt(int64(d/day), 10) + "d"
	}
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ParseCodes reads success codes as people write them: status codes from 200 to
// 599 and ranges of them, separated by commas. The error completes a sentence that
// begins with the setting's name.
func ParseCodes(s string) ([]CodeRange, error) {
	ranges := []CodeRange{}
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(strings.TrimSpace(part), "-")
		if !isRange {
			to = from
		}
		lo, err1 := strconv.Atoi(strings.TrimSpace(from))
		hi, err2 := strconv.Atoi(strings.TrimSpace(to))
		if err1 != nil || err2 != nil || lo < 200 || hi > 599 || lo > hi {
			return nil, errors.New("must be status codes from 200 to 599, such as 200-299 or 200,202")
		}
		ranges = append(ranges, CodeRange{From: lo, To: hi})
	}
	return ranges, nil
}

// FormatCodes writes what [ParseCodes] reads.
func FormatCodes(codes []CodeRange) string {
	parts := make([]string, len(codes))
	for i, r := range codes {
		parts[i] = strconv.Itoa(r.From)
		if r.To != r.From {
			parts[i] += "-" + strconv.Itoa(r.To)
		}
	}
	return strings.Join(parts, ",")
}
