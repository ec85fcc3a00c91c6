package messages

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const guide = root + "/docs/troubleshooting.md"

var (
	bold = regexp.MustCompile("\\*\\*`([^`]+)`\\*\\*")
	verb = regexp.MustCompile(`%(\[\d+\])?[-+# 0]*[\d.]*[a-zA-Z]|\{[^}]*\}`)
	// whatToDo matches messages that say what to do, or what would have been right.
	whatToDo = regexp.MustCompile(`([:;,(]|\x60) ?((or|and|then) )?(` +
		`add|boot|build|call|change|check|choose|convert|copy|correct|create|decrypt|define|drop|end|export|free|give|grow|have|import|install|` +
		`leave|let|make|merge|modprobe|mount|move|name|pack|put|raise|release|remove|repair|restore|run|say|see|set|show|shut|start|stop|switch|take|` +
		`try|umount|unset|use|virsh|wait|wipe|write|gnt-|qemu-img|chmod|vm [a-z]|instance-debootstrap|--[a-z%])` +
		`|\b(must|want|such as|needed|none of|known|expected|at most|exclude each other)\b`)
)

// messagesOf are the messages that a page explains.
func messagesOf(page string) (list []string) {
	for _, m := range bold.FindAllStringSubmatch(page, -1) {
		list = append(list, m[1])
	}
	return list
}

// says reports whether a message is one that the guide writes so, with … for what differs.
func (m message) says(written string) bool {
	rest := verb.ReplaceAllString(m.text, "…")
	for part := range strings.SplitSeq(written, "…") {
		at := strings.Index(rest, part)
		if at < 0 {
			return false
		}
		rest = rest[at+len(part):]
	}
	return true
}

// incomplete are the places whose messages are parts of others, which say what to do, or
// are of a value and say what a right one is; or which nobody should ever see.
var incomplete = []struct{ place, why string }{
	{"cmd/", "of the command line, which the admin has before his eyes"},
	{"pkg/settings/", "of a value: SETTING=VALUE and its place are before it"},
	{"pkg/osapi/", "of a value of Ganeti's: the variable is before it"},
	{"pkg/userspace/uri.go", "of a value: the URI is before it"},
	{"pkg/bootstrap/choose.go", "of a value, or of a node that has no dpkg"},
	{"pkg/bootstrap/release.go", "why an archive is done without"},
	{"pkg/bootstrap/extend.go", "why a tree is bootstrapped instead"},
	{"pkg/transport/", "the backup is damaged near byte …: …: copy it anew"},
	{"pkg/partition/", "not a layout of ours (…): grow it from inside the guest"},
	{"pkg/cell/", "make a cell for …: … (root with CAP_SYS_ADMIN is needed)"},
	{"pkg/boot/", "the guest does not boot from its disk: …"},
	{"pkg/image/", "…: it is removed, and the tree unpacked instead"},
	{"pkg/guest/", "… … in the guest: …"},
	{"pkg/filesystem/used.go", "find the used blocks of …: …"},
	{"pkg/filesystem/imageextents.go", "find the used blocks of …: …"},
	{"pkg/filesystem/image.go", "no filesystem image, the tree is unpacked instead: …"},
	{"pkg/filesystem/filesystem.go", "make … on …: …"},
	{"pkg/filesystem/state.go", "disk … is left as it is: …"},
	{"pkg/filesystem/swap.go", "disk … is left as it is: …"},
	{"pkg/filesystem/growxfs.go", "grow the … on …: …"},
	{"pkg/filesystem/mount.go", "unmount …: …"},
	{"pkg/filesystem/mounts.go", "unmount …: …"},
	{"pkg/cache/sidecar.go", "set damaged cache entry aside: …"},
	{"pkg/cache/scan.go", "set damaged cache entry aside: …"},
	{"pkg/cache/receive.go", "never: the other end is told that the entry is there"},
	{"pkg/cache/send.go", "of the receiving end, which has said what to do there"},
	{"pkg/cache/lock.go", "never: an entry that went away meanwhile is looked for anew"},
	{"pkg/cache/names.go", "never: settings are checked before"},
	{"pkg/cache/image.go", "no filesystem image, the tree is unpacked instead: …"},
	{"pkg/cache/show.go", "of a tree that isn't Debian's"},
	{"pkg/cache/transfer.go", "…: the tree's tar doesn't follow: …: copy it anew"},
	{"pkg/command/", "…: …"},
	{"pkg/dpkg/", "cache entry …: …"},
	{"pkg/proxy/", "to the tool, whose complaint is told"},
	{"pkg/qemu/", "disk … does not boot with firmware …: …"},
	{"pkg/blockdev/loop.go", "partition …: …"},
	{"pkg/blockdev/path.go", "disk …: …"},
	{"pkg/cache/cache.go", "never: then the tree is made on the guest's disk"},
	{"pkg/guestdisk/inspect.go", "of inspect, which tells all else"},
	{"pkg/receipt/", "of inspect, which tells all else"},
	{"pkg/install/access.go", "of a value: SSH_AUTHORIZED_KEYS is before it"},
	{"pkg/install/moresources.go", "of a value: EXTRA_SOURCES is before it"},
	{"pkg/install/fit.go", "disk … is too small: it has … MiB, and … as … needs … MiB"},
	{"pkg/install/packages.go", "once more, with what it was given fetched anew: …"},
	{"pkg/install/scratch.go", "no scratch in memory: …"},
	{"pkg/install/tree.go", "unmount …: …"},
	{"pkg/libvirt/agent.go", "the volume has …, and what is on it is still to be grown, from inside the guest …"},
	{"pkg/libvirt/mac.go", "never: there are 2^24"},
	{"pkg/libvirt/volume.go", "the volume … exists already in pool …: take another name"},
	{"pkg/userspace/fuse.go", "of a program that nobody calls but QEMU's"},
	{"pkg/session/sandbox.go", "never: it is how a run is begun anew"},
	{"os/debootstrap/plan.go", "never: only the verbs are planned"},
	{"pkg/vm/create.go", "never: libvirt makes volumes where it said"},
	{"pkg/vm/growonline.go", "the volume has …, and what is on it is still to be grown, from inside the guest …"},
	{"pkg/vm/grub.go", "disk …: …: install its boot loader from inside"},
	{"pkg/vm/mount.go", "…; the root alone is mounted by: instance-debootstrap mount … FOLDER"},
	{"pkg/vm/pending.go", "the guest … is half made: …; instance-debootstrap vm list tries again to remove it"},
	{"pkg/vm/route.go", "whether the guest … has a gateway isn't known: …"},
	{"pkg/vm/nic.go", "of a value"},
}

