package vm

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
)

// SSH runs ssh to the guest, as root, and returns its exit status. The guest must
// be known by one of the host keys that were made with it: nothing is asked, and no
// file of the user's is read or written for it.
func (f *VM) SSH(ctx context.Context, identity string, args []string) (status int, err error) {
	if f.CopyOf != "" {
		return 0, fmt.Errorf("the guest %s is a copy of the domain %s, whose host keys it has unless they were made anew: no key is known to be its own. "+
			"Make new ones in it (virsh console %[1]s; rm /etc/ssh/ssh_host_*; dpkg-reconfigure openssh-server), and use ssh", f.Name, f.CopyOf)
	}
	if len(f.Known.HostKeys) == 0 {
		return 0, fmt.Errorf("no host key is known of the guest %s, which was not made here: use ssh", f.Name)
	}
	if !f.Running() {
		return 0, fmt.Errorf("the guest %s is %s: instance-debootstrap vm start %s", f.Name, f.State, f.Name)
	}
	address, port, err := f.Reach(ctx)
	if err != nil {
		return 0, err
	}
	hosts, err := f.knownHosts()
	if err != nil {
		return 0, err
	}
	defer hosts.Close()
	ssh, err := command.Look("ssh")
	if err != nil {
		return 0, err
	}
	argv := []string{
		"-p", strconv.Itoa(port), "-o", "HostKeyAlias=" + f.Name, "-o", "StrictHostKeyChecking=yes", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", fmt.Sprintf("UserKnownHostsFile=/proc/%d/fd/%d", os.Getpid(), hosts.Fd()), "-o", "UpdateHostKeys=no",
	}
	if identity != "" {
		argv = append(argv, "-i", identity)
	}
	argv = append(append(argv, "root@"+address), args...)
	cmd := exec.Command(ssh, argv...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// knownHosts is a file in memory with the guest's keys, as sshd(8) has them.
func (f *VM) knownHosts() (*os.File, error) {
	fd, err := unix.MemfdCreate("known_hosts", unix.MFD_CLOEXEC)
	if err != nil {
		return nil, err
	}
	file := os.NewFile(uintptr(fd), "known_hosts")
	for _, key := range f.Known.HostKeys {
		if _, err := fmt.Fprintf(file, "%s %s\n", f.Name, key); err != nil {
			return nil, errors.Join(err, file.Close())
		}
	}
	return file, nil
}
