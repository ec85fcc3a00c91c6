//go:build root

package root

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// sshTree is the tiny tree with the node's ssh-keygen as the guest's, and a file
// with the name of an ssh server's.
func (l *lab) sshTree() {
	l.Helper()
	l.tinyTree()
	dir := l.TempDir()
	l.tool("tar", "-xf", l.tar(), "-C", dir)
	l.tool("sh", "-e", "-c", `mkdir -p "$1/usr/sbin" "$1/usr/bin" "$1/etc/ssh" "$1/dev"; touch "$1/usr/sbin/sshd"; mknod -m 666 "$1/dev/null" c 1 3
tool=$(command -v ssh-keygen); cp "$tool" "$1/usr/bin/"
for lib in $(ldd "$tool" | grep -o '/[^ ]*'); do mkdir -p "$1/${lib%/*}"; cp "$lib" "$1/$lib"; done
tar -cf "$2" -C "$1" .`, "sh", dir, l.tar())
}

// keyFile makes a key and returns the name of its public file, and its text.
func (l *lab) keyFile() (name, text string) {
	l.Helper()
	name = l.adminsKey() + ".pub"
	b, err := os.ReadFile(name)
	must(l, err)
	return name, string(b)
}

// adminsKey lets the test in.
func (l *lab) adminsKey() (key string) {
	l.Helper()
	key = filepath.Join(l.TempDir(), "key")
	l.tool("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
	return key
}

func TestRootsPasswordIsWhatIsSaid(t *testing.T) {
	hash := "$6$ab$" + strings.Repeat("x", 86)
	for _, c := range []struct{ value, field, state string }{
		{"blank", "", "NP"}, {"locked", "*", "L"}, {hash, hash, "P"},
	} {
		l := newLab(t, 600)
		l.tinyTree()
		l.env["OSP_ROOT_PASSWORD"] = c.value
		l.create()
		l.mounted(func(tree string) {
			shadow, _ := os.ReadFile(tree + "/etc/shadow")
			if !strings.HasPrefix(string(shadow), "root:"+c.field+":") {
				t.Errorf("%q: %s", c.value, shadow)
			}
			if state := l.tool("passwd", "--root", tree, "-S", "root"); !strings.HasPrefix(state, "root "+c.state+" ") {
				t.Errorf("%q: passwd says %s", c.value, state)
			}
		})
	}
	l := newLab(t, 600)
	l.tinyTree()
	l.env["OSP_ROOT_PASSWORD"] = "hunter2"
	if log := l.fails("never the password itself"); strings.Contains(log, "hunter2") {
		t.Error(log)
	}
	l.untouched()
}

func TestAHookMaySetRootsPassword(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	l.env["OSP_ROOT_PASSWORD"] = "locked"
	l.hook("10-password", `sed -i 's/^root:[^:]*:/root:$1$mine:/' "$TARGET/etc/shadow"`)
	l.create()
	l.mounted(func(tree string) {
		if shadow, _ := os.ReadFile(tree + "/etc/shadow"); !strings.HasPrefix(string(shadow), "root:$1$mine:") {
			t.Errorf("%s", shadow)
		}
	})
}

func TestTheKeysThatAreGivenLetIn(t *testing.T) {
	for _, how := range []string{"text", "file"} {
		l := newLab(t, 600)
		l.sshTree()
		file, text := l.keyFile()
		if l.env["OSP_SSH_AUTHORIZED_KEYS"] = text; how == "file" {
			l.env["OSP_SSH_AUTHORIZED_KEYS"] = file
		}
		log := l.create()
		l.mounted(func(tree string) {
			if got, err := os.ReadFile(tree + "/root/.ssh/authorized_keys"); err != nil || string(got) != text {
				t.Errorf("%s: %v, %q", how, err, got)
			}
			for name, want := range map[string]os.FileMode{"": os.ModeDir | 0o700, "/authorized_keys": 0o600} {
				st, err := os.Stat(tree + "/root/.ssh" + name)
				must(t, err)
				if st.Mode() != want || st.Sys().(*syscall.Stat_t).Uid != 0 {
					t.Errorf("%s: .ssh%s has mode %v", how, name, st.Mode())
				}
			}
			l.hostKeysInLog(tree, log)
		})
	}
}

// hostKeysInLog compares what the log says of the host keys with ssh-keygen.
func (l *lab) hostKeysInLog(tree, log string) {
	l.Helper()
	files, _ := filepath.Glob(tree + "/etc/ssh/ssh_host_*_key.pub")
	if len(files) != 2 {
		l.Errorf("host keys: %q", files)
	}
	for _, file := range files {
		words := strings.Fields(l.tool("ssh-keygen", "-l", "-f", file))
		if words[2] != "root@inst1.example" || !strings.Contains(log, " "+words[1]+"\n") {
			l.Errorf("ssh-keygen says %q, the log\n%s", words, log)
		}
		for record := range strings.Lines(l.tool("ssh-keygen", "-r", "inst1.example.", "-f", file)) {
			if f := strings.Fields(record); f[4] == "2" && !strings.Contains(log, strings.TrimSpace(record)+"\n") {
				l.Errorf("the log has no %q:\n%s", record, log)
			}
		}
	}
}

func TestHostKeysOfAHookAreTheOnesThatAreTold(t *testing.T) {
	l := newLab(t, 600)
	l.sshTree()
	l.hook("10-keys", `rm "$TARGET"/etc/ssh/ssh_host_*; for t in rsa ed25519; do
ssh-keygen -q -t $t -N '' -C root@inst1.example -f "$TARGET/etc/ssh/ssh_host_${t}_key"; done`)
	log := l.create()
	l.mounted(func(tree string) { l.hostKeysInLog(tree, log) })
}

func TestAKeyFileThatCannotBeUsedIsNamedBeforeTheDiskIsTouched(t *testing.T) {
	dir := t.TempDir()
	must(t, syscall.Mkfifo(dir+"/fifo", 0o600))
	for name, content := range map[string]string{"no-key": "# nobody\n", "private": "-----BEGIN OPENSSH PRIVATE KEY-----\n", "other": "root:$6$CANARY:1::::::\n", "large": strings.Repeat("#\n", 200<<10)} {
		must(t, os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600))
	}
	for name, want := range map[string]string{
		"missing": "no such file", "": "not a regular file", "fifo": "is a device, a FIFO or a socket: name a file", "no-key": "holds no key", "private": "private key", "other": "not a public key", "large": "more than",
	} {
		l := newLab(t, 600)
		l.tinyTree()
		l.env["OSP_SSH_AUTHORIZED_KEYS"] = filepath.Join(dir, name)
		log := l.fails(filepath.Join(dir, name))
		if !strings.Contains(log, want) || strings.Contains(log, "CANARY") {
			t.Errorf("%s: %s", name, log)
		}
		l.untouched()
		if log, exit := l.run("verify", "parameters"); exit != 1 || !strings.Contains(log, want) {
			t.Errorf("verify %s: exit status %d\n%s", name, exit, log)
		}
	}
}

