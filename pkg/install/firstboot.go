package install

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/command"
	"instance-debootstrap/pkg/guest"
	"instance-debootstrap/pkg/osapi"
	"instance-debootstrap/pkg/partition"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/receipt"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/settings"
	"instance-debootstrap/pkg/tell"
	"instance-debootstrap/pkg/trust"
)

// cloudInitPackages are what user-data needs: Debian's default user of cloud-init's, and
// almost every user-data, have rules for sudo, on which the package doesn't depend.
var cloudInitPackages = []string{"cloud-init", "sudo"}

// given are the texts of settings that are the path of a file, or the text itself.
type given struct {
	keys      string          // who may log in as root by ssh, as authorized_keys has it
	firstBoot string          // a script
	userData  string          // for cloud-init
	signer    *receipt.Signer // of receipts; nil is none
}

// readGiven reads the node's files, and checks what is in them.
func (o *Order) readGiven() (g given, err error) {
	s := o.Settings
	var errs []error
	read := func(setting, value string, check func(string) error) string {
		text, err := o.fileOrText(setting, value, check)
		if err != nil && o.Request.Verb == osapi.Verify {
			err = fmt.Errorf("%w (an import, which takes none, goes on with -O %s=)", err, strings.ToLower(setting))
		}
		errs = append(errs, err)
		return text
	}
	g.keys = read("SSH_AUTHORIZED_KEYS", s.SSHAuthorizedKeys, settings.CheckAuthorizedKeys)
	g.firstBoot = read("FIRST_BOOT", s.FirstBoot, settings.CheckScript)
	g.userData = read("USER_DATA", s.UserData, settings.CheckUserData)
	if s.ReceiptKey != "" {
		_, err := trust.Check(s.ReceiptKey, o.StrictFiles())
		if err == nil {
			g.signer, err = receipt.ReadSigner(s.ReceiptKey)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("RECEIPT_KEY: %w", err))
		}
	}
	if g.userData != "" && bootstrap.ReplacesInit(s.ExtraPkgs) {
		errs = append(errs, errors.New("USER_DATA needs systemd, which starts cloud-init, and EXTRA_PKGS names another init: set FIRST_BOOT instead, or take sysvinit-core out of EXTRA_PKGS"))
	}
	return g, errors.Join(errs...)
}

// fileOrText returns a setting's text: its value, or that of the node's file that it names.
func (o *Order) fileOrText(setting, value string, check func(string) error) (string, error) {
	if !strings.HasPrefix(value, "/") {
		return value, nil
	}
	_, err := trust.Check(value, o.StrictFiles())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("%s: %w", setting, err)
	}
	text, err := readKeyFile(value)
	if err == nil {
		err = check(text)
	}
	if err != nil {
		return "", fmt.Errorf("%s: file %s on this node: %w", setting, value, err)
	}
	return text, nil
}

// runsAtFirstBoot tells whether the guest gets anything to run at its first boot.
func (c Choice) runsAtFirstBoot(context.Context) (bool, string) {
	return session.NeededIf(c.Settings.FirstBoot+c.Settings.UserData != "", "FIRST_BOOT and USER_DATA are not set")
}

// describeFirstBoot says what that is.
func (o *Order) describeFirstBoot() string {
	var what []string
	if o.Settings.UserData != "" {
		what = append(what, "USER_DATA, by cloud-init")
	}
	if o.Settings.FirstBoot != "" {
		what = append(what, "FIRST_BOOT")
	}
	return joinPaths(what)
}

// writeFirstBoot leaves the guest what it runs at its first boot.
func writeFirstBoot(ctx context.Context, c Choice, r rootDisk) error {
	var enable []string
	err := guest.Edit(ctx, r.target, func(root *guest.Root) (err error) {
		if c.userData != "" {
			err = c.writeSeed(root)
		}
		if err == nil && c.firstBoot != "" {
			enable, err = guest.WantFirstBoot(root, c.firstBoot)
		}
		return err
	})
	if err == nil && enable != nil {
		err = command.Run(ctx, command.Cmd{Chroot: r.target, Quiet: true, Args: enable})
	}
	return err
}

// writeSeed is for cloud-init. What cloud-init has done it remembers by the id on the guest's
// own disk: a reinstalled instance, which has a new disk, runs all of it again.
func (c Choice) writeSeed(root *guest.Root) error {
	uuid, err := partition.NewUUID(rand.Reader)
	if err != nil {
		return err
	}
	return guest.WriteSeed(root, guest.Seed{
		InstanceID: cmp.Or(c.Request.InstanceUUID, uuid), HostName: c.Request.InstanceName,
		UserData: c.userData, SaysEnd: c.Settings.BootTest,
	})
}

// lookAtFirstBoot tells what the guest will lack at its first boot, once the hooks have had
// their say.
func (c Choice) lookAtFirstBoot(ctx context.Context, root *guest.Root) {
	if c.userData != "" && !root.Exists(guest.CloudInit) {
		tell.Warn(ctx, "the guest has no cloud-init, so nothing will read its USER_DATA: install cloud-init in it")
	}
	if program := settings.Interpreter(c.firstBoot); program != "" && !root.Exists(program) {
		tell.Warn(ctx, "the guest has no %s, which FIRST_BOOT's first line names, so its first boot can't run it: add its package to EXTRA_PKGS", pattern.Plain(program))
	}
}

// cloudInitSaid is for a boot test: how cloud-init ended on the copy, which has no network.
func cloudInitSaid(ctx context.Context, console []string) {
	for _, line := range console {
		how, _, found := strings.Cut(line, guest.CloudInitEnded)
		switch {
		case found && strings.HasSuffix(strings.TrimSpace(how), "status: done"):
			tell.Info(ctx, "cloud-init ended in the copy without an error")
		case found:
			tell.Warn(ctx, "cloud-init ended in the copy, which has no network, with %s: in the guest, `cloud-init status --long` tells how it went there", pattern.Quote(strings.TrimSpace(how)))
		}
	}
}
