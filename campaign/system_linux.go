package main

import "syscall"

// smallStore bounds each store, so that a fault can fill it.
const smallStore = "size=768m,mode=0755"

// attributes have a child die with us, in a process group of its own.
func attributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

// mountSmall makes dir a tmpfs of its own. It needs root.
func mountSmall(dir string) error {
	return syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, smallStore)
}

func unmount(dir string) error { return syscall.Unmount(dir, syscall.MNT_DETACH) }
