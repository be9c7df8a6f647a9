package consumer

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nats.go/micro"
)

// keepExpiry is the word that lets the letters' own expires_at stand.
const keepExpiry = "keep-expiry"

// span is what a request asks for: letters from one sequence to another,
// perhaps of one endpoint, or of one tenant.
type span struct {
	from, to   uint64
	filter     string
	tenant     *string // nil: whosever they are
	keepExpiry bool
}

// means reports whether a letter is to be replayed.
func (s span) means(raw *jetstream.RawStreamMsg) bool {
	return s.tenant == nil || whose(readMeta(raw.Subject, raw.Header), raw.Header, raw.Data) == *s.tenant
}

// replay answers a request: at once with the job's id and progress, or with
// its result where it is done within a second.
func (r *service) replay(req micro.Request) {
	text := strings.TrimSpace(string(req.Data()))
	s, err := r.parse(r.ctx, req, text)
	if err != nil {
		refuse(req, "400", err)
		return
	}
	r.work(req, r.start(text, s.tenant, s.to), func(ctx context.Context, job *Job) error { return r.each(ctx, job, s) })
}

// parse reads "17", "1-100", "all", an endpoint's name, URL or key.
func (r *service) parse(ctx context.Context, req micro.Request, text string) (span, error) {
	words := strings.Fields(text)
	s := span{from: 1, filter: subjectDead + ">", tenant: saidTenant(req)}
	if len(words) == 2 && words[1] == keepExpiry {
		s.keepExpiry = true
		words = words[:1]
	}
	if len(words) != 1 {
		return s, fmt.Errorf("want a sequence, from-to, an endpoint or all, not %q", clip(text))
	}
	stream, err := r.js.Stream(ctx, StreamDead)
	if err != nil {
		return s, fmt.Errorf("look up %s: %w", StreamDead, err)
	}
	s.to = stream.CachedInfo().State.LastSeq // letters that come later are not meant
	if words[0] == "all" {
		return s, nil
	}
	from, to, isRange := strings.Cut(words[0], "-")
	first, err1 := strconv.ParseUint(from, 10, 64)
	last, err2 := strconv.ParseUint(to, 10, 64)
	switch {
	case isRange && err1 == nil && err2 == nil && first > last:
		return s, fmt.Errorf("the range %s ends before it begins", words[0])
	case isRange && err1 == nil && err2 == nil:
		s.from, s.to = max(first, 1), min(last, s.to)
	case !isRange && err1 == nil:
		s.from, s.to = max(first, 1), min(first, s.to)
	default:
		key, err := r.endpointKey(req, words[0])
		if err != nil {
			return s, err
		}
		s.filter = subjectDead + key + ".>"
	}
	return s, nil
}
