//go:build root

package filesystem

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/mounts"
)

const (
	miB = int64(1 << 20)
	giB = int64(1 << 30)
)

// TestMain runs the tests in a mount namespace of their own: where the host's
// mounts aren't shared (no systemd), another test's new namespace would get a
// copy of ours, and keep the filesystem alive after our unmount. For the same
// reason the copies of others' mounts in the temporary folder go first.
func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "needs root")
		os.Exit(1)
	}
	const marker = "FILESYSTEM_TEST_IN_NAMESPACE"
	if os.Getenv(marker) == "" {
		self, _ := os.Executable()
		argv := append([]string{"unshare", "--mount", "--propagation", "private", self}, os.Args[1:]...)
		path, err := command.Look("unshare")
		if err == nil {
			err = unix.Exec(path, argv, append(os.Environ(), marker+"=1"))
		}
		fmt.Fprintln(os.Stderr, "unshare:", err)
		os.Exit(1)
	}
	list, err := mounts.List("self")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, m := range list {
		if strings.HasPrefix(m.Point, os.TempDir()+"/") {
			unix.Unmount(m.Point, unix.MNT_DETACH)
		}
	}
	os.Exit(m.Run())
}

// run runs a tool and returns all it printed and its exit status.
func run(t *testing.T, args ...string) (string, int) {
	t.Helper()
	path, err := command.Look(args[0])
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, args[1:]...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

// must is run for a tool that must succeed.
func must(t *testing.T, args ...string) string {
	t.Helper()
	out, status := run(t, args...)
	if status != 0 {
		t.Fatalf("%v: exit %d\n%s", args, status, out)
	}
	return out
}

func sparseFile(t *testing.T, sizeBytes int64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path, sizeBytes); err != nil {
		t.Fatal(err)
	}
	return path
}

// loop returns a loop device over a sparse file.
func loop(t *testing.T, sizeBytes int64) string {
	t.Helper()
	dev := strings.TrimSpace(must(t, "losetup", "--find", "--show", sparseFile(t, sizeBytes/512*512)))
	t.Cleanup(func() { must(t, "losetup", "--detach", dev) })
	return dev
}

// partition makes the node of a device's partition 1 known to the kernel.
func partition(t *testing.T, dev string, startSector, sectors int64) string {
	t.Helper()
	must(t, "addpart", dev, "1", fmt.Sprint(startSector), fmt.Sprint(sectors))
	t.Cleanup(func() { must(t, "delpart", dev, "1") })
	return dev + "p1"
}

// logged returns a context that logs to the buffer, at all levels.
func logged(t *testing.T) (context.Context, *bytes.Buffer) {
	var b bytes.Buffer
	return zerolog.New(&b).WithContext(t.Context()), &b
}

func mountTemp(t *testing.T, dev string, kind Type) string {
	t.Helper()
	dir := t.TempDir()
	if err := Mount(t.Context(), dev, dir, kind); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := MountSource(dir); err == nil {
			if err := Unmount(dir); err != nil {
				t.Error(err)
			}
		}
	})
	return dir
}
