//go:build root

package root

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// receiptOf returns the receipt in a tree, and compares it with the log's line.
func (l *lab) receiptOf(tree, log string) (r map[string]any) {
	l.Helper()
	name := tree + "/var/lib/instance-debootstrap/receipt.json"
	text, err := os.ReadFile(name)
	must(l, err)
	must(l, json.Unmarshal(text, &r))
	if st, err := os.Stat(name); err != nil || st.Mode() != 0o644 {
		l.Errorf("the receipt has mode %v, %v", st.Mode(), err)
	}
	var told []map[string]any
	for line := range strings.Lines(log) {
		if _, object, ok := strings.Cut(line, " receipt="); ok {
			var line map[string]any
			must(l, json.Unmarshal([]byte(object), &line))
			told = append(told, line)
		}
	}
	a, _ := json.Marshal(r)
	if len(told) != 1 {
		l.Fatalf("the log has %d receipts:\n%s", len(told), log)
	}
	if b, _ := json.Marshal(told[0]); string(a) != string(b) {
		l.Errorf("the guest has\n%s\nthe log\n%s", a, b)
	}
	return r
}

// field walks down a receipt.
func field(r any, path string) any {
	for name := range strings.SplitSeq(path, ".") {
		m, _ := r.(map[string]any)
		r = m[name]
	}
	return r
}

// addPackages gives the tiny tree a dpkg database that the node's dpkg-query reads.
func (l *lab) addPackages() {
	l.Helper()
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	must(l, os.MkdirAll(dir+"/var/lib/dpkg/info", 0o755))
	var status strings.Builder
	for _, p := range [][3]string{
		{"zlib1g", "install ok installed", "1:1.3-1"}, {"acl", "hold ok installed", "2.3"}, {"gone", "deinstall ok config-files", "1"},
		{"half", "install ok half-configured", "1"}, {"libc6", "install ok installed", "2.41-1~deb13u1"},
	} {
		status.WriteString("Package: " + p[0] + "\nStatus: " + p[1] + "\nMaintainer: x <x@example>\nArchitecture: amd64\nVersion: " + p[2] + "\nDescription: a\n package\n .\n Package: none\n\n")
	}
	must(l, os.WriteFile(dir+"/var/lib/dpkg/status", []byte(status.String()), 0o644))
	l.tool("tar", "-cf", l.tar(), "-C", dir, ".")
}

func TestADebuggingLogEndsWithWhatWasDoneAsWell(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.env["DEBUG_LEVEL"] = "1"
	log := l.create()
	l.matches(log, `(?s) undo: remove .* receipt=[^\n]*\ninst1\.example is installed on [^\n]*\n*$`)
	out, exit := l.byHand("-v", "install", "--size", "600M", "--suite", "trixie", "--arch", tinyArch, "--hostname", "x.example", base+"/new.img")
	if exit != 0 {
		t.Fatal(out)
	}
	l.matches(out, `(?s) undo: close .* receipt=[^\n]*\nx\.example is installed on [^\n]*\n*$`)
}

