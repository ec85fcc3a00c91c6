// Package doctor looks at what this node can do, and at what earlier runs and other
// programs have left on it.
package doctor

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/blockdev"
	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/cell"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/filesystem"
	"instance-debootstrap/pkg/hooks"
	"instance-debootstrap/pkg/install"
	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/mounts"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/userspace"
)

// The states of a Finding. Only a fault keeps a verb from doing its work.
const (
	OK      = "ok"
	Warning = "warning"
	Fault   = "fault"
)

// Finding is one thing that Diagnose looked at.
type Finding struct {
	Subject string `json:"subject"`
	State   string `json:"state"` // ok, warning or fault
	Text    string `json:"text"`  // what was found; of a warning or fault also what to do
}

// Candidate is a variant with the order of a create by it, under KVM, or why there
// can't be one.
type Candidate struct {
	Variant  string // "" is none
	ByHand   bool   // only install by hand would take it: what is wrong is no more than a warning
	Order    *install.Order
	Err      error
	Warnings []string // of its settings files
}

// Diagnose checks that this node can install every configured variant, and looks at what
// earlier runs and other programs have left on it. It changes nothing.
func Diagnose(ctx context.Context, s *session.Session, candidates []Candidate) []Finding {
	d := &diagnosis{session: s}
	d.installation()
	d.parameters()
	d.sandbox(ctx)
	d.leftMounts()
	d.loopDevices()
	d.lvm(ctx)
	d.userspaceDisks(ctx)
	for _, c := range candidates {
		d.variant(ctx, c)
	}
	for _, c := range candidates {
		if c.Order != nil && d.isNew(c.Order.Settings.CustomizeDir) {
			d.hooks(c.Order.Settings.CustomizeDir, c.Order.StrictFiles())
		}
	}
	for _, c := range candidates {
		if c.Order != nil && d.isNew(c.Order.Settings.CacheDir) {
			d.cache(ctx, c.Order.Store())
		}
	}
	for _, c := range candidates {
		if c.Order != nil && d.isNew("METRICS_DIR "+c.Order.Settings.MetricsDir) {
			d.metrics(c.Order.Settings.MetricsDir)
		}
	}
	d.keptFiles()
	d.guests(ctx, libvirt.Virsh{})
	return d.findings
}

type diagnosis struct {
	session  *session.Session
	findings []Finding
	seen     []string // what variants have in common
}

func (d *diagnosis) add(subject, state, format string, args ...any) {
	text := command.Printable(strings.ReplaceAll(fmt.Sprintf(format, args...), "\n", "; ")) // a file may be called anything
	if state != OK && slices.ContainsFunc(d.findings, func(f Finding) bool { return f.Text == text && f.State == state }) {
		return // another variant has the same
	}
	d.findings = append(d.findings, Finding{subject, state, text})
}

// fails adds a finding for each fault, which errors.Join puts on a line of its own,
// and reports whether there was one.
func (d *diagnosis) fails(subject, state string, err error) bool {
	if err == nil {
		return false
	}
	for line := range strings.SplitSeq(err.Error(), "\n") {
		d.add(subject, state, "%s", line)
	}
	return true
}

// well adds that a subject is as it should be, unless something was found of it
// since there were that many findings.
func (d *diagnosis) well(before int, subject, format string, args ...any) {
	if len(d.findings) == before {
		d.add(subject, OK, format, args...)
	}
}

// isNew reports whether it is asked for a text for the first time.
func (d *diagnosis) isNew(text string) bool {
	if slices.Contains(d.seen, text) {
		return false
	}
	d.seen = append(d.seen, text)
	return true
}

