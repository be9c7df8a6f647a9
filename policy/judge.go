package policy

import (
	"net/http"
	"strconv"

	"github.com/relaywebhooks/relay"
)

// lesson is what an attempt teaches the circuit.
type lesson string

const (
	nothing lesson = "nothing" // it says nothing about the endpoint
	alive   lesson = "alive"   // the endpoint works, even if it refuses this webhook
	failing lesson = "failing"
)

// judgement is one row of the table: what an outcome means.
type judgement struct {
	success  bool
	retry    bool   // a failure that may pass; else it is permanent
	circuit  lesson // does it count against the circuit?
	throttle bool   // the endpoint has too much to do: let it rest
	why      string // of a permanent failure, for people
	disable  string // why the endpoint is to be called no more; "" if it may be
}

// judge is the table. It depends on nothing but its arguments.
//
//	outcome                          then     circuit  throttles
//	a success code (200–299)         success  alive
//	another 2xx                      retry    alive
//	408, 425                         retry    failing
//	429, 502, 503, 504               retry    failing  yes
//	410                              dead     alive
//	410 of a registered endpoint     kept     alive, and the endpoint is disabled
//	any other 4xx                    dead     alive
//	1xx, 3xx, other 5xx, ≥ 600       retry    failing
//	dns, connect, timeout, tls,
//	reset, protocol, proxy,
//	unknown class                    retry    failing
//	panic, unrecorded                retry    nothing
//	blocked, request                 dead     nothing
//
// A 3xx is a failure and never followed. It is tried again, because redirects
// come and go with maintenance pages, logins and half-made moves; what is right
// tomorrow should not be lost today. It counts against the circuit, so that
// such an endpoint's webhooks wait without using up their attempts.
//
// 429 counts against the circuit for the same reason: an endpoint over its
// quota for an hour must not cost every webhook its attempts.
//
// A webhook that is kept waits for its endpoint to be enabled again. Nobody could
// enable one that is not registered, so what it answers 410 to is dead. What the
// header webhook-delivery changes is in heed.go.
func judge(a relay.Attempt, ep *relay.Endpoint) judgement {
	switch a.Kind {
	case relay.Response:
		j := judgeStatus(a.Status, ep)
		if ep.Heed {
			j = heed(j, a, ep)
		}
		return j
	case relay.Blocked:
		return judgement{circuit: nothing, why: "nothing was sent"}
	case relay.Unrecorded:
		return judgement{retry: true, circuit: nothing}
	case relay.Error:
	}
	switch a.Class {
	case "blocked":
		return judgement{circuit: nothing, why: "nothing was sent"}
	case "request":
		return judgement{circuit: nothing, why: "this request cannot be made"}
	case "panic":
		return judgement{retry: true, circuit: nothing}
	}
	return judgement{retry: true, circuit: failing}
}

func judgeStatus(status int, ep *relay.Endpoint) judgement {
	switch {
	case succeeds(status, ep.SuccessCodes):
		return judgement{success: true, circuit: alive}
	case status == http.StatusRequestTimeout, status == http.StatusTooEarly:
		return judgement{retry: true, circuit: failing}
	case status == http.StatusTooManyRequests, status == http.StatusBadGateway,
		status == http.StatusServiceUnavailable, status == http.StatusGatewayTimeout:
		return judgement{retry: true, circuit: failing, throttle: true}
	case status == http.StatusGone && ep.Name != "":
		return judgement{circuit: alive, why: noMore, disable: describeStatus(status)}
	case status == http.StatusGone:
		return judgement{circuit: alive, why: noMore}
	case 400 <= status && status <= 499:
		return judgement{circuit: alive, why: "trying again would not help"}
	case 200 <= status && status <= 299:
		return judgement{retry: true, circuit: alive}
	}
	return judgement{retry: true, circuit: failing}
}

// noMore is what 410 means.
const noMore = "the endpoint wants no more webhooks"

func succeeds(status int, success []relay.CodeRange) bool {
	if len(success) == 0 {
		return 200 <= status && status <= 299
	}
	for _, r := range success {
		if r.From <= status && status <= r.To {
			return true
		}
	}
	return false
}

// describe says what an attempt came to, in the words of a reason.
func describe(a relay.Attempt) string {
	switch {
	case a.Kind == relay.Response:
		return describeStatus(a.Status)
	case a.Class == "":
		return string(a.Kind)
	case a.Err == "":
		return a.Class
	}
	return a.Class + ": " + a.Err
}

func describeStatus(status int) string {
	text := http.StatusText(status)
	switch {
	case status == 0:
		return "no answer"
	case text == "":
		return "status " + strconv.Itoa(status)
	}
	return strconv.Itoa(status) + " " + text
}
