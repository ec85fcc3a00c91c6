//go:build root

package root

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unicode"
)

// Attacks that a generator makes: each is decided by a seed and its number alone, so
// that one that succeeds can be done again. All run in a node of the test's own
// (attack_dump_test.go), with canaries in its folders and on another disk.
//
//	ATTACK_SEED     the seed; 1 without it
//	ATTACK_SECONDS  how long new attacks are begun; without it 120, and then the first 120 only
//	ATTACK_FIRST    the number of the first attack, to go on or to do one again
//	ATTACK_COUNT    how many, whatever the time
//	ATTACK_KIND     of this kind only

// attacker is what all attacks have in common.
type attacker struct {
	*lab
	sources map[string]string // files of real streams and disks, by what they are
	work    string            // where they are
	made    int               // how many
	canary  string            // a disk that isn't the instance's
	device  string            // a loop device over it
}

// kindsOfAttack are what is attacked, each by a way to do it: it returns what was
// done, for the message, and fails the lab's test where the attack succeeds.
var kindsOfAttack = []struct {
	name   string
	attack func(a *attacker, r *rand.Rand) string
}{
	{"a dump, patched", (*attacker).patchedDump},
	{"a tar, patched", (*attacker).patchedTar},
	{"a backup of ours, patched", (*attacker).patchedBackup},
	{"a partition table, patched", (*attacker).patchedTable},
	{"a filesystem, patched", (*attacker).patchedFilesystem},
	{"a hostile tree", (*attacker).hostileTree},
	{"an odd environment", (*attacker).oddEnvironment},
	{"a local user's race", (*attacker).race},
}

