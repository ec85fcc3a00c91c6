package install

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/tell"
)

// What a guest is reached with by ssh: the package, and its server.
const (
	sshServer = "openssh-server"
	sshdPath  = "/usr/sbin/sshd"
)

// maxKeyFile bounds, in bytes, a file of keys, or of what runs at the first boot.
const maxKeyFile = 256 << 10

// readKeyFile reads a regular file, and never waits for one that isn't.
func readKeyFile(name string) (string, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", errors.Unwrap(err) // the caller names the file
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return "", cmp.Or(err, errors.New("not a regular file"))
	}
	text, err := io.ReadAll(io.LimitReader(f, maxKeyFile+1))
	if err == nil && len(text) > maxKeyFile {
		err = fmt.Errorf("has more than %d KiB: name a smaller one", maxKeyFile>>10)
	}
	return string(text), err
}

// passwordField is root's password as shadow(5) has it.
func (o *Order) passwordField() string {
	switch p := o.Settings.RootPassword; p {
	case "blank", "":
		return ""
	case "locked":
		return "*"
	default:
		return p
	}
}

// describeLogin tells plan who can log in, without the secrets.
func (c Choice) describeLogin(context.Context) (string, error) {
	password, ok := map[string]string{"blank": "root has no password", "locked": "root's password is locked"}[c.Settings.RootPassword]
	if !ok {
		password = "root has a password"
	}
	if c.Settings.SSHAuthorizedKeys != "" {
		password += ", and ssh keys"
	}
	return password, nil
}

// lookAtHostKeys tells by what the guest's ssh server will be known, once the
// hooks have had their say; nothing of the guest runs for it. keys are who may log in.
func lookAtHostKeys(ctx context.Context, root *guest.Root, instance, keys string) []guest.HostKey {
	if !root.Exists(sshdPath) {
		if keys != "" {
			tell.Warn(ctx, "the guest has no ssh server, so the keys of SSH_AUTHORIZED_KEYS let nobody in: install %s in it", sshServer)
		}
		return nil
	}
	found, err := guest.ReadHostKeys(root)
	if err != nil {
		tell.Warn(ctx, "the guest's ssh host keys: %v", err)
	}
	for _, key := range found {
		tell.Info(ctx, "ssh host key: %s %s", key.Type, key.Fingerprint)
		tell.Info(ctx, "DNS record of it: %s. IN SSHFP %s", strings.TrimSuffix(instance, "."), key.SSHFP)
	}
	return found
}

// authorizeKeys writes who may log in as root by ssh; "" is nobody.
func authorizeKeys(root *guest.Root, keys string) error {
	if keys == "" {
		return nil
	}
	return guest.AddAuthorizedKeys(root, keys)
}
