package embedded

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is what fits into a Unix socket address.
const maxSocketPath = 107

// processAttributes puts a child into a group of its own, so that Ctrl-C
// reaches relay alone, and has it shut down when relay dies, however it dies.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGINT}
}

// children returns the process ids of pid's children. Postgres gives each a
// session of its own, so a signal to the group would not reach them.
func children(pid int) []int {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	var found []int
	for _, e := range entries {
		child, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue // it has ended meanwhile
		}
		// "pid (name) state ppid …", where the name may hold anything
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		if len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			found = append(found, child)
		}
	}
	return found
}

// commandLine returns the command and arguments of a live process, or "" if
// there is none. A zombie has none.
func commandLine(pid int) string {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(bytes.ReplaceAll(b, []byte{0}, []byte{' '})))
}
