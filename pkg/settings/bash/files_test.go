package bash

import "testing"

// Files of the kinds that admins have; each must be evaluated as by bash.
var files = []string{
	`# the plain one
PROXY="http://proxy.example:3128/"
MIRROR="http://mirror.example/debian"
SUITE="bookworm"
EXTRA_PKGS="acpi-support-base,udev,linux-image-amd64"
GENERATE_CACHE="yes"
CLEAN_CACHE=""
PARTITION_STYLE="msdos"
`, `# continued lines
EXTRA_PKGS="openssh-server,\
vim,\
less"
COMPONENTS=main,contrib,non-free-firmware   # since bookworm
`, `# defaults that the environment overrides
: ${SUITE:=trixie}
: "${ARCH:=$(dpkg --print-architecture)}"
MIRROR=${MIRROR:-http://mirror.example/debian}
export http_proxy=${PROXY:-}
`, `# swap on the second disk
if [ "$DISK_COUNT" -gt 1 ]; then
	swapdev=$DISK_1_PATH
fi
`, `[ -n "$DISK_1_PATH" ] && swapdev="$DISK_1_PATH"
PARTITION_STYLE=none
`, `# by the name of the instance
case "$INSTANCE_NAME" in
	web*|www*)
		EXTRA_PKGS="nginx,curl"
		;;
	db[0-9]*) EXTRA_PKGS=postgresql ;;
	*)
		EXTRA_PKGS=
esac
DOMAIN=${INSTANCE_NAME#*.}
HOST=${INSTANCE_NAME%%.*}
export DOMAIN HOST
`, `# by the architecture
ARCH=amd64
case $ARCH in
i386) KERNEL=linux-image-686 ;;
amd64) KERNEL=linux-image-amd64 ;;
esac
EXTRA_PKGS="acpid,${KERNEL}"
unset KERNEL
`, `# a list of packages
PKGS="
  openssh-server
  sudo
  vim
"
EXTRA_PKGS=$(echo $PKGS | tr ' ' ',')
`, `pkgs=(openssh-server sudo)
pkgs+=(vim "less")
if [[ $HYPERVISOR == xen* ]]; then
  pkgs+=(linux-image-xen-amd64)
fi
EXTRA_PKGS="${pkgs[*]}"
EXTRA_PKGS=${EXTRA_PKGS// /,}
`, `add() {
  for p in "$@"; do
    EXTRA_PKGS="${EXTRA_PKGS:+$EXTRA_PKGS,}$p"
  done
}
add vim
add less mc
[ "$OS_VARIANT" = default ] || add emacs
`, `# shared with other tools
if [ -r /etc/os-release ]; then
  . /etc/os-release
  SUITE=${VERSION_CODENAME:-bookworm}
fi
unset NAME ID PRETTY_NAME
`, `set -a
SITE=lab
RACK=$(echo r-12 | cut -d- -f2)
set +a
NOT_EXPORTED=1
`, `# the network of the first interface
IFS=. read -r a b c d <<< "${NIC_0_IP:-0.0.0.0}"
if [ "$a.$b.$c" = 192.0.2 ]; then
  MIRROR=http://mirror.lab.example/debian
  export GATEWAY="$a.$b.$c.1"
else
  MIRROR=http://mirror.example/debian
fi
`, `log() { echo "settings: $*" >&2; }
SUITE=trixie
if ! command -v mmdebstrap >/dev/null 2>&1; then
  log "no mmdebstrap"
fi
log "suite $SUITE for $INSTANCE_NAME"
`, `SIZE=$(( ${DISK_0_SIZE:-0} / 1024 ))
if [ $SIZE -ge 100 ]; then
  OSP_FILESYSTEM=xfs
elif [ $SIZE -ge 10 ]; then
  OSP_FILESYSTEM=ext4
else
  OSP_FILESYSTEM=ext3
fi
`, `# a mirror that answers
for host in /nonexistent/a /etc /nonexistent/b; do
  if [ -d "$host" ]; then
    MIRROR="file://$host"
    break
  fi
done
: "${MIRROR:?no mirror answers}"
`, `PROXY=$(grep -sh '^Acquire::http::Proxy' /nonexistent/apt.conf | head -n1 | sed 's/.*"\(.*\)".*/\1/')
PROXY=${PROXY:-}
[ -z "$PROXY" ] || { export http_proxy="$PROXY"; export https_proxy="$PROXY"; }
`, `n=0
while [ "$n" -lt "${DISK_COUNT:-0}" ]; do
  v="DISK_${n}_PATH"
  DISKS="$DISKS ${!v}"
  n=$((n + 1))
done
LAST=${DISKS##* }
`, `MOTD=$(cat <<EOF
This is $INSTANCE_NAME,
  installed from ${SUITE:-trixie} (\$5).
EOF
)
export MOTD
`, `# a file that ends with a test that is false
CUSTOMIZE_DIR="/etc/ganeti/hooks.d"
for p in vim less; do
  [ "$p" = vim ] && EDITOR=$p
done
[ -d "/nonexistent" ] && CUSTOMIZE_DIR=/nonexistent
`, `# a failing command is the end
SUITE=bookworm
VERSION=$(cat /nonexistent/version)
SUITE=trixie
`, `# … unless it is expected
VERSION=$(cat /nonexistent/version 2>/dev/null || echo unknown)
if ! grep -q nosuchword /etc/passwd; then FOUND=no; fi
set -o pipefail
COUNT=$(printf '%s\n' a b c | wc -l) || exit 1
`, `if [ ! -e "$DISK_0_PATH" ]; then
  echo "there is no $DISK_0_PATH" >&2
  exit 1
fi
`, `TAGS="debian web"
for t in $TAGS; do
  case $t in
    web) [ -z "$EXTRA_PKGS" ] && EXTRA_PKGS=nginx ;;
    db) EXTRA_PKGS=mariadb-server ;;
  esac
done
[[ $INSTANCE_NAME =~ ^([a-z]+)([0-9]+)\. ]] && ROLE=${BASH_REMATCH[1]} NUMBER=${BASH_REMATCH[2]}
if [[ -n $ROLE && $NUMBER -ge 1 ]]; then GROUP="${ROLE^^}-$NUMBER"; fi
`,
}

func TestFilesOfAdminsAreEvaluatedAsByBash(t *testing.T) {
	for _, text := range files {
		if d := compare(t, text); d != "" {
			t.Errorf("%s\n%s", text, d)
		}
	}
}