func attackNumber(t *testing.T, name string, without uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return without
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// TestGeneratedAttacksReachNothing says at its end how many there were, of each kind.
func TestGeneratedAttacksReachNothing(t *testing.T) {
	seed := attackNumber(t, "ATTACK_SEED", 1)
	most := uint64(120)
	if os.Getenv("ATTACK_SECONDS") != "" {
		most = 1 << 62
	}
	first, count := attackNumber(t, "ATTACK_FIRST", 0), attackNumber(t, "ATTACK_COUNT", most)
	begun := time.Now()
	limit := time.Duration(attackNumber(t, "ATTACK_SECONDS", 120)) * time.Second
	if os.Getenv("ATTACK_COUNT") != "" {
		limit = 1 << 62
	}
	l := newMoveLab(t, 600)
	a := &attacker{lab: l, sources: map[string]string{}}
	a.makeCanary()
	done, refused, failed := map[string]int{}, map[string]int{}, map[string]int{}
	n := first
	for ; n < first+count && time.Since(begun) < limit; n++ {
		k := kindsOfAttack[n%uint64(len(kindsOfAttack))]
		if only := os.Getenv("ATTACK_KIND"); only != "" && !strings.Contains(k.name, only) {
			continue
		}
		what, env, disk := "", maps.Clone(l.env), l.disk
		ok := t.Run(fmt.Sprint(n), func(t *testing.T) {
			defer l.within(t)()
			what = k.attack(a, rand.New(rand.NewPCG(seed, n)))
			a.nothingReached()
			if t.Failed() {
				t.Logf("%s: %s\nagain: ATTACK_SEED=%d ATTACK_FIRST=%d ATTACK_COUNT=1 go test -tags root -run TestGeneratedAttacks ./test/root", k.name, what, seed, n)
			}
		})
		l.env, l.disk = env, disk
		done[k.name]++
		if !ok {
			failed[k.name]++
		}
		if strings.HasPrefix(what, refusedMark) {
			refused[k.name]++
		}
		if len(failed) > 0 && t.Failed() && sumOfCounts(failed) >= 40 {
			t.Error("enough have failed")
			n++
			break
		}
	}
	t.Logf("seed %d, attacks %d to %d in %v", seed, first, n-1, time.Since(begun).Round(time.Second))
	for _, name := range slices.Sorted(maps.Keys(done)) {
		t.Logf("%-28s %5d attacks, %5d refused, %5d succeeded", name, done[name], refused[name], failed[name])
		if done[name] >= 40 && refused[name] == done[name] {
			t.Errorf("%s: all are refused, also those with a change that means nothing: what comes after that is not attacked", name)
		}
	}
	// What the next run is to begin with, for make torture.
	if path := os.Getenv("ATTACK_STATE"); path != "" {
		must(t, os.WriteFile(path, fmt.Appendf(nil, "ATTACK_SEED=%d ATTACK_FIRST=%d\n", seed, n), 0o644))
	}
}

func sumOfCounts(counts map[string]int) (n int) {
	for _, c := range counts {
		n += c
	}
	return n
}

const refusedMark = "refused: "

// makeCanary attaches another disk, which nobody may write to.
func (a *attacker) makeCanary() {
	a.Helper()
	a.work, a.canary = a.TempDir(), filepath.Join(a.TempDir(), "canary-disk")
	must(a, os.WriteFile(a.canary, bytes.Repeat([]byte("canary\n\n"), 1<<17), 0o600))
	a.device = a.tool("losetup", "--show", "-f", a.canary)
	detachAtEnd(a, a.device, a.canary)
}

// source gives the path of a real stream or disk, which is made when it is first
// wanted.
func (a *attacker) source(name string, make func(path string)) string {
	a.Helper()
	if a.sources[name] == "" {
		a.made++
		path := filepath.Join(a.work, fmt.Sprint("source-", a.made, "-disk"))
		make(path)
		a.sources[name] = path
	}
	return a.sources[name]
}

func (a *attacker) bytesOf(path string) []byte {
	a.Helper()
	b, err := os.ReadFile(path)
	must(a, err)
	return b
}

// guestDisk is the disk of an instance with a few files of each kind.
func (a *attacker) guestDisk(style, fstype string) string {
	return a.source("disk "+style+" "+fstype, func(path string) {
		env := maps.Clone(a.env)
		a.blank(600)
		a.guest(style, fstype)
		a.change(func(tree string) {
			a.tool("sh", "-e", "-c", "cd "+tree+`; mkdir -p dir/sub; echo text >dir/file; ln dir/file dir/sub/hard; ln -s ../file dir/sub/soft; mkfifo fifo; mknod null c 1 3; mknod disk b 7 1
				truncate -s 3M sparse; echo middle | dd of=sparse bs=1M seek=1 conv=notrunc status=none; head -c 200000 /dev/urandom >data; setfattr -n user.a -v b dir/file; setfacl -m u:1000:r dir/file; setcap cap_net_raw+ep data
				d=l$(printf %0150d 0); mkdir -p $d/$d; echo far >$d/$d/file`)
		})
		must(a, os.Rename(a.disk, path))
		a.env = env
	})
}

// blank gives the instance a new disk.
func (a *attacker) blank(sizeMiB int64) {
	a.Helper()
	path := filepath.Join(a.TempDir(), "disk")
	must(a, os.WriteFile(path, nil, 0o600))
	must(a, os.Truncate(path, sizeMiB<<20))
	a.disks(path)
}

// copyOf makes the instance's disk a copy of another.
func (a *attacker) copyOf(disk string) {
	a.Helper()
	path := filepath.Join(a.TempDir(), "disk")
	a.tool("cp", "--sparse=always", disk, path)
	a.disks(path)
}

// run has a command of ours run in the private node, and fails when the attack has
// reached anything: a canary, the log as it is, memory, time.
func (a *attacker) attacked(cmd *exec.Cmd, stdin io.Reader, stdout io.Writer) fed {
	a.Helper()
	sum := sumOf(a, a.canary)
	outer, told := a.inAPrivateNode(cmd)
	var out bytes.Buffer
	outer.Stderr = &out
	if outer.Stdout = stdout; stdout == nil {
		outer.Stdout = &out
	}
	f := a.fedWithin(time.Minute, stdin, outer)
	f.log = out.String()
	before, berr := os.ReadFile(filepath.Join(told, "before"))
	after, err := os.ReadFile(filepath.Join(told, "after"))
	if f.exit >= 0 && (berr != nil || err != nil) {
		a.Errorf("the node can't be compared: %v, %v", berr, err)
	}
	if f.exit >= 0 && !bytes.Equal(before, after) {
		a.Errorf("the node was\n%s\nand is\n%s", before, after)
	}
	if sumOf(a, a.canary) != sum {
		a.Errorf("the disk that isn't the instance's was written to")
		must(a, os.WriteFile(a.canary, bytes.Repeat([]byte("canary\n\n"), 1<<17), 0o600))
	}
	if f.exit != 0 && f.exit != 1 {
		a.Errorf("exit status %d", f.exit)
	}
	if strings.Contains(f.log, "goroutine ") || strings.Contains(f.log, "panic:") {
		a.Errorf("it panics")
	}
	if i := strings.IndexFunc(f.log, func(r rune) bool { return unicode.IsControl(r) && r != '\n' && r != '\t' }); i >= 0 {
		a.Errorf("the log has %q as it is", f.log[max(0, i-40):min(len(f.log), i+40)])
	}
	if len(f.log) > 256<<10 {
		a.Errorf("the log has %d bytes", len(f.log))
	}
	// A process begins with what its parent had at most (the kernel counts it at exec).
	var own syscall.Rusage
	must(a, syscall.Getrusage(syscall.RUSAGE_SELF, &own))
	if kib := outer.ProcessState.SysUsage().(*syscall.Rusage).Maxrss; kib > 400<<10 && kib > own.Maxrss {
		a.Errorf("a process took %d MiB of memory", kib>>10)
	}
	if a.Failed() {
		a.Logf("it said\n%.6000s", f.log)
	}
	return f
}

// fedWithin runs a command, which gets the stream if there is one.
func (a *attacker) fedWithin(limit time.Duration, stdin io.Reader, cmd *exec.Cmd) (f fed) {
	a.Helper()
	written := make(chan struct{})
	close(written)
	if stdin != nil {
		r, w, err := os.Pipe()
		must(a, err)
		defer r.Close()
		cmd.Stdin, written = r, make(chan struct{})
		go func() {
			defer close(written)
			f.bytes, f.err = io.Copy(w, struct{ io.Reader }{stdin})
			w.Close()
		}()
	}
	start := time.Now()
	must(a, cmd.Start())
	if r, ok := cmd.Stdin.(*os.File); ok {
		r.Close()
	}
	late := time.AfterFunc(limit, func() { syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) })
	cmd.Wait()
	f.took = time.Since(start)
	if !late.Stop() {
		a.Errorf("it does not end within %v", limit)
	}
	<-written
	f.exit = cmd.ProcessState.ExitCode()
	return f
}

