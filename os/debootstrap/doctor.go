package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/hooks"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

// The states of a Finding. Only a fault keeps a verb from doing its work.
const (
	FindingOK      = "ok"
	FindingWarning = "warning"
	FindingFault   = "fault"
)

// Finding is one thing that Diagnose looked at.
type Finding struct {
	Subject string `json:"subject"`
	State   string `json:"state"` // ok, warning or fault
	Text    string `json:"text"`  // what was found; of a warning or fault also what to do
}

// Candidate is a variant, "" for none, with the job of a create by it, or why
// there can't be one.
type Candidate struct {
	Variant  string
	Job      *Job
	Err      error
	Warnings []string // of its settings files
}

// Diagnose looks whether this node can do what it is set up for, and at what
// earlier runs and other programs have left on it. It changes nothing.
func Diagnose(ctx context.Context, s *session.Session, candidates []Candidate) []Finding {
	d := &diagnosis{session: s}
	d.installation()
	d.sandbox()
	d.loopDevices()
	for _, c := range candidates {
		d.variant(ctx, c)
	}
	for _, c := range candidates {
		if c.Job != nil {
			d.hooks(c.Job.Settings.CustomizeDir)
			d.cache(ctx, c.Job)
		}
	}
	return d.findings
}

type diagnosis struct {
	session  *session.Session
	findings []Finding
	seen     []string // hooks and cache folders, which variants share
}

func (d *diagnosis) add(subject, state, format string, args ...any) {
	text := strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")
	d.findings = append(d.findings, Finding{subject, state, text})
}

// faults adds a finding for each of the errors that were joined, and reports
// whether there was one.
func (d *diagnosis) faults(subject string, err error) bool {
	if err == nil {
		return false
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		for _, one := range many.Unwrap() {
			d.faults(subject, one)
		}
		return true
	}
	d.add(subject, FindingFault, "%v", err)
	return true
}

// isNew reports whether a folder was not looked at yet.
func (d *diagnosis) isNew(subject, dir string) bool {
	key := subject + " " + dir
	if slices.Contains(d.seen, key) {
		return false
	}
	d.seen = append(d.seen, key)
	return true
}

// installation looks whether Ganeti finds this program.
func (d *diagnosis) installation() {
	const subject = "OS definition"
	self, err := os.Stat("/proc/self/exe")
	if d.faults(subject, err) {
		return
	}
	if _, err := os.Stat(paths.OSDir); errors.Is(err, fs.ErrNotExist) {
		d.add(subject, FindingWarning, "%s does not exist: Ganeti can't use this program; `make install` or the package makes it", paths.OSDir)
		return
	}
	before := len(d.findings)
	var others []string
	for _, verb := range osapi.Verbs() {
		st, err := os.Stat(filepath.Join(paths.OSDir, string(verb)))
		if err != nil {
			d.add(subject, FindingFault, "%v: install it again", err)
		} else if !os.SameFile(st, self) {
			others = append(others, string(verb))
		}
	}
	if len(others) > 0 {
		d.add(subject, FindingWarning, "%s in %s: not this program, and what is found here does not hold for it", strings.Join(others, ", "), paths.OSDir)
	}
	for _, name := range []string{"ganeti_api_version", "variants.list", "parameters.list"} {
		if _, err := os.ReadFile(filepath.Join(paths.OSDir, name)); err != nil {
			d.add(subject, FindingFault, "%v: Ganeti calls the OS definition invalid without it; install it again", err)
		}
	}
	if len(d.findings) == before {
		d.add(subject, FindingOK, "%s leads to this program, version %s", paths.OSDir, paths.Version)
	}
}

// sandbox looks at what keeps a guest's disk and a killed run from harming the node.
func (d *diagnosis) sandbox() {
	const subject = "sandbox"
	switch {
	case !d.session.Private:
		d.add(subject, FindingWarning, "NAMESPACE=host: what a killed run has mounted and attached stays on the node")
	case !session.CanProtectNode():
		d.add(subject, FindingWarning, "this kernel is older than 5.12: while a guest's disk is read the node's own tree stays writable for the tools")
	default:
		d.add(subject, FindingOK, "PID and mount namespaces, and the node's tree read-only while a guest's disk is read")
	}
}

func (d *diagnosis) loopDevices() {
	const subject = "loop devices"
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		d.add(subject, FindingFault, "%v: modprobe loop", err)
		return
	}
	control.Close()
	forgotten := blockdev.Forgotten()
	for _, loop := range forgotten {
		name, _, _ := strings.Cut(loop, " ")
		d.add(subject, FindingWarning, "%s is attached, and keeps that from coming free: if nothing uses it, `losetup -d %s`, where kpartx has made maps of it after `kpartx -d %s`", loop, name, name)
	}
	if len(forgotten) == 0 {
		d.add(subject, FindingOK, "the kernel has them, and none is left over")
	}
}

