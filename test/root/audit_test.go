//go:build root

package root

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// audit is what it prints.
func (l *lab) audit(args ...string) string {
	l.Helper()
	found, _ := l.auditTells(args...)
	return found
}

// auditTells is what it prints, and what it says beside that.
func (l *lab) auditTells(args ...string) (found, told string) {
	l.Helper()
	link := filepath.Join(l.TempDir(), "instance-debootstrap")
	must(l, os.Symlink(program, link))
	var stdout, stderr bytes.Buffer
	cmd := exec.Command(link, append([]string{"audit"}, args...)...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		l.Fatalf("audit %q: %v\n%s%s", args, err, stdout.Bytes(), stderr.Bytes())
	}
	return stdout.String(), stderr.String()
}

// TestAuditSaysWhyItListsNothing, since an admin takes an empty list for good news.
func TestAuditSaysWhyItListsNothing(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.addPackages()
	l.create()
	if found, told := l.auditTells(); found != "" || !strings.Contains(told, "KEEP_RECEIPTS=yes") {
		t.Errorf("of a node that keeps none: %q, %q", found, told)
	}
	l.write("default", "KEEP_RECEIPTS=yes\n", 0o644)
	l.create()
	if found, told := l.auditTells("zlib1"); found != "" || told != "none of the guests that are known here (1) was installed with that\n" {
		t.Errorf("of a name that is misspelt: %q, %q", found, told)
	}
	if found, told := l.auditTells("zlib1g"); found == "" || told != "" {
		t.Errorf("of one that is right: %q, %q", found, told)
	}
}

// TestAuditKnowsWhatWasInstalledHere, by the instance's name of today, and nothing of a guest that
// isn't the one that was installed.
func TestAuditKnowsWhatWasInstalledHere(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tinyTree()
	l.addPackages()
	l.create()
	if got := l.audit(); got != "" {
		t.Errorf("without KEEP_RECEIPTS it knows of %q", got)
	}
	l.write("default", "KEEP_RECEIPTS=yes\n", 0o644)
	l.create()
	l.matches(l.audit(), `^inst1\.example +20[0-9-]+ [0-9]{2}:[0-9]{2} +trixie amd64 +3 packages\s*$`)
	l.matches(l.audit("libc6<2.41-1~deb13u1", "zlib1g<1:1.3-2"), `^inst1\.example +20[0-9-]+ [0-9]{2}:[0-9]{2} +trixie amd64 +zlib1g +1:1\.3-1\n$`)
	if got := l.audit("zlib1g<1.3-2"); got != "" { // the epoch counts
		t.Errorf("an older epoch is found: %q", got)
	}
	kept := l.tool("find", base+"/state", "-mindepth", "1", "-printf", "%M %U %P\n")
	if want := "drwx------ 0 receipts\n-rw------- 0 receipts/inst1.example.json"; kept != want {
		t.Errorf("the node keeps\n%s", kept)
	}

	l.hook("10-fails", "false")
	l.fails("10-fails")
	if got := l.audit(); got != "" {
		t.Errorf("of a guest that was overwritten it knows\n%s", got)
	}
	must(t, os.Remove(base+"/conf/hooks/10-fails"))
	l.create()

	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	l.matches(l.audit(), `^inst2\.example `)
	stream := l.export(0, l.disk)

	l.target(600)
	l.env["INSTANCE_NAME"], l.env["INSTANCE_UUID"], l.env["OLD_INSTANCE_NAME"] = "inst3.example", "11111111-6a3c-4a3a-9f8d-1b8f0c3a5a11", "inst2.example"
	l.importFile(stream)
	if log, exit := l.run("rename"); exit != 0 { // as each import ends
		t.Fatal(log)
	}
	if got := l.audit(); !strings.HasPrefix(got, "inst2.example ") || strings.Count(got, "\n") != 1 {
		t.Errorf("after an import of its backup under another name it knows of\n%s", got)
	}
	l.env["INSTANCE_NAME"], l.env["INSTANCE_UUID"] = "inst2.example", "6c7b4cc2-6a3c-4a3a-9f8d-1b8f0c3a5a11"
	l.target(600)
	l.importFile(stream) // whatever is in that
	if got := l.audit(); strings.Contains(got, "inst2") {
		t.Errorf("after an import it knows of\n%s", got)
	}
	must(t, os.RemoveAll(base+"/state/receipts"))
	must(t, os.WriteFile(base+"/state/receipts", nil, 0o600))
	l.matches(l.create(), `with .*warning.*: the node keeps no receipt of the guest.*state/receipts`)
	l.clean(0)
}