func TestTheReceiptIsTrue(t *testing.T) {
	for _, style := range []string{"none", "msdos", "gpt"} {
		l := newLab(t, 700)
		l.sshTree()
		l.addPackages()
		l.env["OSP_PARTITION_STYLE"] = style
		l.env["INSTANCE_PRIMARY_NODE"], l.env["INSTANCE_SECONDARY_NODES"] = "4c0a9bb0-6a8c-4f4e-8b4e-3f3a6d6f0a01", "node2.example node3.example"
		l.env["DISK_COUNT"], l.env["DISK_1_PATH"], l.env["DISK_1_ACCESS"], l.env["DISK_1_NAME"] = "2", l.blankDisk("swap", 64), "w", "swap"
		l.hook("10-more", `printf 'Package: hook\nStatus: install ok installed\nMaintainer: x <x@example>\nArchitecture: all\nVersion: 1\nDescription: x\n\n' >>"$TARGET/var/lib/dpkg/status"`)
		before := time.Now()
		log := l.create()
		lines := strings.Split(strings.TrimSpace(log), "\n")
		if !strings.Contains(lines[len(lines)-2], " receipt=") {
			t.Errorf("the receipt is not the last line but one:\n%s", log)
		}
		layout := strings.TrimSuffix("ext4 on "+style, " on none")
		want := fmt.Sprintf(`^inst1\.example is installed on %s \(700 MiB, %s\): trixie %s, 4 packages, no kernel, which the hypervisor must bring, in [0-9.]+ s, from the admin's own tree(, with .*warning.*: .+)?$`,
			regexp.QuoteMeta(l.disk), layout, tinyArch)
		l.matches(lines[len(lines)-1], want)
		l.matches(log, `(?s)ssh host key: ecdsa[^\n]*\n[^\n]*DNS record of it: [^\n]* SSHFP 3 .*ssh host key: ssh-ed25519[^\n]*\n[^\n]*DNS record of it: [^\n]* SSHFP 4 `)
		l.mounted(func(tree string) {
			r := l.receiptOf(tree, log)
			probe := func(name, disk string) string {
				out, _ := exec.Command("blkid", "-p", "-s", name, "-o", "value", disk).Output()
				return strings.TrimSpace(string(out))
			}
			root := l.tool("findmnt", "-n", "-o", "SOURCE", tree)
			packages := l.tool("sh", "-c", `dpkg-query --admindir="$0/var/lib/dpkg" -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\n' | sed -n 's/^installed //p' | LC_ALL=C sort | sha256sum | cut -d' ' -f1`, tree)
			for path, want := range map[string]any{
				"format": 1.0, "instance": "inst1.example", "suite": "trixie", "arch": tinyArch, "variant": "default", "nodes.primary": "4c0a9bb0-6a8c-4f4e-8b4e-3f3a6d6f0a01", "tree.source": "admin", "packages.count": 4.0,
				"packages.sha256": packages, "disk.style": style, "disk.root.uuid": probe("UUID", root), "disk.root.type": "ext4", "boot.loader": "none", "network": "ifupdown",
				"disk.size_bytes": float64(700 << 20),
			} {
				if got := field(r, path); got != want {
					t.Errorf("%s: %s is %v, want %v", style, path, got, want)
				}
			}
			if nodes, _ := field(r, "nodes.secondary").([]any); !slices.Equal(nodes, []any{"node2.example", "node3.example"}) {
				t.Errorf("%s: secondary nodes %v", style, nodes)
			}
			if id, _ := field(r, "disk.id").(string); id != probe("PTUUID", l.disk) {
				t.Errorf("%s: disk %q", style, id)
			}
			if swaps, _ := field(r, "disk.swap_uuids").([]any); len(swaps) != 1 || swaps[0] != probe("UUID", l.env["DISK_1_PATH"]) {
				t.Errorf("%s: swap %v", style, swaps)
			}
			if at, err := time.Parse(time.RFC3339, r["installed"].(string)); err != nil || at.Before(before.Add(-time.Second)) || at.After(time.Now()) {
				t.Errorf("%s: installed %v", style, r["installed"])
			}
			l.receiptKeys(tree, r)
		})
	}
}

// receiptKeys compares the receipt's host keys with ssh-keygen.
func (l *lab) receiptKeys(tree string, r map[string]any) {
	l.Helper()
	keys, _ := r["ssh_host_keys"].([]any)
	if len(keys) != 2 {
		l.Errorf("host keys: %v", keys)
	}
	for _, key := range keys {
		kind := strings.Split(strings.TrimPrefix(field(key, "type").(string), "ssh-"), "-")[0]
		file := filepath.Join(tree, "etc/ssh/ssh_host_"+kind+"_key.pub")
		if want := strings.Fields(l.tool("ssh-keygen", "-l", "-f", file))[1]; want != field(key, "fingerprint") {
			l.Errorf("%v, ssh-keygen says %s", key, want)
		}
		if records := l.tool("ssh-keygen", "-r", "x", "-f", file); !strings.Contains(records, "SSHFP "+field(key, "sshfp").(string)) {
			l.Errorf("%v, ssh-keygen says %s", key, records)
		}
	}
}

func TestAFailedCreateGivesNoReceipt(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-fails", "exit 1")
	if log := l.fails("10-fails"); strings.Contains(log, "receipt=") {
		t.Error(log)
	}
}

func TestAGuestWithoutAPlaceForTheReceiptIsWholeWithout(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.hook("10-var", `rm -rf "$TARGET/var"; ln -s /nowhere "$TARGET/var"`)
	if log := l.create(); !strings.Contains(log, "the guest has no receipt, or none that is signed; it is in this log") || !strings.Contains(log, " receipt={") {
		t.Error(log)
	}
}
