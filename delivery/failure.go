package delivery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"strings"
	"syscall"
	"unicode"

	"github.com/relaywebhooks/relay"
)

// The classes of failure, as they stand in relay.attempts.
const (
	classDNS      = "dns"
	classConnect  = "connect"
	classProxy    = "proxy"
	classTimeout  = "timeout"
	classTLS      = "tls"
	classReset    = "reset"
	classProtocol = "protocol"
	classBlocked  = "blocked"
	classRequest  = "request"
	classCanceled = "canceled"
	classPanic    = "panic"
)

// failure is a failed exchange in words that may be shown to anyone: they hold
// neither a query nor a password nor bytes that the endpoint chose, save for
// the names in a certificate.
type failure struct{ class, text string }

func (f *failure) Error() string { return f.text }

// blame writes what went wrong into the attempt.
func (x *exchange) blame(ctx context.Context, err error, a *relay.Attempt) {
	a.Kind = relay.Error
	f := x.explain(ctx, err)
	if f.class == classBlocked {
		a.Kind = relay.Blocked
	}
	a.Class, a.Err = f.class, f.text
	a.Unanswered = f.class == classReset && x.reused.Load() && !x.answered.Load()
}

// explain finds the class of an error. The text of an error of net/http is
// never used, because an endpoint that echoes what it is sent would get the
// query into it.
func (x *exchange) explain(ctx context.Context, err error) *failure {
	if ctx.Err() != nil {
		return x.ended(ctx)
	}
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && isAlert(op) {
		return &failure{class: classTLS, text: clean(alertText(op, false, x.certified))}
	}
	switch {
	case isTimeout(err):
		return &failure{class: classTimeout, text: "the connection died without a word"}
	case isReset(err) && x.refusal() != nil:
		return x.refusal()
	case isReset(err) && x.answered.Load():
		return &failure{class: classReset, text: "the connection broke in the middle of the answer"}
	case isReset(err):
		return &failure{class: classReset, text: "the connection broke before an answer"}
	}
	return &failure{class: classProtocol, text: protocolText(err)}
}

// refusal is what it means that a new connection broke, where that is known.
func (x *exchange) refusal() *failure {
	if c := x.dialled.Load(); c != nil && !x.reused.Load() {
		return c.refusal()
	}
	return nil
}

// ended explains the end of the context: our own deadline, or the caller's
// wish.
func (x *exchange) ended(ctx context.Context) *failure {
	cause := context.Cause(ctx)
	if f, ok := errors.AsType[*failure](cause); !ok || f != &x.expired {
		return &failure{class: classCanceled, text: clean("given up by relay: " + cause.Error())}
	}
	what := "no connection "
	switch {
	case x.answered.Load():
		what = "the answer did not end "
	case x.connected.Load():
		what = "no answer "
	}
	return &failure{class: classTimeout, text: what + "within " + x.timeout.String()}
}

func isTimeout(err error) bool {
	if errors.Is(err, context.DeadlineExceeded) {
		return true
	}
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// isReset reports whether the other end ended the connection or the stream.
func isReset(err error) bool {
	for _, e := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.EPIPE, syscall.ECONNABORTED} {
		if errors.Is(err, e) {
			return true
		}
	}
	for _, text := range closings {
		if strings.Contains(err.Error(), text) {
			return true
		}
	}
	return false
}

// closings are errors of the same meaning that net/http does not export. With
// "cannot rewind" it says that it would have sent the request again, which relay
// does not let it do. The last two are how HTTP/2 says that a request was not
// processed.
var closings = []string{
	"server closed idle connection", "http2: client conn", "cannot rewind body after connection loss", "GOAWAY", "REFUSED_STREAM",
}

// protocolTexts are the ways in which an answer is no HTTP, found in the texts
// of net/http.
var protocolTexts = []struct{ found, text string }{
	{"response headers exceeded", "more headers than relay reads"},
	{"too many 1xx", "too many interim answers"},
	{"malformed MIME header", "a header that is not one"},
	{"malformed HTTP status", "a status that is not one"},
	{"malformed HTTP version", "a version of HTTP that does not exist"},
	{"malformed HTTP response", "not HTTP"},
	{"Content-Length", "a Content-Length that is not one"},
	{"transfer encoding", "a transfer encoding that relay does not know"},
	{"chunk", "a body that is not chunked as it should be"},
	{"trailer", "a trailer that is not one"},
	{"http2", "not HTTP/2 as it should be"},
	{"stream error", "an HTTP/2 stream broken off by the endpoint"},
}

func protocolText(err error) string {
	for _, p := range protocolTexts {
		if strings.Contains(err.Error(), p.found) {
			return "the answer is invalid: " + p.text
		}
	}
	return "the answer is not valid HTTP"
}

// tlsText says why there was no handshake. Of a certificate it says whose it is: the
// endpoint's, or relay's, if it was asked for one and has one to show.
func tlsText(err error, asked, certified bool) string {
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		return "the endpoint does not speak TLS"
	}
	if op, ok := errors.AsType[*net.OpError](err); ok && isAlert(op) {
		return alertText(op, asked, certified)
	} else if ok { // its text would tell addresses
		return "the connection failed during the TLS handshake"
	}
	if verify, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		err = verify.Err
	}
	if _, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		return "its certificate is signed by an unknown authority"
	}
	if invalid, ok := errors.AsType[x509.CertificateInvalidError](err); ok && invalid.Reason == x509.Expired {
		return "its certificate has expired or is not yet valid: " + strings.TrimPrefix(invalid.Detail, "current time ")
	}
	if _, ok := errors.AsType[x509.HostnameError](err); ok {
		return "its certificate is for another name: " + strings.TrimPrefix(err.Error(), "x509: ")
	}
	return strings.TrimPrefix(err.Error(), "x509: ")
}

// alerts are those that are about a certificate of relay's, in the words of
// crypto/tls, which exports no values for them.
var alerts = []struct{ found, text string }{
	{"certificate required", "and none was shown to it"},
	{"expired certificate", "and says that relay's has expired"},
	{"revoked certificate", "and says that relay's was revoked"},
	{"unknown certificate authority", "and does not know the authority that signed relay's"},
	{"unsupported certificate", "and says that relay's is of no kind that it takes"},
	{"unknown certificate", "and does not accept relay's"},
	{"bad certificate", "and does not accept relay's"},
	{"access denied", "and does not let in the one that relay showed"},
	{handshakeFailure, "and does not accept relay's, or there is something else that it does not say"},
}

// handshakeFailure says anything, but who asked for a certificate and was shown
// none often says no more.
const handshakeFailure = "handshake failure"

// isAlert reports whether TLS was ended by an alert, the endpoint's or relay's.
func isAlert(op *net.OpError) bool { return op.Op == "remote error" || op.Op == "local error" }

// alertText is about a TLS alert, which ends the connection.
func alertText(alert *net.OpError, asked, certified bool) string {
	said := strings.TrimPrefix(alert.Err.Error(), "tls: ")
	for _, a := range alerts {
		if alert.Op != "remote error" || said != a.found || said == handshakeFailure && !asked {
			continue
		}
		if !certified {
			return "the endpoint wants a client certificate (" + said + "): register it with one"
		}
		return "the endpoint wants a client certificate, " + a.text + " (" + said + ")"
	}
	return "TLS was broken off: " + said
}

// clean makes a text printable and short.
func clean(text string) string {
	text = strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '\uFFFD'
		}
		return r
	}, text)
	const longest = 300
	if len(text) > longest {
		text = strings.ToValidUTF8(text[:longest], "") + "…"
	}
	return text
}
