package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"syscall"
)

// child is a process of ours. It is always waited for, and it dies with us.
type child struct {
	*exec.Cmd
	ended chan struct{} // closed once it has been waited for
}

// spawn starts a program and hands each line of its standard error to hear.
func spawn(hear func(string), path string, args ...string) (*child, error) {
	cmd := exec.Command(path, args...) //nolint:noctx // the campaign ends it
	cmd.SysProcAttr = attributes()
	cmd.Env = append(os.Environ(), "GORACE=halt_on_error=0 exitcode=66")
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return nil, fmt.Errorf("campaign: start %s: %w", path, err)
	}
	c := &child{Cmd: cmd, ended: make(chan struct{})}
	started := make(chan error)
	go func() { // Linux kills a child with the thread that made it: keep the thread
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			c.listen(stderr, hear)
		}
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("campaign: start %s: %w", path, err)
	}
	return c, nil
}

func (c *child) listen(stderr io.Reader, hear func(string)) {
	defer close(c.ended)
	lines := bufio.NewScanner(stderr)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		hear(lines.Text())
	}
	_ = c.Wait() // how it ended is in its ProcessState
}

func (c *child) running() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

func (c *child) signal(s syscall.Signal) { _ = c.Process.Signal(s) }

// kill ends it as a crash would, and returns when it is gone.
func (c *child) kill() {
	c.signal(syscall.SIGKILL)
	<-c.ended
}

// freePort finds a port that nobody listens on.
func freePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it is there at once
	if err != nil {
		return 0, fmt.Errorf("campaign: find a port: %w", err)
	}
	defer func() { _ = listener.Close() }() // to make room for who gets the port
	_, text, err := net.SplitHostPort(listener.Addr().String())
	if err != nil {
		return 0, fmt.Errorf("campaign: find a port: %w", err)
	}
	var port int
	_, err = fmt.Sscan(text, &port)
	return port, err
}
