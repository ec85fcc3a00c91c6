package libvirt

// releases are osinfo-db's names of the suites (its data/os/debian.org and
// ubuntu.com). Others have none: a guest without is a generic one to virt-manager.
var releases = map[string]string{
	"jessie": "debian.org/debian/8", "stretch": "debian.org/debian/9", "buster": "debian.org/debian/10",
	"bullseye": "debian.org/debian/11", "bookworm": "debian.org/debian/12", "trixie": "debian.org/debian/13",
	"forky": "debian.org/debian/testing", "testing": "debian.org/debian/testing",
	"bionic": "ubuntu.com/ubuntu/18.04", "focal": "ubuntu.com/ubuntu/20.04", "jammy": "ubuntu.com/ubuntu/22.04", "noble": "ubuntu.com/ubuntu/24.04",
	"questing": "ubuntu.com/ubuntu/25.10", "resolute": "ubuntu.com/ubuntu/26.04",
}

// osInfo is the suite's entry in a domain's metadata; nil where osinfo-db has none.
func osInfo(suite string) *OSInfo {
	if releases[suite] == "" {
		return nil
	}
	return &OSInfo{OS: OSInfoID{"http://" + releases[suite]}}
}
