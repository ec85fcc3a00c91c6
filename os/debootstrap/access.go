package debootstrap

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/trust"
)

// What a guest is reached with by ssh: the package, and its server.
const (
	sshServer = "openssh-server"
	sshdPath  = "/usr/sbin/sshd"
)

// packages are what the tree has beside its base system and what it boots with.
func (j *Job) packages() []string {
	out := slices.Clone(j.Settings.ExtraPkgs)
	if j.Settings.SSHAuthorizedKeys != "" && !slices.Contains(out, sshServer) {
		out = append(out, sshServer)
	}
	return out
}

// maxKeyFile bounds, in bytes, a file of keys.
const maxKeyFile = 256 << 10

// authorizedKeys returns the keys that may log in as root: those of the setting,
// or of the node's file that it names. "" is none.
func (j *Job) authorizedKeys() (string, error) {
	name := j.Settings.SSHAuthorizedKeys
	if !strings.HasPrefix(name, "/") {
		return name, nil
	}
	_, err := trust.Check(name, j.strictFiles())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("SSH_AUTHORIZED_KEYS: %w", err)
	}
	text, err := readKeyFile(name)
	if err == nil {
		err = settings.CheckAuthorizedKeys(text)
	}
	if err != nil {
		return "", fmt.Errorf("SSH_AUTHORIZED_KEYS: file %s on this node: %w", name, err)
	}
	return text, nil
}

// readKeyFile reads a regular file, and never waits for one that isn't.
func readKeyFile(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", errors.Unwrap(err) // the caller names the file
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", firstError(err, errors.New("not a regular file"))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("has more than %d bytes", maxKeyFile)
	}
	return string(text), err
}

// passwordField is root's password as shadow(5) has it.
func (j *Job) passwordField() string {
	switch p := j.Settings.RootPassword; p {
	case "blank", "":
		return ""
	case "locked":
		return "*"
	default:
		return p
	}
}

// whoGetsIn tells plan who can log in, without the secrets.
func (j *Job) whoGetsIn(context.Context) string {
	password, ok := map[string]string{"blank": "root has no password", "locked": "root's password is locked"}[j.Settings.RootPassword]
	if !ok {
		password = "root has a password"
	}
	keys, err := j.authorizedKeys()
	switch {
	case err != nil:
		return err.Error()
	case keys == "":
		return password
	}
	return password + ", and ssh keys"
}

// letIn writes who may log in as root by ssh.
func (j *Job) letIn(root *guest.Root) error {
	if j.keys == "" {
		return nil
	}
	return guest.AddAuthorizedKeys(root, j.keys)
}

// lookAtHostKeys tells by what the guest's ssh server will be known, once the
// hooks have had their say; nothing of the guest runs for it.
func (j *Job) lookAtHostKeys(ctx context.Context, root *guest.Root) {
	if !root.Exists(sshdPath) {
		if j.keys != "" {
			warn(ctx, "the guest has no ssh server, so the keys of SSH_AUTHORIZED_KEYS let nobody in: install %s in it", sshServer)
		}
		return
	}
	var err error
	if j.hostKeys, err = guest.ReadHostKeys(root); err != nil {
		warn(ctx, "the guest's ssh host keys: %v", err)
	}
	for _, key := range j.hostKeys {
		info(ctx, "ssh host key: %s %s", key.Type, key.Fingerprint)
	}
	for _, key := range j.hostKeys {
		info(ctx, "DNS record of it: %s. IN SSHFP %s", strings.TrimSuffix(j.Request.InstanceName, "."), key.SSHFP)
	}
}
