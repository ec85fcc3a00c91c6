//go:build root && slow

package root

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"instance-debootstrap/test/manual"
)

// tellsRoot is a hook. The guest's systemd then says on the console, first of all,
// how it was started and what it found as its root.
const tellsRoot = `mkdir -p "$TARGET/etc/systemd/system-generators"
cat >"$TARGET/etc/systemd/system-generators/tell-root" <<'END'
#!/bin/sh
by=bios
[ ! -d /sys/firmware/efi ] || by=uefi
case $(od -An -tu1 -j4 /sys/firmware/efi/efivars/SecureBoot-* 2>/dev/null) in *1*) by=secure ;; esac
while read -r dev dir type rest; do [ "$dir" != / ] || root="$dev $type"; done </proc/self/mounts
echo "<1>guest: booted by=$by root=$root host=$(cat /etc/hostname) kernel=$(uname -r) guest-said-all" >/dev/kmsg
END
chmod 755 "$TARGET/etc/systemd/system-generators/tell-root"`

// bootRow is one guest under one firmware.
type bootRow struct {
	guest, suite, style, fstype, firmware string

	disk, host string
	seconds    float64
	kernel     string
	err        error
}

// String is the row in the table.
func (r *bootRow) String() string {
	came := "yes"
	if r.err != nil {
		came = "**no**"
	}
	return fmt.Sprintf("| %s | %s | %s | %s | %s | %s | %s | %.0f |", r.guest, r.suite, r.style, r.fstype, r.firmware, r.kernel, came, r.seconds)
}

// firmwaresOf lists what a layout boots under.
func firmwaresOf(style string) []string {
	if style == "msdos" {
		return []string{"bios"}
	}
	return []string{"bios", "uefi", "secure"}
}

// rows makes a guest, and one row for each firmware that it has to boot under.
func (l *lab) rows(suite, style, fstype string) []*bootRow {
	l.Helper()
	disk := filepath.Join(l.TempDir(), "disk")
	must(l, os.WriteFile(disk, nil, 0o600))
	must(l, os.Truncate(disk, 3<<30))
	l.disks(disk)
	l.env["OSP_PARTITION_STYLE"], l.env["OSP_FILESYSTEM"] = style, fstype
	l.hook("50-tell-root", tellsRoot)
	l.create()
	return rowsOf(bootRow{guest: "new", suite: suite, style: style, fstype: fstype, disk: disk, host: l.env["INSTANCE_NAME"]})
}

func rowsOf(row bootRow) (rows []*bootRow) {
	for _, firmware := range firmwaresOf(row.style) {
		one := row
		one.firmware = firmware
		rows = append(rows, &one)
	}
	return rows
}

// boot starts the row's disk until its guest has told of its root.
func (r *bootRow) boot() {
	begin := time.Now()
	var said, messages strings.Builder
	cmd := exec.Command(program, "boot-test", "--firmware", r.firmware, "--marker", "guest-said-all", "--timeout", "12m", "--memory", "768", "--console", r.disk)
	cmd.Stdout, cmd.Stderr = &said, &messages
	err := cmd.Run()
	r.seconds = time.Since(begin).Seconds()
	at := strings.Index(said.String(), "guest: booted ")
	if err != nil || at < 0 {
		r.err = fmt.Errorf("%v\n%s", err, messages.String())
		return
	}
	line, _, _ := strings.Cut(said.String()[at:], "\n")
	for _, want := range []string{"by=" + r.firmware + " ", " " + r.fstype + " ", "host=" + r.host + " "} {
		if !strings.Contains(line, want) {
			r.err = fmt.Errorf("the guest says %q, without %q", line, want)
			return
		}
	}
	_, rest, _ := strings.Cut(line, "kernel=")
	r.kernel, _, _ = strings.Cut(rest, " ")
}

// bootAll boots them all, two disks at a time.
func bootAll(t *testing.T, rows []*bootRow) {
	t.Helper()
	disks := map[string][]*bootRow{}
	for _, r := range rows {
		disks[r.disk] = append(disks[r.disk], r)
	}
	var wait sync.WaitGroup
	turns := make(chan struct{}, 2)
	for _, onDisk := range disks {
		wait.Go(func() {
			turns <- struct{}{}
			for _, r := range onDisk {
				r.boot()
			}
			<-turns
		})
	}
	wait.Wait()
	for _, r := range rows {
		name := strings.Join([]string{r.guest, r.suite, r.style, r.fstype, r.firmware}, "/")
		if r.err != nil {
			t.Errorf("%s: %v", name, r.err)
		}
		t.Logf("%s: %.0f s", name, r.seconds)
	}
}

// movedAndRenamed are a guest that was exported and imported onto another disk,
// and one that was renamed.
func (l *lab) movedAndRenamed(suite string) (rows []*bootRow) {
	l.Helper()
	for _, verb := range []string{"export", "import"} {
		must(l, os.Symlink(program, filepath.Join(base, "os", verb)))
	}
	source := l.rows(suite, "gpt", "ext4")[0].disk
	stream := l.export(0, source)
	l.target(3072)
	l.importFile(stream)
	rows = rowsOf(bootRow{guest: "exported, imported", suite: suite, style: "gpt", fstype: "ext4", disk: l.disk, host: l.env["INSTANCE_NAME"]})

	l.disks(source)
	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = l.env["INSTANCE_NAME"], "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		l.Fatal(log)
	}
	return append(rows, rowsOf(bootRow{guest: "renamed", suite: suite, style: "gpt", fstype: "ext4", disk: source, host: "inst2.example"})...)
}

