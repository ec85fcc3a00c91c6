//go:build root

// Package libvirt holds the tests of the vm commands against a real libvirtd. They
// run in namespaces of their own (test/ganeti/node), where nothing of the
// machine's libvirt is seen or changed: this program starts itself anew in there. With
// TEST_VG=vg0 that is User-Mode Linux, and the pool is of LVM (uml).
package libvirt

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const insideMark = "TEST_LIBVIRT_INSIDE"

func TestMain(m *testing.M) {
	if os.Getenv(intruderMark) != "" {
		intrude(os.Stdin)
		os.Exit(0)
	}
	if os.Getenv(insideMark) != "" {
		os.Exit(m.Run())
	}
	status, err := runInside()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// prepare is what tests need to have in the work folder.
var prepare []func(srv string) error

// runInside prepares a work folder, which is /srv in there, and runs these tests.
func runInside() (status int, err error) {
	state, near := os.Getenv("FAULT_STATE"), ""
	if state != "" {
		near = filepath.Dir(state)
	}
	work, err := os.MkdirTemp(near, "libvirt-test-")
	if err != nil {
		return 1, err
	}
	defer os.RemoveAll(work)
	srv := filepath.Join(work, "srv")
	if err := os.Mkdir(srv, 0o755); err != nil {
		return 1, err
	}
	if state != "" { // whose folder may not be seen in there
		if err := link(state, srv+"/faults.done"); err != nil {
			return 1, err
		}
	}
	if trees := os.Getenv("TEST_CACHE"); trees != "" { // that outlives this run
		if err := os.Symlink(trees, filepath.Join(work, "cache")); err != nil {
			return 1, err
		}
	}
	self, err := os.Executable()
	if err != nil {
		return 1, err
	}
	build := exec.Command("go", "build", "-o", filepath.Join(srv, "instance-debootstrap"), "../../cmd/instance-debootstrap")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return 1, fmt.Errorf("%w: %s", err, out)
	}
	if err := errors.Join(copyFile(self, srv+"/tests"), copyFile("inside", srv+"/inside"), os.Symlink("instance-debootstrap", srv+"/vmbootstrap")); err != nil {
		return 1, err
	}
	for _, do := range prepare {
		if err := do(srv); err != nil {
			return 1, err
		}
	}
	args := []string{"../ganeti/node", "-n", work, "/srv/inside", "/srv/tests"}
	if os.Getenv("TEST_VG") != "" {
		args = []string{"./uml", work, "/srv/inside", "/srv/tests"}
	}
	for _, a := range os.Args[1:] {
		if !strings.HasPrefix(a, "-test.testlogfile") && !strings.HasPrefix(a, "-test.outputdir") {
			args = append(args, a)
		}
	}
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Env = append(os.Environ(), insideMark+"=yes")
	if state != "" {
		cmd.Env = append(cmd.Env, "FAULT_STATE=/srv/faults.done")
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}

// link gives a file, which may not be there yet, a second name.
func link(file, name string) error {
	if strings.HasPrefix(file, "/var/") || strings.HasPrefix(file, "/etc/") {
		return fmt.Errorf("%s: what is written below /var and /etc in there is lost: take another folder", file)
	}
	f, err := os.OpenFile(file, os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Link(file, name))
}

func copyFile(from, to string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o755)
	if err != nil {
		return err
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Close())
}
