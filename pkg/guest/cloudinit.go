package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"strconv"
	"strings"

	"instance-debootstrap/pkg/pattern"
)

// cloud-init finds its data in a folder of the guest's own.
const (
	seedFolder   = "/var/lib/cloud/seed/nocloud"
	seedMetaData = seedFolder + "/meta-data"
	cloudConfig  = "/etc/cloud/cloud.cfg.d/95-instance-debootstrap.cfg"

	// keyTypes are the host keys that cloud-init makes, where there are none.
	keyTypes = "[ed25519, ecdsa]"

	// cloudSettings keep what the installation has made: cloud-init would write a network of
	// its own, put new keys in the place of those by which the guest is known, cut the host
	// name's domain off, tell GRUB's package of another disk, and set a locale that the guest
	// may not have (which Debian 12's cloud-init takes as text only). User-data may say otherwise,
	// but of the first two, which it isn't asked about.
	cloudSettings = `# Written when the guest was installed. What is here keeps what was installed.
datasource_list: [NoCloud]
network: {config: disabled}
prefer_fqdn_over_hostname: true
ssh_deletekeys: false
ssh_genkeytypes: ` + keyTypes + `
apt: {preserve_sources_list: true}
grub_dpkg: {enabled: false}
locale: "false"
`
)

// CloudInit is the guest's program for user-data.
const CloudInit = "/usr/bin/cloud-init"

// CloudInitEnded is what a guest that says so says on its console, after how, when cloud-init
// has done all of its first boot.
const CloudInitEnded = "(cloud-init's first run has ended)"

// A boot test has to learn that cloud-init has ended. cloud-init's last service may come
// after multi-user.target, so nothing waits for this one.
const (
	cloudEndName   = "instance-debootstrap-cloud-init-end"
	cloudEndScript = "/var/lib/instance-debootstrap/say-cloud-init-end"
	sayCloudEnd    = `#!/bin/sh
# Says on the console how cloud-init's first run ended, once.
rm -f "$0"
status=$(cloud-init status --wait 2>&1 | tail -n 1)
echo "$status ` + CloudInitEnded + `"
`
	cloudEndUnit = `[Unit]
Description=Say on the console how the first run of cloud-init ended, once
ConditionPathExists=` + cloudEndScript + `

[Service]
ExecStart=` + cloudEndScript + `
StandardOutput=journal+console

[Install]
WantedBy=multi-user.target
`
)

// Seed is what cloud-init is told of a guest.
type Seed struct {
	InstanceID string // of whom cloud-init remembers what it has done
	HostName   string
	UserData   string
	SaysEnd    bool // on the console, when it has ended
}

// WriteSeed writes it, for root alone: user-data may have secrets.
func WriteSeed(r *Root, s Seed) error {
	for _, value := range []string{s.InstanceID, s.HostName} {
		if !word().MatchString(value) {
			return fmt.Errorf("%s: %s must be one word", seedMetaData, pattern.Quote(value))
		}
	}
	meta := "instance-id: " + strconv.Quote(s.InstanceID) + "\nlocal-hostname: " + strconv.Quote(s.HostName) + "\n"
	settings := cloudSettings
	if !r.Exists("/usr/bin/ssh-keygen") { // it would warn of keys that it can't make
		settings = strings.Replace(settings, "ssh_genkeytypes: "+keyTypes, "ssh_keys: {}", 1)
	}
	err := errors.Join(r.Put(seedMetaData, meta, 0o600), r.Put(seedFolder+"/user-data", s.UserData, 0o600), r.Put(cloudConfig, settings, 0o644))
	if err != nil || !s.SaysEnd {
		return err
	}
	const unit = cloudEndName + ".service"
	if err := errors.Join(r.Put(cloudEndScript, sayCloudEnd, 0o700), r.Put("/etc/systemd/system/"+unit, cloudEndUnit, 0o644)); err != nil {
		return err
	}
	return EnableUnit(r, unit)
}

// seedName is the line of a seed's meta-data that has the host name.
var seedName = pattern.New(`(?m)^local-hostname:[ \t]*("?)([^"\s]*)"?[ \t]*$`)

// renameSeed changes the host name that cloud-init would give the guest, where that has the
// old one. Its instance-id stays, so nothing is run anew because of it.
func renameSeed(r *Root, from, to string) error {
	text, err := r.ReadFile(seedMetaData, maxConfig)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	m := seedName().FindSubmatchIndex(text)
	if m == nil || string(text[m[4]:m[5]]) != from {
		return nil
	}
	return r.WriteFile(seedMetaData, []byte(string(text[:m[4]])+to+string(text[m[5]:])), 0o600)
}
