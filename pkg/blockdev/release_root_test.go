//go:build root

package blockdev

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"
)

// openFor has another program hold the disk open for a while.
func openFor(t *testing.T, disk, seconds string) {
	t.Helper()
	f, err := os.Open(disk)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	cmd := exec.Command("sleep", seconds)
	cmd.Stdin = f
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill() })
	go cmd.Wait()
}

func TestReleaseWaitsUntilAProbeOfTheDiskHasEnded(t *testing.T) {
	disk := attachLoop(t, newDisk(t, 8<<20))
	d := mustOpen(t, disk, t.TempDir())
	openFor(t, disk, "0.5")
	var log bytes.Buffer
	began := time.Now()
	if err := d.Release(zerolog.New(&log).WithContext(context.Background())); err != nil {
		t.Fatal(err)
	}
	if d.openBy(nil, func(string) bool { return true }) != "" {
		t.Error("the disk is still open after it was released")
	}
	if took := time.Since(began); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if log.Len() != 0 {
		t.Errorf("log: %s", &log)
	}
}

func TestADiskThatStaysOpenIsToldOfWithTheProgramThatHasIt(t *testing.T) {
	disk, locks := attachLoop(t, newDisk(t, 8<<20)), t.TempDir()
	d := mustOpen(t, disk, locks)
	openFor(t, disk, "60")
	var log bytes.Buffer
	ctx, cancel := context.WithTimeout(zerolog.New(&log).WithContext(context.Background()), 300*time.Millisecond)
	defer cancel()
	if err := d.Release(ctx); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{disk, "sleep (process "} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("the log doesn't say %q: %s", want, &log)
		}
	}
	mustOpen(t, disk, locks) // the claim is given up all the same
}

func TestReleaseOfAFreeDiskWaitsForNothingElse(t *testing.T) {
	if _, err := os.Stat("/run/udev/control"); err == nil {
		t.Log("systemd-udevd runs here: its queue is waited for as well")
	}
	for _, disk := range []string{attachLoop(t, newDisk(t, 8<<20)), filepath.Clean(newDisk(t, 8<<20))} {
		d := mustOpen(t, disk, t.TempDir())
		began := time.Now()
		if err := d.Release(context.Background()); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(began); took > settleTime+time.Second {
			t.Errorf("the release of %s took %v", disk, took)
		}
	}
}