// A guest that is installed by hand may be called as an instance of Ganeti's is.
func TestTheReceiptOfAnInstanceStaysWhenItsNameIsUsedByHand(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.addPackages()
	l.write("default", "KEEP_RECEIPTS=yes\n", 0o644)
	l.create()
	kept := base + "/state/receipts/inst1.example.json"
	before, err := os.ReadFile(kept)
	must(t, err)
	for _, settings := range []string{"KEEP_RECEIPTS=yes\n", ""} {
		l.write("default", settings, 0o644)
		image := filepath.Join(t.TempDir(), "image")
		out, exit := l.byHand("install", "--suite", "trixie", "--arch", tinyArch, "--size", "600M", "--hostname", "inst1.example", image)
		if after, err := os.ReadFile(kept); exit != 0 || err != nil || string(after) != string(before) {
			t.Errorf("exit status %d, %v, and the receipt was\n%s\nand is\n%s\n%s", exit, err, before, after, out)
		}
		if said := strings.Contains(out, "keeps the receipt of Ganeti's instance inst1.example, and none of this guest"); said != (settings != "") {
			t.Errorf("%q: %s", settings, out)
		}
	}
	l.write("default", "KEEP_RECEIPTS=yes\n", 0o644)
	if out, exit := l.byHand("install", "--suite", "trixie", "--arch", tinyArch, "--size", "600M", "--hostname", "mine.example", filepath.Join(t.TempDir(), "image")); exit != 0 {
		t.Fatal(out)
	}
	l.matches(l.audit(), `(?m)^inst1\.example .*\nmine\.example `)
	l.env["DISK_0_PATH"] = l.blankDisk("again", 600)
	l.create()
	if after, err := os.ReadFile(kept); err != nil || string(after) == string(before) {
		t.Errorf("after Ganeti's create it is as it was: %v", err)
	}
}

// TestAReceiptIsSignedByTheNodesKey, as ssh-keygen has it, and inspect tells another's, or a
// changed one.
func TestAReceiptIsSignedByTheNodesKey(t *testing.T) {
	for _, kind := range []string{"ed25519", "rsa"} {
		l := newLab(t, 600)
		l.tinyTree()
		l.addPackages()
		dir := t.TempDir()
		link := filepath.Join(dir, "instance-debootstrap")
		must(t, os.Symlink(program, link))
		for _, name := range []string{"key", "other"} {
			l.tool("ssh-keygen", "-q", "-t", kind, "-N", "", "-f", filepath.Join(dir, name))
		}
		l.write("default", "RECEIPT_KEY="+dir+"/key\n", 0o644)
		l.create()
		l.mounted(func(tree string) {
			signers := "node " + l.tool("cat", dir+"/key.pub") + "\n"
			must(t, os.WriteFile(dir+"/signers", []byte(signers), 0o600))
			l.tool("sh", "-c", `ssh-keygen -Y verify -f "$0/signers" -I node -n instance-debootstrap-receipt -s "$1.sig" <"$1"`, dir, tree+"/var/lib/instance-debootstrap/receipt.json")
		})
		inspect := func(keys string) (string, bool) {
			out, err := exec.Command(link, "inspect", "--verify", keys, l.disk).CombinedOutput()
			return string(out), err == nil
		}
		both := l.tool("sh", "-c", `echo "# ours"; cat "$0/other.pub" "$0/key.pub"`, dir)
		must(t, os.WriteFile(dir+"/both", []byte(both), 0o600))
		fingerprint := strings.Fields(l.tool("ssh-keygen", "-l", "-f", dir+"/key.pub"))[1]
		if out, ok := inspect(dir + "/both"); !ok || !strings.Contains(out, fingerprint) {
			t.Errorf("%s: not verified:\n%s", kind, out)
		}
		if out, ok := inspect(dir + "/other.pub"); ok || !strings.Contains(out, "the receipt is not to be trusted") {
			t.Errorf("%s: by another key:\n%s", kind, out)
		}
		l.change(func(tree string) {
			l.tool("sed", "-i", "s/inst1/inst2/", tree+"/var/lib/instance-debootstrap/receipt.json")
		})
		if out, ok := inspect(dir + "/both"); ok || !strings.Contains(out, "or was changed since") {
			t.Errorf("%s: changed:\n%s", kind, out)
		}
		l.change(func(tree string) {
			must(t, os.WriteFile(tree+"/var/lib/instance-debootstrap/receipt.json.sig", []byte("-----BEGIN SSH SIGNATURE-----\nAAAA\n-----END SSH SIGNATURE-----\n"), 0o644))
		})
		if out, ok := inspect(dir + "/both"); ok || !strings.Contains(out, "is no signature") {
			t.Errorf("%s: garbage:\n%s", kind, out)
		}
	}
}

