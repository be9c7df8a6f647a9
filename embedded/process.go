package embedded

import (
	"errors"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"
)

// process is a child that is always waited for: a zombie still counts as
// running to Postgres, which then refuses to start on its directory again.
type process struct {
	pid    int
	handle *os.Process
	exited chan struct{} // closed once it has been waited for
}

// startProcess starts cmd. Linux sends a child its parent-death signal when the
// thread that forked it ends, not the process; so the thread is kept for as
// long as the child lives.
func startProcess(cmd *exec.Cmd) (*process, error) {
	p := &process{exited: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			p.pid, p.handle = cmd.Process.Pid, cmd.Process
		}
		started <- err
		if err != nil {
			return
		}
		_ = cmd.Wait() // how it ended is in its own log
		close(p.exited)
	}()
	return p, <-started
}

func (p *process) running() bool {
	select {
	case <-p.exited:
		return false
	default:
		return true
	}
}

// signal sends sig; a process that has already ended is no error.
func (p *process) signal(sig syscall.Signal) error {
	if err := p.handle.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return nil
}

// kill ends the process and its children at once, as a power cut would. The
// parent is stopped first, so that it neither makes new children nor mourns
// the dead ones.
func (p *process) kill() {
	if !p.running() {
		return
	}
	_ = p.signal(syscall.SIGSTOP)
	orphans := children(p.pid)
	for _, pid := range orphans {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	_ = p.signal(syscall.SIGKILL)
	<-p.exited
	waitUntil(5*time.Second, func() bool {
		for _, pid := range orphans {
			if commandLine(pid) != "" {
				return false
			}
		}
		return true
	})
}

// waitUntil polls until done says true or the time is over.
func waitUntil(limit time.Duration, done func() bool) bool {
	for end := time.Now().Add(limit); time.Now().Before(end); {
		if done() {
			return true
		}
		time.Sleep(5 * time.Millisecond)
	}
	return done()
}
