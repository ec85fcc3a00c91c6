//go:build root

package root

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"instance-debootstrap/test/fault"
)

// nodeFault is what is wrong with the node for a whole run: a script that is run before it,
// in its mount namespace, with $cache, $disk, $base, and $full for a folder of its own.
type nodeFault struct {
	script string
	only   string // verbs
	cold   bool   // where a tree is made
	spoils bool   // the disk is restored before the next run
	group  cgroup // that it is put into
}

var nodeFaults = func() map[string]nodeFault {
	faults := map[string]nodeFault{
		"no loop device":           {script: `: >$full/none; mount --bind $full/none /dev/loop-control`},
		"the cache is full":        {script: `mount -t tmpfs -o mode=755,size=100m full $full; cp -a --sparse=always $cache $full/cache; head -c 200m /dev/zero >$full/fill || :; mount --bind $full/cache $cache`},
		"the cache is nearly full": {script: `mount -t tmpfs -o mode=755,size=100m full $full; cp -a --sparse=always $cache $full/cache; head -c 200m /dev/zero >$full/fill || :; truncate -s -300k $full/fill; mount --bind $full/cache $cache`},
		"the cache is read-only":   {script: `mount --bind $cache $cache; mount -o remount,bind,ro $cache`},
		"the disk is read-only":    {script: `mount --bind $disk $disk; mount -o remount,bind,ro $disk`, only: "create import export rename grow"},
		"stdin is closed":          {script: `exec <&-`},
		"stdin is empty":           {script: `exec </dev/null`, only: "import"},
		"stdin ends early":         {script: `exec <$full/../half`, only: "import"},
		"stdout is closed":         {script: `exec >&-`},
		"stderr is closed":         {script: `exec 2>&-`},
		"stdout is full":           {script: `exec >/dev/full`},
		"stdout's reader is gone":  {script: `mkfifo $full/fifo; exec 8<>$full/fifo 9>$full/fifo 8<&- >&9 9>&-`},
	}
	for _, dir := range []string{"run", "lock"} {
		faults["/"+dir+" is full"] = nodeFault{script: "mount -t tmpfs -o mode=700,nr_inodes=1 full $base/" + dir}
		faults["/"+dir+" is read-only"] = nodeFault{script: fmt.Sprintf("mount -t tmpfs -o ro,mode=700 full $base/%s", dir)}
	}
	for _, n := range []int{4, 6, 8, 10, 12, 14, 16, 20, 24} {
		faults[fmt.Sprintf("%d open files", n)] = nodeFault{script: fmt.Sprintf("ulimit -n %d", n)}
	}
	for name, group := range limits() {
		faults[name] = nodeFault{script: group.enter, group: group}
	}
	// The tree of these tests takes 1.1 MiB, and without its large file 50 KiB.
	for name, kib := range map[string]int{"nothing": 8, "some of the tree": 500, "nearly all of the tree": 1060} {
		faults["the scratch in memory takes "+name] = nodeFault{script: fmt.Sprintf("export FAULTY_MEMORY=%d", kib<<10), cold: true}
		faults["the scratch on the disk takes "+name] = nodeFault{script: fmt.Sprintf("export FAULTY_MEMORY=0 FAULTY_SCRATCH=%d", (kib+200)<<10), cold: true}
	}
	for _, part := range []string{"nothing", "a quarter", "half", "three quarters", "nearly all"} {
		faults[noSpace+part] = nodeFault{only: "create import rename grow", spoils: true}
	}
	return faults
}()

const noSpace = "the disk's storage takes "

// arrange has the command begin with what is wrong with the node, and returns how that ends. A
// tool that is missing has no stand-in of the lab's either.
func (b *faultBench) arrange(cell fault.Cell, cmd *exec.Cmd) (end func()) {
	shell := &cmd.Args[slices.Index(cmd.Args, "-c")+1]
	*shell = strings.Replace(*shell, `exec "`, "exec "+b.tracer+` "`, 1)
	node, is := nodeFaults[cell.Kind]
	switch {
	case is:
		*shell = b.arrangement(node) + "\n" + *shell
	case cell.Kind == fault.Missing:
		must(b.l, os.WriteFile(b.dir+"/not-a-program", nil, 0o644))
		for _, path := range fault.ToolsOnPath(cell.Point) {
			*shell = fmt.Sprintf("mount --bind %s/not-a-program %s\n%s", b.dir, path, *shell)
		}
		if own := filepath.Join(b.l.fakes, cell.Point); os.Rename(own, b.dir+"/stand-in") == nil {
			return func() { must(b.l, os.Rename(b.dir+"/stand-in", own)) }
		}
	}
	return node.group.make(b.l)
}

// arrangement is the script with what it needs.
func (b *faultBench) arrangement(f nodeFault) string {
	full := filepath.Join(b.dir, "full")
	must(b.l, os.MkdirAll(full, 0o755))
	b.l.tool("sh", "-c", "rm -rf $0/*", full)
	if b.stdin != "" {
		text, err := os.ReadFile(b.stdin)
		must(b.l, err)
		must(b.l, os.WriteFile(b.dir+"/half", text[:len(text)/2], 0o600))
	}
	return fmt.Sprintf("cache=%s disk=%s base=%s full=%s\nset -e\n(: >&2) 2>/dev/null\n%s\nset +e", b.cache, b.disks[0], base, full, f.script)
}

// stored is what files take, in bytes.
func stored(paths []string) (bytes int64) {
	for _, path := range paths {
		var st syscall.Stat_t
		if syscall.Stat(path, &st) == nil {
			bytes += st.Blocks * 512
		}
	}
	return bytes
}

// smallDisk has the disks on a filesystem that a good run fills before its end, until
// enlarge is called.
func (b *faultBench) smallDisk(kind string) (enlarge func()) {
	part, is := strings.CutPrefix(kind, noSpace)
	if !is {
		return func() {}
	}
	room := map[string]int64{"a quarter": b.took / 4, "half": b.took / 2, "three quarters": b.took * 3 / 4, "nearly all": b.took - 256<<10}[part]
	dir := filepath.Dir(b.disks[0])
	size := stored(b.disks) + max(room, 0) + 128<<10
	b.l.tool("mount", "-t", "tmpfs", "-o", fmt.Sprintf("mode=755,size=%d", size), "small", dir)
	for _, disk := range b.disks {
		b.l.tool("sh", "-c", `[ ! -e "$0" ] || cp -a --sparse=always "$0" "$1"`, filepath.Join(b.dir, "disks", filepath.Base(disk)), disk)
	}
	return func() {
		b.l.tool("sh", "-c", "for i in $(seq 100); do umount "+dir+" && exit; sleep 0.05; done; umount -l "+dir)
	}
}

// output runs a command of the case's verb to its end.
func (b *faultBench) output(cmd *exec.Cmd) (log string, err error) {
	var said bytes.Buffer
	cmd.Stderr = &said
	if b.verb != "export" {
		cmd.Stdout = &said
	}
	if b.stdin != "" {
		in, err := os.Open(b.stdin)
		must(b.l, err)
		defer in.Close()
		cmd.Stdin = in
	}
	err = cmd.Run()
	return said.String(), err
}
