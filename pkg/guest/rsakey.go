package guest

// An ssh server of Debian's has an RSA key too. To make one takes a second of CPU, so
// the guest makes it itself, once, before its server starts for the first time: while
// rsaKeyWanted is there. An admin who removes the key later has it removed.
const (
	rsaKeyName   = "instance-debootstrap-rsa-key"
	rsaKeyWanted = "/var/lib/instance-debootstrap/rsa-key-is-wanted"
	makeRSAKey   = "{ [ -e /etc/ssh/ssh_host_rsa_key ] || ssh-keygen -q -t rsa -N '' -f /etc/ssh/ssh_host_rsa_key; } && rm -f " + rsaKeyWanted

	rsaKeyUnit = `[Unit]
Description=Make the ssh server's RSA key, once
ConditionPathExists=` + rsaKeyWanted + `
Before=ssh.service sshd.service

[Service]
Type=oneshot
ExecStart=/bin/sh -c "` + makeRSAKey + `"

[Install]
WantedBy=multi-user.target
`
	rsaKeyScript = `#!/bin/sh
### BEGIN INIT INFO
# Provides:          ` + rsaKeyName + `
# Required-Start:    $remote_fs
# Required-Stop:
# X-Start-Before:    ssh
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Make the ssh server's RSA key, once
### END INIT INFO
[ "$1" = start ] && [ -e ` + rsaKeyWanted + ` ] || exit 0
` + makeRSAKey + `
`
)

// WantRSAKey has the guest make its ssh server's RSA key at its first boot. enable is a
// command that is to be run in the guest for it; nil is none.
func WantRSAKey(r *Root) (enable []string, err error) {
	if err := r.Put(rsaKeyWanted, "", 0o644); err != nil {
		return nil, err
	}
	if initSystem(r) == "systemd" {
		const unit = rsaKeyName + ".service"
		if err := r.Put("/etc/systemd/system/"+unit, rsaKeyUnit, 0o644); err != nil {
			return nil, err
		}
		return nil, EnableUnit(r, unit)
	}
	return []string{"update-rc.d", rsaKeyName, "defaults"}, r.Put("/etc/init.d/"+rsaKeyName, rsaKeyScript, 0o755)
}
