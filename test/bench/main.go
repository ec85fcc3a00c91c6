// Command bench compares this source with the packaged shell provider, side by
// side: for each row of the table both are warmed up and then run by turns on the
// same filesystem, and what they write is made durable inside the time that is
// measured. It prints each row as it comes and, when all rows ran, writes the
// figures into docs/performance.md. ./run builds what it needs and starts it in a
// mount namespace of its own.
//
// It is no test: it fails only when something can't be run, or when the two
// guests aren't the same.
package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

func main() {
	b := &bench{}
	flag.StringVar(&b.work, "work", "", "work `FOLDER`, on the disk to be measured")
	flag.IntVar(&b.runs, "runs", 5, "measured `RUNS` of each side, after one that warms up")
	flag.Int64Var(&b.diskGiB, "disk", 4, "`SIZE` of the guests' disks in GiB")
	flag.StringVar(&b.mirror, "mirror", "", "archive `URL`")
	flag.StringVar(&b.suite, "suite", "", "`SUITE` to install")
	flag.StringVar(&b.doc, "doc", "", "`FILE` to write the figures into")
	wanted := flag.String("rows", "", "these `ROWS` only, separated by blanks")
	flag.Parse()
	if err := b.run(strings.Fields(*wanted)); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type bench struct {
	work, doc     string
	mirror, suite string
	runs          int
	diskGiB       int64

	named       string // the rows that were asked for, as the command line has them
	arch, style string
	shell, ours provider
	accounting  *accounting
	results     []result
	steps       []stepTable
	failed      []string // rows
}

func (b *bench) run(wanted []string) (err error) {
	rows := b.rows()
	for _, name := range wanted {
		if !slices.ContainsFunc(rows, func(r row) bool { return r.name == name }) {
			return fmt.Errorf("there is no row %s", name)
		}
	}
	if len(wanted) > 0 {
		b.named = fmt.Sprintf("BENCH_ROWS=%q ", strings.Join(wanted, " "))
	}
	if err := b.prepare(); err != nil {
		return err
	}
	begin := time.Now()
	var faults []error
	for _, r := range rows {
		if len(wanted) > 0 && !slices.Contains(wanted, r.name) {
			continue
		}
		if err := errors.Join(r.run(r), b.tidy()); err != nil { // the other rows are worth having
			err = fmt.Errorf("row %s: %w", r.name, err)
			fmt.Fprintln(os.Stderr, "bench:", err)
			faults, b.failed = append(faults, err), append(b.failed, r.name)
		}
	}
	fmt.Printf("\nall rows: %.0f s\n", time.Since(begin).Seconds())
	if b.doc != "" {
		faults = append(faults, b.writeDoc())
	}
	return errors.Join(faults...)
}

// prepare finds out what this machine can do and sets up both providers.
func (b *bench) prepare() (err error) {
	syscall.Umask(0o077) // Ganeti's node daemon has it
	if b.arch, err = tool("dpkg", "--print-architecture"); err != nil {
		return err
	}
	b.style = "none"
	if devices, _ := os.ReadFile("/proc/devices"); strings.Contains(string(devices), "device-mapper") {
		b.style = "msdos"
	}
	if b.accounting, err = startAccounting(); err != nil {
		return err
	}
	if b.shell, err = newShell(b.work); err != nil {
		return err
	}
	if b.ours, err = newOurs(b.work); err != nil {
		return err
	}
	return os.MkdirAll(b.work+"/disks", 0o755)
}

// tidy removes the disks of a row.
func (b *bench) tidy() error {
	if err := os.RemoveAll(b.work + "/disks"); err != nil {
		return err
	}
	return os.MkdirAll(b.work+"/disks", 0o755)
}

// machine says where it was measured.
func (b *bench) machine() string {
	var u unix.Utsname
	kernel := "an unknown kernel"
	if unix.Uname(&u) == nil {
		kernel = "Linux " + unix.ByteSliceToString(u.Release[:])
	}
	mem := ""
	if raw, err := os.ReadFile("/proc/meminfo"); err == nil {
		var kib int64
		if _, err := fmt.Sscanf(string(raw), "MemTotal: %d kB", &kib); err == nil {
			mem = fmt.Sprintf(", %d GiB of memory", kib>>20)
		}
	}
	return fmt.Sprintf("%d cores%s, %s, the disks are sparse files on %s", runtime.NumCPU(), mem, kernel, fsType(b.work))
}

// versions says what was compared.
func (b *bench) versions() string {
	shell, _ := tool("dpkg-query", "-W", "-f", "${Version}", packagedName)
	ours, _ := exec.Command(b.work+"/ours/instance-debootstrap", "version").Output()
	return fmt.Sprintf("%s %s and this source at %s", packagedName, shell, strings.TrimSpace(string(ours)))
}
