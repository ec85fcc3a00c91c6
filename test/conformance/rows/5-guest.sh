# What is written into the guest. Sourced by run, for the texts, and by row.
# shellcheck shell=bash disable=SC2016,SC2034,SC2154 # variables of provider.sh and of the hooks
section "What is written into the guest"

row names-written 'hostname and mailname'
row-names-written() {
	admin_tree
	create
	outcome "$(guest cat "$root/etc/hostname" "$root/etc/mailname" | paste -sd+)"
}

row modes "the files' modes under the node daemon's umask 077" \
	'Other users of the guest, and its daemons, read them.'
row-modes() {
	admin_tree
	chmod 644 /etc/hosts /etc/resolv.conf
	create
	outcome "$(guest stat -c '%n %a' "$root"/etc/{hostname,mailname,fstab,hosts,resolv.conf} | sed 's|.*/||' | paste -sd, | sed 's/,/, /g')"
}

row root-mode "the mode of the guest's root folder"
row-root-mode() { admin_tree; create; outcome "$(guest stat -c %a "$root")"; }

row hosts-and-resolv "hosts and resolv.conf are the node's" \
	"The guest's own name stands in hosts, at 127.0.1.1, and the node's does not."
row-hosts-and-resolv() {
	admin_tree
	echo '192.0.2.99 site.example.org' >>/etc/hosts
	create
	outcome "hosts $(guest cmp -s /etc/hosts "$root/etc/hosts" && echo same || echo other)" \
		"resolv.conf $(guest cmp -s /etc/resolv.conf "$root/etc/resolv.conf" && echo same || echo other)"
}

row hosts-loopback "hosts has the node's name on the loopback line, 127.0.0.1 localhost node1" \
	'In the guest that name would mean the guest itself.'
row-hosts-loopback() {
	admin_tree
	echo "127.0.0.1 localhost $(uname -n)" >/etc/hosts
	create
	outcome "the node's name is $(guest grep -qw -- "$(uname -n)" "$root/etc/hosts" && echo there || echo 'not there')" \
		"localhost is $(guest grep -qw localhost "$root/etc/hosts" && echo there || echo 'not there')"
}

row hosts-empty 'hosts is an empty file on the node' \
	'A guest has localhost.'
row-hosts-empty() {
	admin_tree
	: >/etc/hosts
	create
	outcome "localhost is $(guest grep -qw localhost "$root/etc/hosts" && echo there || echo 'not there')"
}

row interfaces '/etc/network/interfaces'
row-interfaces() {
	admin_tree
	create
	outcome "$(guest grep -v '^#' "$root/etc/network/interfaces" | grep . | paste -sd, | sed 's/,/, /g')"
}

row interfaces-nic '/etc/network/interfaces, when the guest has ifupdown and Ganeti knows an address' \
	'The guest is on the network that Ganeti knows of; NETWORK=none leaves lo alone.'
row-interfaces-nic() {
	tree_with usr/sbin/ifup ''
	create
	outcome "$(guest grep -v '^#' "$root/etc/network/interfaces" | grep . | sed 's/^ *//' | paste -sd, | sed 's/,/, /g')"
}

row interfaces-eth0 'a hook configures eth0, and the guest has an udev that would call it ens3' \
	'What a hook configures must be there; net.ifnames=0, a rule or a .link file of the hook has its say.'
row-interfaces-eth0() {
	tree_with usr/lib/systemd/systemd-udevd ''
	hook network <<<'#!/bin/sh
printf "auto eth0\niface eth0 inet dhcp\n" >>"$TARGET/etc/network/interfaces"'
	create
	outcome "$(guest grep -rhE '"aa:00:00:12:34:56".* NAME="eth0"$' "$root/etc/udev/rules.d" | grep -q . && echo 'a rule names NIC 0 so' || echo 'nothing names it so')"
}

row root-password "root's password"
row-root-password() {
	admin_tree
	create
	outcome "$(guest grep -q '^root::' "$root/etc/shadow" && echo none || echo 'set or locked')"
}