// TestAKeyForReceiptsThatIsNoneIsRefused before anything is touched.
func TestAKeyForReceiptsThatIsNoneIsRefused(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	dir := t.TempDir()
	l.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "secret", "-f", dir+"/locked")
	l.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", dir+"/open")
	must(t, os.Chmod(dir+"/open", 0o644))
	must(t, os.WriteFile(dir+"/empty", nil, 0o600))
	for name, want := range map[string]string{"locked": "has a passphrase", "open": "others may read", "open.pub": "others may read", "empty": "empty is empty", "none": "no such file"} {
		l.write("default", "RECEIPT_KEY="+dir+"/"+name+"\n", 0o644)
		if log := l.fails(want); !strings.Contains(log, "create: RECEIPT_KEY: ") {
			t.Errorf("%s: %s", name, log)
		}
		l.untouched()
	}
}

// What an import that fails has begun to overwrite isn't the guest any more that was installed.
func TestAnImportThatFailsForgetsTheReceiptOfTheGuestThatItEnds(t *testing.T) {
	l := newMoveLab(t, 600)
	l.tinyTree()
	l.addPackages()
	l.write("default", "KEEP_RECEIPTS=yes\n", 0o644)
	l.create()
	stream := l.export(0, l.disk)
	if got := l.feed(strings.NewReader("this is no backup"), l.importing(0, l.disk)); got.exit != 1 {
		t.Fatal(got.log)
	}
	l.matches(l.audit(), `^inst1\.example `) // the disk is as it was
	whole, err := os.ReadFile(stream)
	must(t, err)
	if got := l.feed(bytes.NewReader(whole[:len(whole)/2]), l.importing(0, l.disk)); got.exit != 1 {
		t.Fatal(got.log)
	}
	if got := l.audit(); got != "" {
		t.Errorf("of a guest that was overwritten it knows\n%s", got)
	}
}

// A daemon may fail to make durable what it was given.
func TestAGuestIsKnownOnlyWhenWhatServesItsDiskHasEndedWell(t *testing.T) {
	buildChanged(t, map[string][2]string{"os/debootstrap/disks.go": {
		"return errors.Join(err, s.UndoTo(ctx, mark))\n", "return errors.Join(err, s.UndoTo(ctx, mark), errors.New(\"not durable\"))\n",
	}})
	l := newLab(t, 600)
	l.tinyTree()
	l.write("default", "KEEP_RECEIPTS=yes\n", 0o644)
	l.served()
	l.fails("not durable")
	if got := l.audit(); got != "" {
		t.Errorf("it knows of\n%s", got)
	}
}
