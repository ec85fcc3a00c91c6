package guest

// A guest runs the admin's script once, at its first boot. It is renamed, and that is
// durable, before it is started: a guest that crashes in it doesn't run it again.
const (
	firstBootName   = "instance-debootstrap-first-boot"
	firstBootWanted = "/var/lib/instance-debootstrap/first-boot"
	firstBootBegun  = "/var/lib/instance-debootstrap/first-boot.begun"
	firstBootRunner = "/var/lib/instance-debootstrap/run-first-boot"
	firstBootLog    = "/var/log/" + firstBootName + ".log"

	runFirstBoot = `#!/bin/sh
# Runs the script that was left for the first boot, once, however it ends. One that fails
# stays as ` + firstBootBegun + `.
[ -e ` + firstBootWanted + ` ] || exit 0
mv ` + firstBootWanted + ` ` + firstBootBegun + ` && sync || exit 1
(umask 077 && : >>` + firstBootLog + `)
cd /
export HOME=/root # which systemd gives no service of root's
{
	echo "$(date '+%F %T') first boot: the script begins"
	` + firstBootBegun + `
	status=$?
	echo "$(date '+%F %T') first boot: the script ended with exit status $status"
} </dev/null >>` + firstBootLog + ` 2>&1
[ $status != 0 ] || rm -f ` + firstBootBegun + `
exit $status
`
	firstBootUnit = `[Unit]
Description=Run the script of the first boot, once
ConditionPathExists=` + firstBootWanted + `
Wants=network-online.target
After=network-online.target

[Service]
Type=oneshot
ExecStart=` + firstBootRunner + `
TimeoutStartSec=infinity

[Install]
WantedBy=multi-user.target
`
	firstBootScript = `#!/bin/sh
### BEGIN INIT INFO
# Provides:          ` + firstBootName + `
# Required-Start:    $remote_fs $network
# Required-Stop:
# Default-Start:     2 3 4 5
# Default-Stop:
# Short-Description: Run the script of the first boot, once
### END INIT INFO
[ "$1" = start ] && [ -e ` + firstBootWanted + ` ] || exit 0
` + firstBootRunner + ` &
`
)

// WantFirstBoot has the guest run a script at its first boot, when its network is up. enable
// is a command that is to be run in the guest for it; nil is none.
func WantFirstBoot(r *Root, script string) (enable []string, err error) {
	if err := r.Put(firstBootRunner, runFirstBoot, 0o700); err != nil {
		return nil, err
	}
	if err := r.Put(firstBootWanted, script, 0o700); err != nil {
		return nil, err
	}
	if initSystem(r) == "systemd" {
		const unit = firstBootName + ".service"
		if err := r.Put("/etc/systemd/system/"+unit, firstBootUnit, 0o644); err != nil {
			return nil, err
		}
		return nil, EnableUnit(r, unit)
	}
	return []string{"update-rc.d", firstBootName, "defaults"}, r.Put("/etc/init.d/"+firstBootName, firstBootScript, 0o755)
}