row root-password-locked 'ROOT_PASSWORD=locked in the settings file' \
	'The shell provider has no such setting: a hook had to do it.'
row-root-password-locked() {
	admin_tree
	settings ROOT_PASSWORD=locked
	create
	outcome "$(guest grep -q '^root::' "$root/etc/shadow" && echo none || echo 'set or locked')"
}

row sources "the guest's sources, of a tree that the admin made"
row-sources() {
	tree_with etc/apt/sources.list 'deb http://site.example/debian trixie main'
	create
	outcome "$(guest cat "$root/etc/apt/sources.list")"
}

row host-keys 'ssh host keys that lie in the tree' \
	'All instances of one cache had the same: each gets its own, where it has an ssh server.'
row-host-keys() {
	tree_with etc/ssh/ssh_host_ed25519_key 'a key'
	create
	outcome "$(guest test -e "$root/etc/ssh/ssh_host_ed25519_key" && echo 'those of the tree' || echo none)"
}

row machine-id '/etc/machine-id, when the tree has one' \
	'All instances of one cache had the same: the first boot makes it.'
row-machine-id() {
	tree_with etc/machine-id 0123456789abcdef0123456789abcdef
	create
	outcome "$(guest test -s "$root/etc/machine-id" && echo 'that of the tree' || echo empty)"
}

row console-kvm 'the serial console, kvm with serial_console=True, sysvinit guest' \
	'As the example in Debian'"'"'s own inittab: no modem (-L), and a known terminal.'
row-console-kvm() {
	tree_with etc/inittab 'id:2:initdefault:'
	give INSTANCE_HV_serial_console=True
	create
	outcome "$(guest grep -o 'respawn.*' "$root/etc/inittab")"
}

row console-off 'the serial console, kvm with serial_console=False, sysvinit guest'
row-console-off() {
	tree_with etc/inittab 'id:2:initdefault:'
	create
	outcome "$(guest grep -c getty "$root/etc/inittab") getty"
}

row console-xen 'the serial console, xen-pvm, sysvinit guest' \
	'The same.'
row-console-xen() {
	tree_with etc/inittab 'id:2:initdefault:'
	give HYPERVISOR=xen-pvm
	create
	outcome "$(guest grep -o 'respawn.*' "$root/etc/inittab")"
}

row console-upstart 'the serial console, kvm, upstart guest' \
	'The same.'
row-console-upstart() {
	tree_with etc/init/rc.conf '# upstart'
	give INSTANCE_HV_serial_console=True
	create
	outcome "$(guest grep -o 'getty.*' "$root/etc/init/ttyS0.conf")"
}

row resolv-dangling 'resolv.conf is a dangling link in the tree (systemd-resolved)' \
	'The link is kept: hooks get a working file meanwhile.'
row-resolv-dangling() {
	tree_with_link etc/resolv.conf ../run/systemd/resolve/stub-resolv.conf
	create
	outcome "$(left)"
}

row link-to-node 'hostname is a link to a file of the node, /run/precious, in the tree' \
	"A guest's tree must not reach the node's files."
row-link-to-node() {
	echo "the node's" >/run/precious
	tree_with_link etc/hostname /run/precious
	create
	outcome "the node's file is $(grep -q node /run/precious && echo untouched || echo overwritten)"
}

# tree_with FILE TEXT: the small tree with one more file.
tree_with() {
	mkdir -p "/srv/more/$(dirname "$1")"
	echo "$2" >"/srv/more/$1"
	admin_tree
	tar -rf "$admin_tar" -C /srv/more "./$1"
}

# tree_with_link FILE TARGET: the same with a symbolic link.
tree_with_link() {
	mkdir -p "/srv/more/$(dirname "$1")"
	ln -s "$2" "/srv/more/$1"
	admin_tree
	tar --delete -f "$admin_tar" "./$1"
	tar -rf "$admin_tar" -C /srv/more "./$1"
}