// variant looks whether a guest of this variant could be made.
func (d *diagnosis) variant(ctx context.Context, c Candidate) {
	subject := "settings"
	if c.Variant != "" {
		subject = "variant " + c.Variant
	}
	for _, text := range c.Warnings {
		d.add(subject, FindingWarning, "%s", text)
	}
	if d.faults(subject, c.Err) {
		return
	}
	j := c.Job
	err := errors.Join(Verify(ctx, j), filesystem.KernelHas(j.fstype()))
	if d.faults(subject, err) {
		return
	}
	tree := "its tree is still to be built"
	if path := j.store().Peek(j.cacheInputs()); path != "" {
		tree = "its tree is " + filepath.Base(path)
	}
	d.add(subject, FindingOK, "%s/%s as %s, partitions: %s; %s", j.Settings.Suite, j.arch, j.Settings.Filesystem, j.Settings.PartitionStyle, tree)
}

// hooks looks for what lies in the hooks folder and won't run.
func (d *diagnosis) hooks(dir string) {
	const subject = "hooks"
	if !filepath.IsAbs(dir) && dir != "" {
		dir = filepath.Join(paths.OSDir, dir)
	}
	if !d.isNew(subject, dir) {
		return
	}
	run, err := hooks.List(dir)
	if d.faults(subject, err) {
		return
	}
	skipped, err := hooks.Skipped(dir)
	d.faults(subject, err)
	for _, text := range skipped {
		d.add(subject, FindingWarning, "%s: not run: %s", dir, text)
	}
	for _, path := range append(slices.Clone(run), dir) {
		if st, err := os.Stat(path); err == nil && st.Mode()&0o022 != 0 {
			d.add(subject, FindingWarning, "%s can be written by others than root, who could have anything executed as root: chmod go-w %s", path, path)
		}
	}
	for i := range run {
		run[i] = filepath.Base(run[i])
	}
	if len(run) == 0 {
		d.add(subject, FindingOK, "%s: none", dir)
	} else {
		d.add(subject, FindingOK, "%s: %s", dir, strings.Join(run, ", "))
	}
}

// A tree with a kernel, its packages and its image take about this while they are made.
const comfortableCacheBytes = 2 << 30

// cache looks at the cache folder and what is in it.
func (d *diagnosis) cache(ctx context.Context, j *Job) {
	const subject = "cache"
	store := j.store()
	if !d.isNew(subject, store.Dir) {
		return
	}
	there := store.Dir
	for there != "/" {
		if _, err := os.Stat(there); !errors.Is(err, fs.ErrNotExist) {
			break
		}
		there = filepath.Dir(there) // it is made at its first use
	}
	free, err := freeBytes(there)
	if d.faults(subject, err) {
		return
	}
	if err := unix.Access(there, unix.W_OK); err != nil {
		d.add(subject, FindingFault, "%s can't be written to (%v): set CACHE_DIR to a folder that can", there, err)
	}
	switch {
	case free < minScratchBytes:
		d.add(subject, FindingFault, "%s has %s left, and no tree can be built there with less than %s: free some space, or set CACHE_DIR", there, mibText(free), mibText(minScratchBytes))
	case free < comfortableCacheBytes:
		d.add(subject, FindingWarning, "%s has %s left: a tree with a kernel and its image may not fit", there, mibText(free))
	}
	list, err := store.List()
	d.faults(subject, err)
	var bytes int64
	for _, l := range list {
		bytes += l.SizeBytes + l.ImageBytes
		if l.State == cache.StateAside {
			d.add(subject, FindingWarning, "%s is a damaged tree that was replaced: `cache prune` removes it", l.Path)
		}
	}
	garbage, err := store.Prune(ctx, true)
	d.faults(subject, err)
	var useless int64
	for _, g := range garbage {
		useless += g.Bytes
	}
	if len(garbage) > 0 {
		d.add(subject, FindingWarning, "%s: expired, damaged or left over: %d files of %s; `cache prune` removes them", store.Dir, len(garbage), mibText(useless))
	}
	d.add(subject, FindingOK, "%s: %s free, trees: %d, of %s", store.Dir, mibText(free), len(list), mibText(bytes))
}

func mibText(bytes int64) string { return fmt.Sprintf("%d MiB", bytes>>20) }
