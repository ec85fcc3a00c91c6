package main

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// provider is an OS definition and where it has its files.
type provider struct {
	name     string
	osDir    string
	defaults string // its settings file
	cache    string
	log      string // what its scripts print
}

const (
	packagedOS    = "/usr/share/ganeti/os/debootstrap"
	packagedConf  = "/etc/default/ganeti-instance-debootstrap"
	packagedCache = "/var/cache/ganeti-instance-debootstrap"
	packagedName  = "ganeti-instance-debootstrap"
)

// newShell puts files of our own over those of the packaged shell provider, in
// the mount namespace that we are in.
func newShell(work string) (provider, error) {
	p := provider{name: "shell", osDir: packagedOS, defaults: work + "/shell/default", cache: work + "/shell/cache", log: work + "/shell/log"}
	head := make([]byte, 64)
	if f, err := os.Open(packagedOS + "/create"); err == nil {
		f.Read(head)
		f.Close()
	}
	if !bytes.Contains(head, []byte("bash")) {
		return p, fmt.Errorf("the packaged shell provider is not in %s: apt-get install %s", packagedOS, packagedName)
	}
	if err := os.MkdirAll(p.cache, 0o755); err != nil {
		return p, err
	}
	if err := p.settings(); err != nil {
		return p, err
	}
	if err := bind(p.defaults, packagedConf); err != nil {
		return p, err
	}
	return p, bind(p.cache, packagedCache)
}

func bind(what, over string) error {
	if err := unix.Mount(what, over, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind %s over %s: %w", what, over, err)
	}
	return nil
}

// newOurs is this source, installed below the folder that was compiled in.
func newOurs(work string) (provider, error) {
	base := work + "/ours"
	p := provider{name: "ours", osDir: base + "/os", defaults: base + "/default", cache: base + "/cache", log: base + "/log"}
	for _, dir := range []string{p.osDir, p.cache} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return p, err
		}
	}
	for _, verb := range []string{"create", "import", "export", "rename", "verify"} {
		os.Remove(p.osDir + "/" + verb)
		if err := os.Symlink(base+"/instance-debootstrap", p.osDir+"/"+verb); err != nil {
			return p, err
		}
	}
	return p, p.settings()
}

// settings writes the provider's settings file.
func (p provider) settings(lines ...string) error {
	return os.WriteFile(p.defaults, []byte(strings.Join(lines, "\n")+"\n"), 0o644)
}

// command is a script of the provider, called as Ganeti does: a reset
// environment, the OS's folder as working folder (umask 077 is ours already).
func (p provider) command(verb, disk string, env ...string) *exec.Cmd {
	cmd := exec.Command(filepath.Join(p.osDir, verb))
	cmd.Dir = p.osDir
	cmd.Env = append([]string{
		"PATH=/sbin:/bin:/usr/sbin:/usr/bin", "OS_API_VERSION=20", "OS_NAME=debootstrap", "OS_VARIANT=", "DEBUG_LEVEL=0",
		"INSTANCE_NAME=" + guestName, "INSTANCE_OS=debootstrap", "INSTANCE_UUID=6dca3f1b-7d0a-4d63-8d5c-8b4f2f9f5f10", "HYPERVISOR=kvm",
		"INSTANCE_HV_serial_console=True", "DISK_COUNT=1", "DISK_0_PATH=" + disk, "DISK_0_ACCESS=rw", "DISK_0_BACKEND_TYPE=file:loop", "NIC_COUNT=0",
		"EXPORT_DEVICE=" + disk, "EXPORT_INDEX=0", "IMPORT_DEVICE=" + disk, "IMPORT_INDEX=0", "OLD_INSTANCE_NAME=" + guestName,
	}, env...)
	return cmd
}

const guestName = "guest.example"

// run runs commands at the same time, to their ends. Streams that are not set go
// to the log.
func (p provider) run(cmds ...*exec.Cmd) error {
	log, err := os.Create(p.log)
	if err != nil {
		return err
	}
	defer log.Close()
	started := cmds[:0:0]
	for _, cmd := range cmds {
		cmd.Stderr = log
		if cmd.Stdout == nil {
			cmd.Stdout = log
		}
		if startErr := cmd.Start(); startErr != nil {
			err = startErr
			break
		}
		started = append(started, cmd)
	}
	for _, cmd := range started {
		if waitErr := cmd.Wait(); waitErr != nil && err == nil {
			err = waitErr
		}
	}
	if err != nil {
		return fmt.Errorf("%s of %s: %w\n%s", cmds[0].Path, p.name, err, tail(p.log))
	}
	return nil
}

// tail returns the last lines of a file.
func tail(path string) string {
	raw, _ := os.ReadFile(path)
	lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
	return strings.Join(lines[max(0, len(lines)-20):], "\n")
}

// tool runs a tool that must succeed, and returns what it prints.
func tool(args ...string) (string, error) {
	var out, said bytes.Buffer
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s: %w: %s%s", strings.Join(args, " "), err, said.String(), out.String())
	}
	return strings.TrimSpace(out.String()), nil
}

// copyDir copies a folder as it is, times and all.
func copyDir(from, to string) error {
	_, err := tool("cp", "-a", "--sparse=always", from, to)
	return err
}

// discard is a reader at the other end of a pipe: it counts.
type discard struct{ bytes int64 }

func (d *discard) Write(p []byte) (int, error) {
	d.bytes += int64(len(p))
	return len(p), nil
}

var _ io.Writer = (*discard)(nil)
