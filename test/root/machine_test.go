//go:build root && slow

package root

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// machine is a running QEMU. It emulates all of its processor: that KVM is there
// proves nothing on a machine that is a guest itself.
type machine struct {
	*testing.T
	cmd     *exec.Cmd
	ended   chan struct{}
	console string // file
	monitor string // QEMU's, a socket
	port    int    // on loopback, of its ssh server
	key     string
	user    string // who logs in; root unless said
}

// ovmf are the firmware's code and the first content of its variables.
var ovmf = map[string][2]string{
	"uefi":   {"OVMF_CODE_4M.fd", "OVMF_VARS_4M.fd"},
	"secure": {"OVMF_CODE_4M.secboot.fd", "OVMF_VARS_4M.ms.fd"},
}

// start boots l.disk, which the guest writes to: bios, uefi or secure (UEFI with
// Secure Boot and the vendors' keys). More of QEMU's options may follow.
func (l *lab) start(firmware string, options ...string) *machine {
	l.Helper()
	dir := l.TempDir()
	m := &machine{T: l.T, ended: make(chan struct{}), console: filepath.Join(dir, "console"), monitor: filepath.Join(dir, "monitor"), port: freePort(l.T)}
	args := []string{
		"-accel", "tcg", "-cpu", "max", "-smp", "2", "-m", "768", "-display", "none", "-serial", "file:" + m.console, "-monitor", "unix:" + m.monitor + ",server,nowait",
		"-drive", "format=raw,if=virtio,cache=unsafe,file=" + l.disk,
		"-netdev", fmt.Sprintf("user,id=n,restrict=on,hostfwd=tcp:127.0.0.1:%d-:22", m.port), "-device", "virtio-net-pci,netdev=n,mac=" + cmp.Or(l.env["NIC_0_MAC"], "aa:00:00:12:34:56"),
		"-device", "virtio-rng-pci",
	}
	if files, ok := ovmf[firmware]; ok {
		vars := filepath.Join(dir, "vars")
		l.tool("cp", "/usr/share/OVMF/"+files[1], vars)
		machine := "q35"
		if firmware == "secure" {
			machine = "q35,smm=on"
			args = append(args, "-global", "driver=cfi.pflash01,property=secure,value=on")
		}
		args = append(args, "-machine", machine, "-drive", "if=pflash,format=raw,readonly=on,file=/usr/share/OVMF/"+files[0], "-drive", "if=pflash,format=raw,file="+vars)
	}
	m.cmd = exec.Command("qemu-system-x86_64", append(args, options...)...)
	m.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var stderr bytes.Buffer
	m.cmd.Stderr = &stderr
	must(l, m.cmd.Start())
	go func() { m.cmd.Wait(); close(m.ended) }()
	l.Cleanup(func() {
		m.cmd.Process.Kill()
		<-m.ended
		if stderr.Len() > 0 {
			l.Logf("QEMU: %s", stderr.String())
		}
	})
	return m
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// says waits until the console has the text.
func (m *machine) says(text string, limit time.Duration) {
	m.Helper()
	for deadline := time.Now().Add(limit); ; time.Sleep(200 * time.Millisecond) {
		said, _ := os.ReadFile(m.console)
		if strings.Contains(string(said), text) {
			return
		}
		select {
		case <-m.ended:
			m.Fatalf("the guest ended before %q:\n%s", text, said)
		default:
		}
		if time.Now().After(deadline) {
			m.Fatalf("the guest did not say %q in %v:\n%s", text, limit, said)
		}
	}
}

// ssh runs a command in the guest, as root unless m.user is another, and returns what it printed. A guest's login
// prompt may be there before its ssh server, which at the first boot waits for its RSA key.
func (m *machine) ssh(command string, limit time.Duration) (out string, err error) {
	ctx, cancel := context.WithTimeout(m.Context(), limit)
	defer cancel()
	for {
		const sshFailed = 255 // ssh(1), "EXIT STATUS"
		var exit *exec.ExitError
		out, err = m.sshOnce(ctx, command)
		if !errors.As(err, &exit) || exit.ExitCode() != sshFailed || ctx.Err() != nil {
			return out, err
		}
		time.Sleep(time.Second)
	}
}

func (m *machine) sshOnce(ctx context.Context, command string) (string, error) {
	out, err := exec.CommandContext(ctx, "ssh", "-F", "none", "-i", m.key, "-p", fmt.Sprint(m.port), "-o", "StrictHostKeyChecking=no",
		"-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes", "-o", "ConnectTimeout=60", "-o", "LogLevel=ERROR", cmp.Or(m.user, "root")+"@127.0.0.1", command).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// guestPatience is how long an emulated guest has for what takes it a minute when it
// has a processor to itself: it only ends tests that hang.
const guestPatience = 15 * time.Minute

// must runs a command in the guest that must succeed.
func (m *machine) must(command string) string {
	m.Helper()
	out, err := m.ssh(command, guestPatience)
	if err != nil {
		m.Errorf("%s: %v\n%s", command, err, out)
	}
	return out
}

// off shuts the guest down as every hypervisor does: by its power button.
func (m *machine) off() {
	m.Helper()
	monitor, err := net.Dial("unix", m.monitor)
	must(m, err)
	defer monitor.Close()
	_, err = monitor.Write([]byte("system_powerdown\n"))
	must(m, err)
	select {
	case <-m.ended:
	case <-time.After(guestPatience):
		m.Errorf("the guest does not answer its power button")
		m.cmd.Process.Kill()
		<-m.ended
	}
}
