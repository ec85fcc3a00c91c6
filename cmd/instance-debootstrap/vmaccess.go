package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/vm"
)

// access says who gets into the guest: the keys that may log in by ssh, which are
// those of the node's root and the one that was given, and root's password as the
// setting ROOT_PASSWORD has it. Where that isn't set, keys are enough.
func (b *vmBuilder) access(ctx context.Context, set *settings.Settings) (keys, password string) {
	keys = b.vm.Node.SSHKeys.Text
	if b.sshKey != "" {
		key, err := os.ReadFile(b.sshKey)
		if err == nil {
			err = settings.CheckAuthorizedKeys(string(key))
		}
		if err != nil {
			b.fault("--ssh-key %s: %w", b.sshKey, err)
		}
		keys += strings.TrimSpace(string(key)) + "\n"
		if private, isPublic := strings.CutSuffix(b.sshKey, ".pub"); isPublic && exists(private) {
			b.vm.Identity = private
		}
	}
	switch password = set.RootPassword; {
	case b.passwordFile != "" && b.blankPassword:
		b.fault("--root-password-file and --insecure-blank-password exclude each other")
	case b.passwordFile != "":
		var err error
		if password, err = rootPassword(ctx, b.passwordFile); err != nil {
			b.fault("--root-password-file %s: %w", b.passwordFile, err)
		}
		return keys, password
	case b.blankPassword:
		password = "blank"
	case set.Origin["ROOT_PASSWORD"] == "the default":
		password = "locked"
	}
	if keys == "" && password == "locked" && b.backup == "" { // a guest of a backup has its own

		b.fault("nobody could log in to the guest: give --ssh-key FILE, a public key, or put one into /root/.ssh/authorized_keys; " +
			"without a key its console needs --root-password-file FILE, or --insecure-blank-password")
	}
	return keys, password
}

// maxPassword is what openssl-passwd(1) takes, in bytes; it cuts off the rest.
const maxPassword = 256

// readSecret reads a file that nobody but its owner may read, up to a limit. The caller names
// the file.
func readSecret(name string, limit int64) ([]byte, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer f.Close()
	st, err := f.Stat()
	switch {
	case err != nil:
		return nil, err
	case !st.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case st.Mode().Perm()&0o077 != 0:
		return nil, fmt.Errorf("others may read it (mode %04o): chmod 600", st.Mode().Perm())
	}
	return io.ReadAll(io.LimitReader(f, limit))
}

// credentials reads the files of the options --credential.
func (b *vmBuilder) credentials() {
	for _, text := range b.credentialFiles {
		name, file, _ := strings.Cut(text, "=")
		if file == "" {
			b.fault("--credential %s: must be NAME=FILE", text)
			continue
		}
		data, err := readSecret(file, vm.MaxCredentialBytes+1)
		if err != nil {
			b.fault("--credential %s: %w", text, err)
			continue
		}
		b.vm.Credentials = append(b.vm.Credentials, vm.Credential{Name: name, Data: data})
	}
	if err := vm.CheckCredentials(b.vm.Credentials); err != nil {
		b.fault("--credential: %w", err)
	}
}

// rootPassword returns the ROOT_PASSWORD that is a file's only line: a password, of which it is
// the sha512crypt, which every suite since lenny checks; or what the setting takes, a hash or one of
// its words. Nobody but its owner may read the file.
func rootPassword(ctx context.Context, name string) (string, error) {
	text, err := readSecret(name, maxPassword+2)
	if err != nil {
		return "", err
	}
	password := strings.TrimSuffix(string(text), "\n")
	if password == "" || len(password) > maxPassword || strings.ContainsAny(password, "\n\r\x00") {
		return "", fmt.Errorf("must have the password, or its hash, as its only line, of at most %d bytes", maxPassword)
	}
	if settings.IsRootPassword(password) {
		return password, nil
	}
	var hash strings.Builder
	err = command.Run(ctx, command.Cmd{Args: []string{"openssl", "passwd", "-6", "-stdin"}, Stdin: strings.NewReader(password + "\n"), Stdout: &hash, Quiet: true})
	if err != nil {
		return "", fmt.Errorf("%w (package openssl)", err)
	}
	return strings.TrimSpace(hash.String()), nil
}