// newestSuite is where what later suites will be like is seen first.
const newestSuite = "sid"

// TestAGuestOfTheNewestSuiteBoots is the matrix's part of it that every check runs.
func TestAGuestOfTheNewestSuiteBoots(t *testing.T) {
	l := realGuestOf(t, newestSuite)
	rows := l.rows(newestSuite, "gpt", "ext4")
	bootAll(t, slices.DeleteFunc(rows, func(r *bootRow) bool { return r.firmware != "uefi" }))
}

// TestEveryLayoutBootsUnderEveryFirmware is the matrix's part that every check runs.
func TestEveryLayoutBootsUnderEveryFirmware(t *testing.T) {
	suite := os.Getenv("TEST_SUITE")
	l := realGuestOf(t, suite)
	bootAll(t, append(l.rows(suite, "msdos", "ext4"), l.rows(suite, "gpt", "ext4")...))
}

// otherArch are the guests of other architectures than the node's, of a suite that has
// kernels for all of them, each with what its machines have been started by.
var otherArch = []struct{ arch, style, firmware string }{{"i386", "msdos", "bios"}, {"arm64", "gpt", "uefi"}}

// otherRows makes and boots a guest of each, from the suite alone: its security archive
// has other architectures' lists at other times. arm64's programs are run by the node's binfmt_misc.
func otherRows(t *testing.T) (all []*bootRow) {
	for _, c := range otherArch {
		t.Run(c.arch, func(t *testing.T) {
			l := realGuestOf(t, "bookworm")
			l.write("default", fmt.Sprintf("MIRROR=%s\nSECURITY_MIRROR=none\nSUITE=bookworm\nCACHE_DIR=%s\n", os.Getenv("TEST_MIRROR"), realCache(t)), 0o644)
			l.env["OSP_ARCH"], l.limit = c.arch, 90*time.Minute // each of their programs is emulated
			rows := slices.DeleteFunc(l.rows("bookworm", c.style, "ext4"), func(r *bootRow) bool { return r.firmware != c.firmware })
			for _, r := range rows {
				r.guest = "new, " + c.arch
			}
			bootAll(t, rows)
			all = append(all, rows...)
		})
	}
	return all
}

// TestGuestsOfOtherArchitecturesBoot is the matrix's part of them alone; its rows are in the log.
func TestGuestsOfOtherArchitecturesBoot(t *testing.T) {
	for _, r := range otherRows(t) {
		t.Log(r)
	}
}

// TestUbuntusGuestsBoot is the matrix's part of them alone; its rows are in the log.
func TestUbuntusGuestsBoot(t *testing.T) {
	for _, r := range ubuntuRows(t) {
		t.Log(r)
	}
}

func ubuntuRows(t *testing.T) (all []*bootRow) {
	for _, suite := range ubuntus {
		t.Run(suite, func(t *testing.T) {
			l := realGuestOf(t, suite)
			rows := append(l.rows(suite, "msdos", "ext4"), l.rows(suite, "gpt", "ext4")...)
			bootAll(t, rows)
			all = append(all, rows...)
		})
	}
	return all
}

// TestBootMatrix writes its table into the file that TEST_MATRIX names.
func TestBootMatrix(t *testing.T) {
	var all []*bootRow
	for _, suite := range []string{"bookworm", "trixie", "forky", newestSuite} {
		t.Run(suite, func(t *testing.T) {
			l := realGuestOf(t, suite)
			var rows []*bootRow
			for _, fstype := range []string{"ext4", "xfs", "btrfs"} {
				rows = append(append(rows, l.rows(suite, "msdos", fstype)...), l.rows(suite, "gpt", fstype)...)
			}
			rows = append(rows, l.movedAndRenamed(suite)...)
			bootAll(t, rows)
			all = append(all, rows...)
		})
	}
	t.Run("other architectures", func(t *testing.T) {
		all = append(all, otherRows(t)...)
	})
	if os.Getenv("TEST_UBUNTU") != "" { // which test/boot-matrix says
		all = append(all, ubuntuRows(t)...)
	}
	if name := os.Getenv("TEST_MATRIX"); name != "" {
		must(t, os.WriteFile(name, []byte(matrixPage(t, all)), 0o644))
	}
}

func matrixPage(t *testing.T, rows []*bootRow) string {
	t.Helper()
	version := func(args ...string) string {
		out, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		must(t, err)
		line, _, _ := strings.Cut(string(out), "\n")
		return line
	}
	var b strings.Builder
	about := "Made by `make check-boot` on " + time.Now().UTC().Format("2006-01-02 15:04 UTC") + ". Each row is a guest of the archive, created from a warm cache, " +
		"whose disk `instance-debootstrap boot-test` starts in QEMU with the processor emulated or KVM, whichever works. " +
		"The row ends where the guest's systemd has started on its root, and has said by itself which firmware " +
		"started it (Secure Boot: that it is on), what filesystem its root is, and its host name. One gpt disk serves " +
		"all three firmwares. The seconds are of a machine that emulates the processor and does other things meanwhile."
	fmt.Fprintf(&b, `# What boots

%s

- %s
- %s
- OVMF %s, SeaBIOS %s

| guest | suite | table | root | firmware | kernel | came up | seconds |
|---|---|---|---|---|---|---|---|
`, strings.Join(manual.Wrap(about, 100), "\n"), version(program, "version"), version("qemu-system-x86_64", "--version"),
		version("dpkg-query", "-W", "-f", "${Version}", "ovmf"), version("dpkg-query", "-W", "-f", "${Version}", "seabios"))
	for _, r := range rows {
		fmt.Fprintln(&b, r)
	}
	return b.String()
}
