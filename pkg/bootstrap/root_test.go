//go:build root

package bootstrap

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
)

func TestMain(m *testing.M) {
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "needs root")
		os.Exit(1)
	}
	syscall.Umask(0o022)
	os.Exit(m.Run())
}

// signer is a GnuPG home with one key of its own.
type signer struct{ home, keyring string }

func newSigner(t *testing.T) signer {
	t.Helper()
	home, err := os.MkdirTemp("", "k") // t.TempDir's are too long for gpg-agent's socket
	must(t, err)
	s := signer{home, filepath.Join(home, "public.gpg")}
	t.Cleanup(func() {
		exec.Command("gpgconf", "--homedir", home, "--kill", "all").Run()
		os.RemoveAll(home)
	})
	s.gpg(t, "--quick-generate-key", "--passphrase", "", "test archive <archive@mirror.example>", "ed25519", "sign", "never")
	s.gpg(t, "--output", s.keyring, "--export")
	return s
}

func (s signer) gpg(t *testing.T, args ...string) {
	t.Helper()
	out, err := exec.Command("gpg", append([]string{"--homedir", s.home, "--batch", "--quiet", "--yes"}, args...)...).CombinedOutput()
	if err != nil {
		t.Fatalf("gpg %q: %v\n%s", args, err, out)
	}
}

// serveArchive serves an archive of one suite that holds no packages, signed by
// s (not at all without it) and changed by spoil after that.
func serveArchive(t *testing.T, s *signer, spoil func(release []byte) []byte) string {
	t.Helper()
	dir := t.TempDir()
	suite := filepath.Join(dir, "debian/dists/bookworm")
	must(t, os.MkdirAll(filepath.Join(suite, "main/binary-amd64"), 0o755))
	must(t, os.WriteFile(filepath.Join(suite, "main/binary-amd64/Packages"), nil, 0o644))
	release := fmt.Sprintf("Origin: Debian\nLabel: Debian\nSuite: oldstable\nCodename: bookworm\nDate: %s\n"+
		"Architectures: amd64\nComponents: main\nSHA256:\n %x 0 main/binary-amd64/Packages\n",
		time.Now().UTC().Add(-time.Hour).Format("Mon, 02 Jan 2006 15:04:05 UTC"), sha256.Sum256(nil))
	file := filepath.Join(suite, "Release")
	must(t, os.WriteFile(file, []byte(release), 0o644))
	if s != nil {
		s.gpg(t, "--output", filepath.Join(suite, "InRelease"), "--clearsign", file)
		s.gpg(t, "--output", file+".gpg", "--armor", "--detach-sign", file)
	}
	for _, name := range []string{"Release", "InRelease"} {
		path := filepath.Join(suite, name)
		if raw, err := os.ReadFile(path); err == nil && spoil != nil {
			must(t, os.WriteFile(path, spoil(raw), 0o644))
		}
	}
	server := httptest.NewServer(http.FileServer(http.Dir(dir)))
	t.Cleanup(server.Close)
	return server.URL + "/debian"
}

// bootstrapFrom runs one tool against a mirror and returns its error.
func bootstrapFrom(t *testing.T, name, mirror, keyring string) error {
	t.Helper()
	tool, err := Choose(t.Context(), Spec{Tool: name, Suite: "bookworm", Arch: "amd64", NodeArch: "amd64", Mirror: mirror})
	must(t, err)
	if keyring != "" {
		tool.Keyring = keyring
	}
	_, err = Run(t.Context(), tool, Spec{Tool: name, Suite: "bookworm", Arch: "amd64", NodeArch: "amd64", Mirror: mirror, Security: SecurityNone}, t.TempDir())
	return err
}

func TestAMirrorWithABadSignatureIsRefused(t *testing.T) {
	good, other := newSigner(t), newSigner(t)
	tamper := func(release []byte) []byte {
		return []byte(strings.Replace(string(release), "Label: Debian", "Label: Debiam", 1))
	}
	reasons := map[string][]string{
		Debootstrap: {"Release signed by unknown key", "Invalid Release signature", "Failed getting release signature file"},
		Mmdebstrap:  {"NO_PUBKEY", "BADSIG", "is not signed"},
	}
	for name, reason := range reasons {
		wrongKey := serveArchive(t, &other, nil)
		tampered := serveArchive(t, &good, tamper)
		unsigned := serveArchive(t, nil, nil)
		tests := []struct{ what, mirror, keyring, reason string }{
			{"signed by a key that isn't the suite's", wrongKey, "", reason[0]},
			{"changed after it was signed", tampered, good.keyring, reason[1]},
			{"not signed", unsigned, good.keyring, reason[2]},
		}
		for _, tc := range tests {
			err := bootstrapFrom(t, name, tc.mirror, tc.keyring)
			if err == nil || !strings.Contains(err.Error(), tc.reason) {
				t.Errorf("%s, %s: got %v, want %q", name, tc.what, err, tc.reason)
			}
		}
		// With the right key it is not the signature that stops it.
		err := bootstrapFrom(t, name, serveArchive(t, &good, nil), good.keyring)
		if err == nil {
			t.Fatalf("%s: an archive without packages gave a tree", name)
		}
		for _, r := range reason {
			if strings.Contains(err.Error(), r) {
				t.Errorf("%s, well signed: %v", name, err)
			}
		}
		t.Logf("%s, well signed but empty: %v", name, err)
	}
}