// installation checks that Ganeti finds this program in the OS definition's folder.
func (d *diagnosis) installation() {
	const subject = "OS definition"
	before := len(d.findings)
	self, err := os.Stat("/proc/self/exe")
	if d.fails(subject, Fault, err) {
		return
	}
	if _, err := os.Stat(paths.OSDir); errors.Is(err, fs.ErrNotExist) {
		d.add(subject, Warning, "%s does not exist: Ganeti can't use this program; `make install` or the package makes it", paths.OSDir)
		return
	}
	var others []string
	for _, verb := range osapi.Verbs() {
		st, err := os.Stat(filepath.Join(paths.OSDir, string(verb)))
		if err != nil {
			d.add(subject, Fault, "%v: install it again", err)
		} else if !os.SameFile(st, self) {
			others = append(others, string(verb))
		}
	}
	if len(others) > 0 {
		d.add(subject, Warning, "%s in %s: not this program, and what is found here does not hold for it", strings.Join(others, ", "), paths.OSDir)
	}
	for _, name := range []string{"ganeti_api_version", "parameters.list"} { // ganeti-os-interface(7)
		if _, err := os.ReadFile(filepath.Join(paths.OSDir, name)); err != nil {
			d.add(subject, Fault, "%v: Ganeti refuses the OS definition without it; install it again", err)
		}
	}
	d.well(before, subject, "%s leads to this program, version %s", paths.OSDir, paths.Version)
}

// parameters checks that Ganeti knows the OS parameters that the program and the
// site have.
func (d *diagnosis) parameters() {
	const subject = "OS parameters"
	before := len(d.findings)
	n, err := settings.CheckParameters()
	if errors.Is(err, settings.ErrStaleParameters) {
		d.fails(subject, Warning, err)
	} else {
		d.fails(subject, Fault, err)
	}
	text, _ := settings.InstalledParameters()
	d.well(before, subject, "%d, list %.6x, which must be alike on all nodes", n, sha256.Sum256([]byte(text)))
}

// sandbox looks at what keeps a guest's disk and a killed run from harming the node.
func (d *diagnosis) sandbox(ctx context.Context) {
	const subject = "sandbox"
	if _, err := command.OutputIn(ctx, cell.Place{}, "blkid", "--version"); err != nil {
		d.add(subject, Fault, "the tools that read a guest's disk can't be started apart from the node: %v", err)
		return
	}
	if !d.session.Private {
		d.add(subject, Warning, "NAMESPACE=host: what a killed run has mounted and attached stays on the node")
		return
	}
	d.add(subject, OK, "PID and mount namespaces, and a cell for each tool that reads a guest's disk")
}

// leftMounts looks for what runs with NAMESPACE=host have mounted: one that was killed
// leaves it, and with it the loop device below. A run that goes on has the same.
func (d *diagnosis) leftMounts() {
	list, err := mounts.List("self")
	if d.fails("sandbox", Fault, err) {
		return
	}
	last := d.session.WorkDir
	for _, m := range list {
		if !strings.HasPrefix(m.Point, paths.RunDir+"/"+paths.RunPrefix) || strings.HasPrefix(m.Point+"/", last+"/") {
			continue
		}
		last = m.Point
		remedy := "umount -R " + last
		// The guest's filesystem keeps the disk busy that mount served.
		if guest := slices.IndexFunc(list, func(over mounts.Mount) bool { return blockdev.LoopOver(over.Source) == last }); guest >= 0 {
			remedy = "umount -R " + list[guest].Point + " && umount --lazy " + last // lazily, since the loop device may take a moment to go
		}
		d.add("sandbox", Warning, "%s is mounted on %s: unless a run with NAMESPACE=host goes on, or mount with a URI or a qcow2 image, one that was killed has left it: `%s`, which frees its loop device too", m.Source, last, remedy)
	}
}

func (d *diagnosis) loopDevices() {
	const subject = "loop devices"
	control, err := os.OpenFile("/dev/loop-control", os.O_RDWR, 0)
	if err != nil {
		d.add(subject, Fault, "%v: modprobe loop", err)
		return
	}
	control.Close()
	before := len(d.findings)
	for _, l := range blockdev.Leftovers() {
		d.add(subject, Warning, "%s keeps %s from coming free: if nothing uses it, `%s`", l.Device, l.Over, l.Remedy)
	}
	d.well(before, subject, "the kernel has them, and none is over a disk or a removed file")
}

// userspaceDisks says whether disks that have a URI only, and qcow2 images, can be worked
// on. A node may well have none.
func (d *diagnosis) userspaceDisks(ctx context.Context) {
	const subject = "userspace disks"
	if err := userspace.Missing(ctx); err != nil {
		d.add(subject, OK, "none can be worked on, if there is one: %v", err)
		return
	}
	d.add(subject, OK, "QEMU has drivers for %s", userspace.Drivers())
}