// nothingReached looks at the node itself after an attack.
func (a *attacker) nothingReached() {
	a.Helper()
	if left := a.leftAfter(2 * time.Second); len(left) > 0 {
		a.Errorf("left behind:\n%s", strings.Join(left, "\n"))
		for _, dir := range []string{"run", "cache"} { // not again with the next one
			entries, _ := filepath.Glob(filepath.Join(base, dir, "*"))
			for _, e := range entries {
				os.RemoveAll(e)
			}
		}
	}
	for _, dir := range []string{"run", "lock", "conf"} {
		must(a, os.MkdirAll(filepath.Join(base, dir), 0o755))
	}
}

func (a *attacker) leftAfter(within time.Duration) (left []string) {
	a.Helper()
	for deadline := time.Now().Add(within); ; time.Sleep(50 * time.Millisecond) {
		if left = a.leftovers(); len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// imported feeds a stream to import, onto a blank disk, and looks at what came of it.
func (a *attacker) imported(stream io.Reader, what string) string {
	a.Helper()
	a.blank(600)
	a.env["IMPORT_UUID"] = []string{"keep", "new"}[len(what)%2]
	f := a.attacked(a.importing(0, a.disk), stream, nil)
	return a.outcome(f, what)
}

// importedRaw imports the instance's disk as a raw image. Of a layout that isn't one
// of ours the copy is the same, byte by byte.
func (a *attacker) importedRaw(what string) string {
	a.Helper()
	source, err := os.Open(a.disk)
	must(a, err)
	defer source.Close()
	a.blank(600)
	f := a.attacked(a.importing(0, a.disk), source, nil)
	if f.exit == 0 && exec.Command("cmp", "-s", source.Name(), a.disk).Run() == nil {
		return what
	}
	return a.outcome(f, what)
}

// outcome has a whole filesystem where the exit status is 0, and no instance where
// it is 1.
func (a *attacker) outcome(f fed, what string) string {
	a.Helper()
	if f.exit == 1 {
		a.noInstance(f.log)
	}
	if f.exit != 0 {
		return refusedMark + what + ": " + f.last()
	}
	a.wholeFilesystem()
	return what
}

// wholeFilesystem asks the filesystem's own tool.
func (a *attacker) wholeFilesystem() {
	a.Helper()
	dev := a.root()
	defer a.tool("losetup", "-d", dev)
	fstype := a.tool("sh", "-c", "blkid -p -s TYPE -o value "+dev+" || true")
	check := map[string][]string{
		"ext2": {"e2fsck", "-fn", dev}, "ext3": {"e2fsck", "-fn", dev}, "ext4": {"e2fsck", "-fn", dev}, "xfs": {"xfs_repair", "-n", dev}, "btrfs": {"btrfs", "check", "--readonly", dev},
	}[fstype]
	if check == nil {
		if fstype != "swap" {
			a.Errorf("exit status 0, and on the disk is %q", fstype)
		}
		return
	}
	if out, err := exec.Command(check[0], check[1:]...).CombinedOutput(); err != nil {
		a.Errorf("exit status 0, and %s: %v\n%s", check[0], err, out)
	}
}

func (a *attacker) patchedDump(r *rand.Rand) string {
	dump := bytes.Clone(a.bytesOf(a.source("dump", func(path string) {
		a.tool("sh", "-e", "-c", `disk=$0.disk; truncate -s 24M $disk; mke2fs -q -F -t ext4 $disk; dev=$(losetup --show -f $disk); mkdir -p $0.mnt; mount $dev $0.mnt; cd $0.mnt
			mkdir -p etc aa/bb usr/share; echo 'UUID=0d5bcd04-2a0f-4b3e-9c52-1f2a5e3a7a10 / ext4 defaults 0 1' >etc/fstab; echo ID=debian >etc/os-release; for i in $(seq 30); do echo $i >usr/share/file$i; done
			ln etc/fstab aa/hard; ln -s ../etc aa/link; mknod aa/null c 1 3; mknod aa/bb/disk b 7 1; mkfifo aa/fifo; truncate -s 1M aa/hole; echo x >>aa/hole; head -c 30000 /dev/urandom >aa/bb/data; setfattr -n user.a -v b etc/fstab
			cd /; umount $0.mnt; dump -0 -q -f $0 $dev; losetup -d $dev; rm $disk; rmdir $0.mnt`, path)
	})))
	what := mutate(r, dump, dumpFields(dump))
	if r.IntN(4) > 0 {
		dumpRepaired(dump)
	}
	if r.IntN(8) == 0 {
		dump = dump[:r.IntN(len(dump))]
		what += fmt.Sprintf(", cut at %d", len(dump))
	}
	return a.imported(bytes.NewReader(dump), what)
}

// tarFormats are the ways in which GNU tar writes the tree of the source.
var tarFormats = []string{
	"--format=gnu --sparse", "--format=posix --sparse --xattrs --acls --xattrs-include=*", "--format=posix --sparse --sparse-version=0.0", "--format=posix --sparse --sparse-version=0.1", "--format=v7", "--format=oldgnu --sparse", "--format=ustar",
}

func (a *attacker) patchedTar(r *rand.Rand) string {
	format := pick(r, tarFormats)
	stream := bytes.Clone(a.bytesOf(a.source("tar "+format, func(path string) {
		a.tool("sh", "-e", "-c", `mkdir $0.tree; cd $0.tree; mkdir -p etc usr/bin dir/sub; echo '/dev/sda1 / ext4 defaults 0 1' >etc/fstab; echo ID=debian >etc/os-release; echo text >dir/file; ln dir/file dir/hard; ln -s ../etc dir/link; mknod dir/null c 1 3; mkfifo dir/fifo
			truncate -s 2M sparse; echo x | dd of=sparse bs=1M seek=1 conv=notrunc status=none; for i in $(seq 20); do echo $i | dd of=sparse bs=1 seek=$((i * 65536)) conv=notrunc status=none; done; setfattr -n user.a -v b dir/file; setfacl -m u:1000:r dir/file
			d=l$(printf %0120d 0); mkdir -p $d/$d; echo far >$d/$d/file; tar -c -f $0 `+format+` . 2>/dev/null || true; rm -rf $0.tree`, path)
	})))
	what := format + ": " + mutate(r, stream, tarFields(stream))
	if r.IntN(5) > 0 {
		tarRepaired(stream)
	}
	return a.imported(bytes.NewReader(stream), what)
}

// backup is a stream of ours of a guest's disk.
func (a *attacker) backup(format string) string {
	return a.source("backup "+format, func(path string) {
		env := maps.Clone(a.env)
		defer func() { a.env = env }()
		disk := a.guestDisk("msdos", "ext4")
		a.disks(disk)
		a.env["EXPORT_FORMAT"] = format
		must(a, os.Rename(a.export(0, disk), path))
	})
}

func (a *attacker) patchedBackup(r *rand.Rand) string {
	format := pick(r, []string{"tar", "image"})
	stream := bytes.Clone(a.bytesOf(a.backup(format)))
	what := format + ": "
	if r.IntN(2) == 0 {
		size, err := strconv.ParseInt(strings.Trim(string(stream[124:136]), " \x00"), 8, 64)
		must(a, err)
		text, how := jsonMutated(r, stream[512:512+size])
		copy(stream[512:512+size], text)
		what += "manifest" + how
	} else {
		what += mutate(r, stream, tarFields(stream))
	}
	whole := r.IntN(5) > 0
	if whole {
		tarRepaired(stream)
	}
	before := a.bytesOf(a.backup(format))
	said := a.imported(bytes.NewReader(stream), what)
	if !whole && !bytes.Equal(stream, before) && !strings.HasPrefix(said, refusedMark) {
		a.Errorf("a backup whose digest is another's is taken")
	}
	return said
}

// verbOn has a verb work on the instance's disk, and looks at what came of it.
func (a *attacker) verbOn(r *rand.Rand, what string) string {
	a.Helper()
	verb := pick(r, []string{"export", "rename", "inspect", "export", "grow", "import"})
	what = verb + " of " + what
	switch verb {
	case "export":
		a.env["EXPORT_FORMAT"] = pick(r, []string{"auto", "tar", "image", "dump"})
		cmd := a.command("export")
		cmd.Env = append(cmd.Env, "EXPORT_INDEX=0", "EXPORT_DEVICE="+a.disk)
		out, err := os.Create(filepath.Join(a.TempDir(), "exported"))
		must(a, err)
		defer out.Close()
		if f := a.attacked(cmd, nil, out); f.exit != 0 {
			return refusedMark + what + ": " + f.last()
		}
		return a.importsAgain(out.Name(), what)
	case "rename":
		a.env["OLD_INSTANCE_NAME"], a.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
		f := a.attacked(a.command("rename"), nil, nil)
		if f.exit != 0 {
			return refusedMark + what + ": " + f.last()
		}
		a.mounted(func(tree string) {
			if name, err := os.ReadFile(tree + "/etc/hostname"); err != nil || string(name) != "inst2.example\n" {
				a.Errorf("it was renamed, and is %q: %v", name, err)
			}
		})
	case "import":
		return a.importedRaw(what)
	default:
		cmd := a.command("create")
		args := map[string][]string{"inspect": {"inspect", "--json", a.disk}, "grow": {"grow", a.disk}}[verb]
		before := sumOf(a, a.disk)
		if verb == "grow" {
			must(a, os.Truncate(a.disk, 700<<20))
		}
		own := exec.Command("unshare", append([]string{"--mount", program}, args...)...)
		own.Env, own.SysProcAttr = cmd.Env, cmd.SysProcAttr
		var out bytes.Buffer
		f := a.attacked(own, nil, &out)
		if verb == "inspect" && sumOf(a, a.disk) != before {
			a.Errorf("inspect changed the disk")
		}
		if f.exit != 0 {
			return refusedMark + what + ": " + f.last()
		}
		var any map[string]any
		if verb == "inspect" && json.Unmarshal(out.Bytes(), &any) != nil {
			a.Errorf("inspect says %q", out.String())
		}
	}
	return what
}

// importsAgain: what an export writes, an import must read.
func (a *attacker) importsAgain(stream, what string) string {
	a.Helper()
	a.blank(700)
	in, err := os.Open(stream)
	must(a, err)
	defer in.Close()
	f := a.attacked(a.importing(0, a.disk), in, nil)
	if f.exit != 0 {
		a.Errorf("what export has written (EXPORT_FORMAT=%s) can't be imported: %s", a.env["EXPORT_FORMAT"], f.last())
	}
	return what
}

func (a *attacker) patchedTable(r *rand.Rand) string {
	style := pick(r, []string{"msdos", "gpt"})
	a.copyOf(a.guestDisk(style, "ext4"))
	f, err := os.OpenFile(a.disk, os.O_RDWR, 0)
	must(a, err)
	head := make([]byte, 34*512)
	_, err = f.ReadAt(head, 0)
	must(a, err)
	what := style + ": " + mutate(r, head, tableFields(head))
	if r.IntN(5) > 0 {
		tableRepaired(head)
	}
	_, err = f.WriteAt(head, 0)
	must(a, err)
	must(a, f.Close())
	return a.verbOn(r, what)
}

// fieldsBy are the fields that a tool lists, in a form that names them to it.
func (a *attacker) fieldsBy(script string) []string {
	a.Helper()
	return strings.Fields(a.tool("sh", "-c", script))
}

// patches are what is changed of a filesystem, by its own debugger, on a device.
func (a *attacker) patches(r *rand.Rand, fstype, dev string) (what []string) {
	a.Helper()
	value := fmt.Sprint(number(r, 0) >> (32 * r.IntN(2)))
	switch fstype {
	case "ext4":
		table := pick(r, []string{"ssv", "sif", "set_bg"})
		list := a.fieldsBy("debugfs -R '" + table + " -l' " + dev + " 2>/dev/null | sed -nE 's/^\t([a-z0-9_]+)[^ ]* .*/\\1/p'")
		name := pick(r, list)
		target := map[string]string{"sif": fmt.Sprintf("<%d> ", pick(r, []int{2, 8, 11, 12, 13, 14, 15, 20, 25})), "set_bg": fmt.Sprint(r.IntN(4), " ")}[table]
		command := table + " " + target + name + " " + value
		exec.Command("debugfs", "-w", "-R", command, dev).Run() // some values it refuses
		return []string{"debugfs", "-w", "-R", command}
	case "xfs":
		object := pick(r, []string{"sb 0", "sb 1", "agf 0", "agf 1", "agi 0", "agi 1", "agfl 0", "inode 128", "inode 131", "inode 134"})
		list := a.fieldsBy("xfs_db -r -c '" + object + "' -c print " + dev + " 2>/dev/null | sed -nE 's/^([a-z0-9_.]+) = .*/\\1/p' | grep -vE 'crc|uuid'")
		command := "write -d " + pick(r, append(list, "magicnum")) + " " + value
		exec.Command("xfs_db", "-x", "-c", object, "-c", command, dev).Run()
		return []string{"xfs_db", "-x", "-c", object, "-c", command}
	}
	f, err := os.OpenFile(dev, os.O_RDWR, 0)
	must(a, err)
	defer f.Close()
	super := make([]byte, 4096)
	_, err = f.ReadAt(super, 64<<10)
	must(a, err)
	how := mutate(r, super, btrfsSuper())
	if r.IntN(5) > 0 {
		btrfsRepaired(super)
	}
	_, err = f.WriteAt(super, 64<<10)
	must(a, err)
	return []string{how}
}

func (a *attacker) patchedFilesystem(r *rand.Rand) string {
	fstype := pick(r, []string{"ext4", "xfs", "ext4", "xfs", "btrfs"})
	a.copyOf(a.guestDisk("none", fstype))
	var what []string
	for range 1 + r.IntN(2) {
		dev := a.root()
		what = append(what, a.patches(r, fstype, dev)...)
		a.tool("losetup", "-d", dev)
	}
	return a.verbOn(r, fstype+": "+strings.Join(what, " "))
}

// hostileTree has a guest's users do what they can to a tree; what export then writes
// import must read, and it must be the same tree.
func (a *attacker) hostileTree(r *rand.Rand) string {
	fstype := pick(r, []string{"ext4", "xfs", "btrfs"})
	format := pick(r, []string{"tar", "image", "auto"})
	a.copyOf(a.guestDisk("none", fstype))
	what := fstype + " as " + format + ": "
	a.change(func(tree string) { what += growHostile(r, tree) })
	before := a.facts()
	a.env["EXPORT_FORMAT"] = format
	cmd := a.command("export")
	cmd.Env = append(cmd.Env, "EXPORT_INDEX=0", "EXPORT_DEVICE="+a.disk)
	out, err := os.Create(filepath.Join(a.TempDir(), "exported"))
	must(a, err)
	defer out.Close()
	if f := a.attacked(cmd, nil, out); f.exit != 0 {
		return refusedMark + what + ": " + f.last()
	}
	a.importsAgain(out.Name(), what)
	if !a.Failed() {
		a.sameFacts(before, a.facts())
	}
	return what
}

// facts are what find, sha256sum and getfattr say of a tree whose names may be longer
// than a path can be. Sockets are left out: no tar can carry them; nor how
// many names a device or a FIFO has.
func (a *attacker) facts() (facts []string) {
	a.Helper()
	a.mounted(func(tree string) {
		facts = strings.Split(ask(a.T, tree, "sh", "-c", `find . -mindepth 1 -type d,b,c,p -printf '%P %y %m %U:%G %T@\0' -o ! -type s -mindepth 1 -printf '%P %y %m %U:%G %T@ %s %n to %l\0'
			find . -type f -size -1048576k -execdir sha256sum -z -- {} +
			find . -mindepth 1 ! -type s -execdir getfattr -h -d -m - -e hex --absolute-names -- {} + | tr '\n' ' ' | sed 's/# file: /\x00/g'`), "\x00")
	})
	slices.Sort(facts)
	return facts
}

// sameFacts fails where the copy lacks a fact.
func (a *attacker) sameFacts(before, after []string) {
	a.Helper()
	if len(before) < 20 {
		a.Errorf("there are only %d facts", len(before))
	}
	for _, fact := range before {
		if _, found := slices.BinarySearch(after, fact); !found {
			path, _, _ := strings.Cut(fact, " ")
			instead := slices.DeleteFunc(slices.Clone(after), func(other string) bool { return !strings.HasPrefix(other, path+" ") })
			a.Errorf("exit status 0, and the copy has not: %.300q but %.900q", fact, instead)
			return
		}
	}
}

// oddEnvironment calls a verb with Ganeti's variables as nobody has them.
func (a *attacker) oddEnvironment(r *rand.Rand) string {
	if _, err := os.Stat(a.tar()); err != nil {
		a.tinyTree()
	}
	a.blank(600)
	names := slices.Sorted(maps.Keys(a.env))
	names = append(names, "DISK_1_PATH", "DISK_1_NAME", "NIC_0_MAC", "NIC_0_IP", "NIC_0_NETWORK_SUBNET", "NIC_0_NETWORK_GATEWAY6", "OSP_FILESYSTEM", "OSP_MIRROR", "OSP_EXTRA_PKGS", "OSP_PARTITION_ALIGNMENT", "OSP_NETWORK", "OSP_SSH_KEYS", "IMPORT_INDEX", "IMPORT_DEVICE",
		"EXPORT_INDEX", "EXPORT_DEVICE", "EXP_SIZE_FD", "INSTANCE_REINSTALL", "OSP_CACHE_MAX_SIZE", "OSP_SWAP_SIZE", "INSTANCE_HV_serial_speed", "INSTANCE_HV_kernel_path", "TMPDIR", "HOME", "LD_PRELOAD", "BASH_ENV", "PYTHONPATH", "TAR_OPTIONS", "MKE2FS_CONFIG", "GZIP", "ZSTD_CLEVEL", "POSIXLY_CORRECT")
	values := append([]string{
		"0", "-1", "1", "256", "99999999999999999999", "True", "False", "None", a.disk, a.disk + "/", a.device, "/dev/zero", "/dev/null", "/proc/self/fd/0", "/", "//", "relative", "/canary/file", "rbd:pool/disk", "xfs", "btrfs", "ext4", "swap",
		"kvm", "xen-pvm", "http://user:pw@[", "ssh://-oProxyCommand=touch${IFS}/canary/ssh", "file:///canary", "--checkpoint-action=exec=touch /canary/tar", "--to-command=touch /canary/tar", "-J /canary/x", "/canary/evil.so", "a,b;c d", "192.0.2.5", "fe80::1%x\nup touch /canary/up",
		strings.Repeat("x", 100000), strings.Repeat("a.", 127) + "a", "$(touch /canary/sub)", "`touch /canary/tick`",
	}, evilNames...)
	verb := pick(r, []string{"create", "create", "rename", "export", "import", "verify"})
	var what []string
	for range 1 + r.IntN(5) {
		name, value := pick(r, names), strings.ReplaceAll(pick(r, values), "\x00", "")
		if name == "PATH" || name == "LD_PRELOAD" && value != "/canary/evil.so" {
			continue // the caller's own: bash wouldn't start either
		}
		if r.IntN(6) == 0 {
			delete(a.env, name)
			what = append(what, "no "+name)
			continue
		}
		a.env[name] = value
		what = append(what, fmt.Sprintf("%s=%.60q", name, value))
	}
	disk := a.disk
	f := a.attacked(a.command(verb), strings.NewReader(""), io.Discard)
	said := verb + " with " + strings.Join(what, " ")
	a.disk = disk
	if f.exit != 0 {
		return refusedMark + said + ": " + f.last()
	}
	if verb == "create" {
		a.wholeFilesystem()
	}
	return said
}

// meddler is what a user without rights does beside a run, as fast as it can: takes
// every lock that it can open, and has the name of a folder of its own mean another
// by turns.
const meddler = `
use Fcntl ":flock";
my ($own, $locks, $victim) = @ARGV;
my ($name, $real, $link) = ("$own/name", "$own/real", "$own/link");
mkdir $real; symlink $victim, $link;
$| = 1; print "ready\n";
my %held; my $end = time + 60;
while (time < $end) {
	for my $file (glob "$locks/* $locks/*/*") {
		next if $held{$file};
		open($held{$file}, "<", $file) and flock($held{$file}, LOCK_EX | LOCK_NB);
	}
	symlink $victim, $_ for "/tmp/instance-debootstrap", "/run/lock/instance-debootstrap", "$locks/evil";
	rename $real, $name; rename $name, $real; rename $link, $name; rename $name, $link;
}`

// race has a user without rights meddle with a run: what it does must not change the
// run's outcome, but for paths that lead through a folder of its own.
func (a *attacker) race(r *rand.Rand) string {
	if _, err := os.Stat(a.tar()); err != nil {
		a.tinyTree()
	}
	own := filepath.Join(base, "own")
	must(a, os.RemoveAll(own))
	must(a, os.Mkdir(own, 0o755))
	must(a, os.Chown(own, 65534, 65534))
	victim := filepath.Join(base, "victim")
	must(a, os.MkdirAll(victim, 0o755))
	must(a, os.WriteFile(filepath.Join(victim, "file"), []byte("untouched"), 0o600))
	verb := pick(r, []string{"create", "rename", "export", "create in its folder", "mount"})
	defer os.RemoveAll(own)
	switch verb {
	case "create":
		a.blank(600)
	case "create in its folder":
		disk := filepath.Join(own, "name")
		a.blank(600)
		a.env["DISK_0_PATH"] = filepath.Join(disk, "disk")
		must(a, os.Mkdir(filepath.Join(own, "real"), 0o755))
		must(a, os.Link(a.disk, filepath.Join(own, "real/disk")))
		must(a, os.WriteFile(filepath.Join(victim, "disk"), bytes.Repeat([]byte("untouched"), 1000), 0o600))
		must(a, os.Truncate(filepath.Join(victim, "disk"), 600<<20))
	default:
		a.copyOf(a.guestDisk("msdos", "ext4"))
	}
	look := func() string {
		return a.tool("sh", "-c", "find "+victim+" -printf '%p %y %m %s %U\\n'; head -c 9000 "+victim+"/* | sha256sum; grep -c "+victim+" /proc/self/mountinfo || true")
	}
	before := look()
	m := exec.Command("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "perl", "-e", meddler, own, filepath.Join(base, "lock"), victim)
	said, err := m.StdoutPipe()
	must(a, err)
	must(a, m.Start())
	defer func() { m.Process.Kill(); m.Wait() }()
	_, err = said.Read(make([]byte, 16))
	must(a, err)
	time.Sleep(time.Duration(r.IntN(50)) * time.Millisecond)
	var f fed
	switch verb {
	case "rename":
		a.env["OLD_INSTANCE_NAME"], a.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
		f = a.attacked(a.command("rename"), nil, nil)
	case "export":
		cmd := a.command("export")
		cmd.Env = append(cmd.Env, "EXPORT_INDEX=0", "EXPORT_DEVICE="+a.disk)
		f = a.attacked(cmd, nil, io.Discard)
	case "mount":
		cmd := a.command("create")
		own := exec.Command("unshare", "--mount", "sh", "-c", `"$0" mount "$1" "$2"; status=$?; grep -F "$3" /proc/self/mountinfo && status=9; exit $status`, program, a.disk, filepath.Join(own, "name"), victim)
		own.Env, own.SysProcAttr = cmd.Env, cmd.SysProcAttr
		f = a.attacked(own, nil, nil)
	default:
		f = a.attacked(a.command("create"), nil, nil)
	}
	if after := look(); after != before {
		a.Errorf("what the user has no right to was\n%s\nand is\n%s", before, after)
	}
	if itsFolder := verb == "mount" || strings.HasSuffix(verb, "folder"); f.exit != 0 && !itsFolder {
		a.Errorf("a user without rights has made %s fail: %s", verb, f.last())
	}
	return cmp.Or(map[bool]string{true: refusedMark}[f.exit != 0], "") + verb + " beside a meddling user"
}