func isIncomplete(m message) (place string) {
	for _, row := range incomplete {
		if strings.HasPrefix(m.dir+"/"+m.file, row.place) {
			return row.place
		}
	}
	return ""
}

// wantsGuide reports whether a message ends a run without saying what to do.
func (m message) wantsGuide() bool {
	return m.kind == failure && !strings.Contains(m.text, "%w") && !whatToDo.MatchString(m.text)
}

func readGuide(t *testing.T) []string {
	t.Helper()
	page, err := os.ReadFile(filepath.FromSlash(guide))
	if err != nil {
		t.Fatal(err)
	}
	return messagesOf(string(page))
}

func TestTheGuideHasOnlyWhatTheProgramSays(t *testing.T) {
	all := source(t)
	entries := readGuide(t)
	for i, written := range entries {
		if !slices.ContainsFunc(all, func(m message) bool { return m.says(written) }) {
			t.Errorf("no message reads `%s`", written)
		}
		if slices.Contains(entries[:i], written) {
			t.Errorf("`%s` is there twice", written)
		}
	}
	if len(entries) < 100 {
		t.Errorf("only %d messages", len(entries))
	}
}

func TestEachFailureSaysWhatToDoOrTheGuideDoes(t *testing.T) {
	entries := readGuide(t)
	used, all := map[string]bool{}, source(t)
	for _, m := range all {
		explained := slices.ContainsFunc(entries, m.says)
		if !m.wantsGuide() || explained {
			continue
		}
		if place := isIncomplete(m); place != "" {
			used[place] = true
			continue
		}
		t.Errorf("%s: %q says nothing of what to do, nor does docs/troubleshooting.md", m.at(), m.text)
	}
	for _, row := range incomplete {
		if !used[row.place] {
			t.Errorf("no message of %s needs its row", row.place)
		}
		whole := func(m message) bool { return m.says(row.why) }
		if strings.Contains(row.why, "…") && !slices.ContainsFunc(all, whole) {
			t.Errorf("%s: no message reads `%s`", row.place, row.why)
		}
	}
}

func TestWhatAMessageLacksIsSeen(t *testing.T) {
	for text, want := range map[string]bool{
		"disk %s is in use: claimed by %s; release it first": false,
		"disk %s: %w":                true,
		"NIC %d has no address":      true,
		"%q: must be NAME=/FOLDER":   false,
		"the disk is full":           true,
		"%s is missing: install %s":  false,
		"too old: use --format=qcow": false,
	} {
		m := message{kind: failure, text: strings.ReplaceAll(text, "%w", "%v")}
		if m.wantsGuide() != want {
			t.Errorf("%q: %v", text, !want)
		}
	}
	m := message{text: "disk %s is in use: %s; stop what uses it first"}
	for written, want := range map[string]bool{
		"disk … is in use: …; stop": true, "is in use": true, "disk … is used": false, "in use … is": false,
	} {
		if m.says(written) != want {
			t.Errorf("%q: %v", written, !want)
		}
	}
}
