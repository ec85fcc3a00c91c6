//go:build root

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// audit is what it prints.
func (l *lab) audit(args ...string) string {
	l.Helper()
	link := filepath.Join(l.TempDir(), "instance-debootstrap")
	must(l, os.Symlink(program, link))
	out, err := exec.Command(link, append([]string{"audit"}, args...)...).CombinedOutput()
	if err != nil {
		l.Fatalf("audit %q: %v\n%s", args, err, out)
	}
	return string(out)
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
	l.matches(l.audit(), `^inst1\.example +20[0-9-]+ +trixie amd64 +3 packages\s*$`)
	l.matches(l.audit("libc6<2.41-1~deb13u1", "zlib1g<1:1.3-2"), `^inst1\.example +20[0-9-]+ +trixie amd64 +zlib1g +1:1\.3-1\n$`)
	if got := l.audit("zlib1g<1.3-2"); got != "" { // the epoch counts
		t.Errorf("an older epoch is found: %q", got)
	}
	kept := l.tool("find", base+"/state", "-mindepth", "1", "-printf", "%M %U %P\n")
	if want := "drwx------ 0 receipts\n-rw------- 0 receipts/inst1.example.json"; kept != want {
		t.Errorf("the node keeps\n%s", kept)
	}

	l.env["OLD_INSTANCE_NAME"], l.env["INSTANCE_NAME"] = "inst1.example", "inst2.example"
	if log, exit := l.run("rename"); exit != 0 {
		t.Fatal(log)
	}
	l.matches(l.audit(), `^inst2\.example `)
	stream := l.export(0, l.disk)
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