func TestKeysWithoutAnSSHServerAreSaidToLetNobodyIn(t *testing.T) {
	l := newLab(t, 600)
	l.tinyTree()
	_, l.env["OSP_SSH_AUTHORIZED_KEYS"] = l.keyFile()
	if log := l.create(); !strings.Contains(log, "let nobody in: install openssh-server") {
		t.Error(log)
	}
}

func TestKeysBringAnSSHServer(t *testing.T) {
	l := newLab(t, 600)
	l.fakeDebootstrap("0")
	_, l.env["OSP_SSH_AUTHORIZED_KEYS"] = l.keyFile()
	l.create()
	if out, exit := l.byHand("cache", "list"); exit != 0 || !strings.Contains(out, "openssh-server") {
		t.Errorf("exit status %d\n%s", exit, out)
	}
}

func TestInstallByHandTakesKeysAndAPasswordFromFiles(t *testing.T) {
	l := newLab(t, 600)
	l.sshTree()
	file, text := l.keyFile()
	dir := filepath.Dir(file)
	must(t, os.WriteFile(dir+"/password", []byte("locked\n"), 0o600))
	cmd := exec.Command(program, "install", "--ssh-key", filepath.Base(file), "--root-password-file", "password", l.disk)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	l.mounted(func(tree string) {
		if got, _ := os.ReadFile(tree + "/root/.ssh/authorized_keys"); string(got) != text {
			t.Errorf("%q", got)
		}
		if shadow, _ := os.ReadFile(tree + "/etc/shadow"); !strings.HasPrefix(string(shadow), "root:*:") {
			t.Errorf("%s", shadow)
		}
	})
}
