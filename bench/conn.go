package bench

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

// The receiver speaks just enough of HTTP/1.1 to answer webhooks. net/http takes
// more than twice the CPU time for the same (BenchmarkReceiver), and what it
// takes is missing from what is measured on the same machine.

var errNotHTTP = errors.New("not a request that the receiver understands")

// answers are whole responses, by status code. Connections stay open.
var answers = map[int][]byte{
	200: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"),
	410: []byte("HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"),
	429: []byte("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n"),
	500: []byte("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"),
}

// serve reads requests off a connection and answers them, one after the other,
// until the peer closes it.
func (r *receiver) serve(c net.Conn) {
	in := bufio.NewReaderSize(c, 4096)
	for {
		path, query, err := readRequest(in)
		if err != nil {
			return
		}
		index, status, delay := r.take(path, query)
		switch {
		case delay < 0: // no answer, until the peer gives up
			_, _ = in.ReadByte()
			return
		case delay > 0 && !pause(c, in, delay):
			return
		}
		if status == http.StatusOK {
			r.well(index)
		}
		if _, err := c.Write(answers[status]); err != nil {
			return
		}
	}
}

// pause waits, and reports false if the peer leaves meanwhile.
func pause(c net.Conn, in *bufio.Reader, d time.Duration) bool {
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		return false
	}
	_, err := in.Peek(1) // a peer says nothing before it has an answer
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	return c.SetReadDeadline(time.Time{}) == nil
}

// readRequest reads one request, body included, and returns its path and query.
func readRequest(in *bufio.Reader) (path, query string, err error) {
	line, err := in.ReadSlice('\n')
	if err != nil {
		return "", "", err
	}
	_, target, ok := bytes.Cut(line, []byte(" "))
	target, _, found := bytes.Cut(target, []byte(" "))
	if !ok || !found {
		return "", "", errNotHTTP
	}
	path, query, _ = strings.Cut(string(target), "?")
	length := int64(0)
	for {
		line, err := in.ReadSlice('\n')
		if err != nil {
			return "", "", err // a header longer than the buffer, too
		}
		if len(line) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(line, []byte(":"))
		switch {
		case isHeader(name, "content-length"):
			if length, err = strconv.ParseInt(string(bytes.TrimSpace(value)), 10, 64); err != nil {
				return "", "", err
			}
		case isHeader(name, "transfer-encoding"):
			return "", "", errNotHTTP
		}
	}
	_, err = io.CopyN(io.Discard, in, length)
	return path, query, err
}

func isHeader(name []byte, want string) bool {
	return len(name) == len(want) && strings.EqualFold(string(name), want)
}
