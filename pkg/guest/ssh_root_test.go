//go:build root

package guest

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

const (
	keyA = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIFMnzPlOqdHXB5P8BlAMjBDvcPHiOyGxG+tcxmQOV0aT a@example"
	keyB = `from="192.0.2.0/24" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIDIqfHFyUXPjqNQX0YTsnXvsSbHpmJcfhn4qhHu7wpzT b`
)

func TestAuthorizedKeysAreAddedOnceAndTheTreesOwnStay(t *testing.T) {
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"none yet":        {[]string{"etc"}, keyA + "\n" + keyB + "\n"},
		"one of the tree": {[]string{"root/.ssh/authorized_keys=# mine\nssh-rsa AAAA tree"}, "# mine\nssh-rsa AAAA tree\n" + keyA + "\n" + keyB + "\n"},
		"already there":   {[]string{"root/.ssh/authorized_keys=" + keyB + "\n"}, keyB + "\n" + keyA + "\n"},
		"by a link":       {[]string{"keys=ssh-rsa AAAA tree\n", "root/.ssh/authorized_keys->/keys"}, "ssh-rsa AAAA tree\n" + keyA + "\n" + keyB + "\n"},
		"a link outward":  {[]string{"root->NODE"}, ""},
	} {
		r, top, node := tree(t, c.entries...)
		err := AddAuthorizedKeys(r, keyA+"\r\n\n"+keyB+"\n"+keyA)
		if c.want == "" {
			fails(t, err, "")
			if found, _ := os.ReadDir(node); len(found) > 0 {
				t.Errorf("%s: %v is on the node", name, found)
			}
			continue
		}
		must(t, err)
		for path, want := range map[string]fs.FileMode{"root/.ssh": 0o700 | fs.ModeDir, "root/.ssh/authorized_keys": 0o600} {
			st, err := os.Stat(filepath.Join(top, path))
			if name == "by a link" && path != "root/.ssh" {
				st, err = os.Stat(filepath.Join(top, "keys"))
			}
			must(t, err)
			if st.Mode() != want {
				t.Errorf("%s: %s has mode %v, want %v", name, path, st.Mode(), want)
			}
		}
		file, err := r.ReadFile(authorizedKeys, maxConfig)
		must(t, err)
		if string(file) != c.want {
			t.Errorf("%s: %q, want %q", name, file, c.want)
		}
		noTemp(t, top)
	}
}

// TestHostKeysAreNamedAsSSHKeygenNamesThem compares with ssh-keygen's own
// fingerprints and SSHFP records.
func TestHostKeysAreNamedAsSSHKeygenNamesThem(t *testing.T) {
	r, top, _ := tree(t, "etc/ssh/ssh_host_gone_key.pub=ssh-ed25519 AAAA half of a key")
	var prints, records strings.Builder
	ask := func(into *strings.Builder, args ...string) {
		out, err := exec.Command("ssh-keygen", args...).Output()
		must(t, err)
		into.Write(out)
	}
	for _, keyType := range []string{"dsa", "ecdsa", "ed25519", "rsa"} { // in the order of their names
		file := filepath.Join(top, "etc/ssh/ssh_host_"+keyType+"_key")
		if out, err := exec.Command("ssh-keygen", "-q", "-t", keyType, "-N", "", "-C", "root@web1 with blanks", "-f", file).CombinedOutput(); err != nil {
			if keyType == "dsa" {
				continue // gone from newer versions
			}
			t.Fatalf("%v\n%s", err, out)
		}
		ask(&prints, "-l", "-f", file+".pub")
		ask(&records, "-r", "web1.example.com", "-f", file+".pub")
	}
	keys, err := ReadHostKeys(r)
	must(t, err)
	var want, got []string
	for line := range strings.Lines(prints.String()) {
		want = append(want, strings.Fields(line)[1])
	}
	for line := range strings.Lines(records.String()) {
		if f := strings.Fields(line); f[4] == "2" {
			want = append(want, strings.Join(f[3:], " "))
		}
	}
	for _, key := range keys {
		got = append(got, key.Fingerprint)
	}
	for _, key := range keys {
		got = append(got, key.SSHFP)
	}
	if len(keys) < 3 || strings.Join(got, "\n") != strings.Join(want, "\n") {
		t.Errorf("got\n%s\nssh-keygen has\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
}

func TestWhatIsNoHostKeyIsRefused(t *testing.T) {
	for name, text := range map[string]string{
		"empty":        "",
		"one word":     "ssh-ed25519",
		"not base64":   "ssh-ed25519 ???",
		"another type": "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIFMnzPlOqdHXB5P8BlAMjBDvcPHiOyGxG+tcxmQOV0aT",
		"short":        "ssh-ed25519 AAAA",
		"enormous":     "ssh-ed25519 " + strings.Repeat("A", maxHostKeyFile),
	} {
		r, _, _ := tree(t, "etc/ssh/ssh_host_x_key=", "etc/ssh/ssh_host_x_key.pub="+text)
		if keys, err := ReadHostKeys(r); err == nil || !strings.Contains(err.Error(), "ssh_host_x_key.pub") {
			t.Errorf("%s: %v, %v", name, keys, err)
		}
	}
	r, _, _ := tree(t, "etc/ssh/ssh_host_x_key=", "etc/ssh/ssh_host_x_key.pub=ssh-new AAAAB3NzaC1uZXc=")
	if keys, err := ReadHostKeys(r); err != nil || len(keys) > 0 {
		t.Errorf("a type without a number in DNS: %v, %v", keys, err)
	}
}
