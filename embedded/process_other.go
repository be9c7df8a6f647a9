//go:build unix && !linux

package embedded

import (
	"os/exec"
	"strconv"
	"strings"
	"syscall"
)

// maxSocketPath is what fits into a Unix socket address.
const maxSocketPath = 103

// processAttributes puts a child into a group of its own, so that Ctrl-C
// reaches relay alone. There is no parent-death signal here: a server left over
// by a killed relay is stopped when its directory is opened again.
func processAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true}
}

// children returns the process ids of pid's children. Postgres gives each a
// session of its own, so a signal to the group would not reach them.
func children(pid int) []int {
	out, err := exec.Command("ps", "-axo", "pid=,ppid=").Output()
	if err != nil {
		return nil
	}
	var found []int
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[1] != strconv.Itoa(pid) {
			continue
		}
		if child, err := strconv.Atoi(fields[0]); err == nil {
			found = append(found, child)
		}
	}
	return found
}

// commandLine returns the command and arguments of a live process, or "" if
// there is none. A zombie has none.
func commandLine(pid int) string {
	out, err := exec.Command("ps", "-o", "stat=,command=", "-p", strconv.Itoa(pid)).Output()
	if err != nil {
		return ""
	}
	state, command, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if strings.HasPrefix(state, "Z") {
		return ""
	}
	return strings.TrimSpace(command)
}