func TestCancellingEndsTheToolAndItsChildren(t *testing.T) {
	for _, name := range []string{Debootstrap, Mmdebstrap} {
		asked := make(chan bool, 10)
		server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			asked <- true
			<-r.Context().Done() // a mirror that never answers
		}))
		target := t.TempDir()
		spec := Spec{Tool: name, Suite: "bookworm", Arch: "amd64", NodeArch: "amd64", Mirror: server.URL}
		tool, err := Choose(t.Context(), spec)
		must(t, err)
		ctx, cancel := context.WithCancelCause(t.Context())
		go func() { <-asked; cancel(errors.New("told to stop")) }()
		start := time.Now()
		_, err = Run(ctx, tool, spec, target)
		if err == nil || !strings.Contains(err.Error(), "told to stop") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(start); took > 10*time.Second {
			t.Errorf("%s took %s to end", name, took)
		}
		server.CloseClientConnections()
		server.Close()
		nothingLeft(t, target)
	}
}

// nothingLeft checks that no mount is left below target, and no process that
// knows of it.
func nothingLeft(t *testing.T, target string) {
	t.Helper()
	out, _ := exec.Command("findmnt", "-rno", "TARGET").Output()
	if strings.Contains(string(out), target+"/") {
		t.Errorf("mounts left:\n%s", out)
	}
	files, err := filepath.Glob("/proc/[0-9]*")
	must(t, err)
	for _, proc := range files {
		cmdline, _ := os.ReadFile(proc + "/cmdline")
		environ, _ := os.ReadFile(proc + "/environ")
		root, _ := os.Readlink(proc + "/root")
		if strings.Contains(string(cmdline)+string(environ)+root, target) {
			t.Errorf("process left: %s %q", proc, cmdline)
		}
	}
}

func TestUnmountingBelowTakesTheDeepestFirst(t *testing.T) {
	target := t.TempDir()
	mount := func(dir string) {
		must(t, os.MkdirAll(filepath.Join(target, dir), 0o755))
		must(t, unix.Mount("none", filepath.Join(target, dir), "tmpfs", 0, ""))
	}
	mount("")
	t.Cleanup(func() { unix.Unmount(target, unix.MNT_DETACH) })
	mount("proc")
	mount("a b\n/c")
	mount("a b\n/c/deep/er")
	mount("a b\n/c") // on top of the others
	mount("busy")
	sleeper := exec.Command("sleep", "60")
	sleeper.Dir = filepath.Join(target, "busy")
	must(t, sleeper.Start())
	defer func() { sleeper.Process.Kill(); sleeper.Wait() }()
	must(t, filesystem.UnmountBelow(target))
	out, err := exec.Command("findmnt", "-rno", "TARGET").Output()
	must(t, err)
	var left []string
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, target) {
			left = append(left, strings.TrimSpace(line))
		}
	}
	if len(left) != 1 || left[0] != target {
		t.Errorf("still mounted: %q", left)
	}
}

func TestADaemonLeftInTheTreeIsEnded(t *testing.T) {
	target := t.TempDir()
	inTree := exec.Command("/bin/sleep", "60")
	inTree.SysProcAttr = &syscall.SysProcAttr{Chroot: target}
	copySleep(t, target)
	must(t, inTree.Start())
	marked := exec.Command("sleep", "60")
	marked.Env = []string{"A=1", "MARK=x"}
	must(t, marked.Start())
	other := exec.Command("sleep", "60")
	other.Dir = target
	must(t, other.Start())
	done := make(chan bool, 2)
	for _, cmd := range []*exec.Cmd{inTree, marked} {
		go func() { cmd.Wait(); done <- true }()
	}
	ended := endProcesses(target, "MARK=x")
	<-done
	<-done
	if len(ended) != 2 || !strings.Contains(strings.Join(ended, " "), fmt.Sprintf("(pid %d)", inTree.Process.Pid)) {
		t.Errorf("ended %q", ended)
	}
	if err := other.Process.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("a process that only has its working folder there: %v", err)
	}
	other.Process.Kill()
	other.Wait()
}

// copySleep puts sleep and its libraries into a tree.
func copySleep(t *testing.T, target string) {
	t.Helper()
	script := `for f in /bin/sleep $(ldd /bin/sleep | grep -o '/[^ ]*'); do mkdir -p "$1${f%/*}" && cp -L "$f" "$1$f"; done`
	if out, err := exec.Command("sh", "-c", script, "sh", target).CombinedOutput(); err != nil {
		t.Fatalf("copy sleep: %v\n%s", err, out)
	}
}