// variant checks that a guest of this variant can be made.
func (d *diagnosis) variant(ctx context.Context, c Candidate) {
	subject, fault := "settings", Fault
	if c.Variant != "" {
		subject = "variant " + c.Variant
	}
	if c.ByHand {
		fault = Warning
	}
	for _, text := range c.Warnings {
		if d.isNew(text) {
			d.add(subject, Warning, "%s", text)
		}
	}
	if d.fails(subject, fault, c.Err) {
		return
	}
	text, warnings, err := c.Order.Outlook(ctx)
	for _, warning := range warnings {
		d.add(subject, Warning, "%s", warning)
	}
	if !d.fails(subject, fault, err) {
		d.add(subject, OK, "%s", text)
	}
}

// hooks looks for what lies in the hooks folder and won't run.
func (d *diagnosis) hooks(dir string, strict bool) {
	const subject = "hooks"
	before := len(d.findings)
	run, skipped, err := hooks.Look(dir)
	if d.fails(subject, Fault, err) {
		return
	}
	for _, text := range skipped {
		d.add(subject, Warning, "%s: not run: %s", dir, text)
	}
	names := make([]string, len(run))
	for i, path := range run {
		names[i] = filepath.Base(path)
	}
	warnings, err := hooks.Trusted(dir, strict)
	for _, text := range warnings {
		d.add(subject, Warning, "%s", text)
	}
	d.fails(subject, Fault, err)
	if len(names) == 0 {
		d.well(before, subject, "%s has none", dir)
	} else {
		d.well(before, subject, "%s: %s", dir, strings.Join(names, ", "))
	}
}

// A tree with a kernel, its packages and its image take about this while they are made.
const comfortableCacheBytes = 2 << 30

// metrics looks at METRICS_DIR; "" is none.
func (d *diagnosis) metrics(dir string) {
	if st, err := os.Stat(dir); dir != "" && (err != nil || !st.IsDir()) {
		d.add("metrics", Warning, "METRICS_DIR: there is no folder %s: make it, or install prometheus-node-exporter", dir)
	}
}

// cache looks at the cache folder and what is in it.
func (d *diagnosis) cache(ctx context.Context, store cache.Store) {
	const subject = "cache"
	before := len(d.findings)
	free, err := filesystem.FreeBytes(filesystem.NearestFolder(store.Dir))
	list, listErr := store.List()
	garbage, pruneErr := store.Prune(ctx, true)
	if d.fails(subject, Fault, errors.Join(err, listErr, pruneErr)) {
		return
	}
	warnings, err := store.Trusted()
	for _, text := range warnings {
		d.add(subject, Warning, "%s", text)
	}
	d.fails(subject, Fault, err)
	if free < comfortableCacheBytes {
		d.add(subject, Warning, "%s has %s left: a new tree with a kernel and its image may not fit", store.Dir, wholeMiB(free))
	}
	var all, useless int64
	var expired []string
	for _, l := range list {
		all += l.SizeBytes + l.ImageBytes
		if l.Expired {
			expired = append(expired, l.Path)
		}
	}
	files := 0
	for _, g := range garbage {
		if !slices.Contains(expired, g.Path) { // which the next create sees to
			files, useless = files+1, useless+g.Bytes
		}
	}
	if files > 0 {
		d.add(subject, Warning, "%s has %d files, %s, that are damaged or left over: `instance-debootstrap cache prune` removes them", store.Dir, files, wholeMiB(useless))
	}
	if len(expired) > 0 && store.StaleOK {
		d.add(subject, Warning, "%s has trees past their age: %d, which are used all the same; `instance-debootstrap cache warm --all --expired` renews those of the variants, and `cache prune` removes the others", store.Dir, len(expired))
	}
	d.well(before, subject, "%s: %s free, trees: %d, of %s", store.Dir, wholeMiB(free), len(list), wholeMiB(all))
}

// wholeMiB is a size in bytes that nobody needs to know better.
func wholeMiB(bytes int64) string { return tell.MiB(bytes &^ (1<<20 - 1)) }
