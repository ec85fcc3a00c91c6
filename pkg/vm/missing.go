package vm

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"instance-debootstrap/pkg/libvirt"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/tell"
)

// What is left of a guest that libvirt doesn't have by its name: the domain has another
// name now, or it is gone (virsh undefine), with all that was noted down of its volumes.

// isMissing says that there is no guest of a name, and what became of it.
func isMissing(ctx context.Context, virsh libvirt.Virsh, name string) error {
	domains, err := otherDomains(ctx, virsh, "")
	if err != nil {
		return err
	}
	for _, d := range domains {
		if wasMadeAs(d, name) {
			return fmt.Errorf("libvirt has no guest %s: the guest %s was made as %s, and renamed", name, d.Name, name)
		}
	}
	left, err := leftBy(ctx, virsh, func(guest string) bool { return guest == name })
	if err != nil {
		return err
	}
	if commands := left[name]; len(commands) > 0 {
		return fmt.Errorf("libvirt has no guest %s, but volumes that are named after it, and that no domain has: if it was undefined, and they are of no use: %s", name, strings.Join(commands, "; "))
	}
	return fmt.Errorf("libvirt has no guest %s (vm list shows those that were made here, virsh list --all all)", name)
}

// wasMadeAs tells whether a domain, which may be renamed, is the guest that was made by a
// name.
func wasMadeAs(d libvirt.Domain, name string) bool {
	if d.Metadata == nil || d.Metadata.Guest == nil || d.Log() != consoleLog(name) {
		return false
	}
	of := d.Metadata.Guest.UUID
	return of == "" || of == d.UUID // else it is a copy
}

// TellLeft tells of volumes that guests without a domain have left. Nothing says whether
// they are of use, so that nothing is removed. A guest is known by two volumes that only
// guests of three have, or by its console's log.
func TellLeft(ctx context.Context, virsh libvirt.Virsh) error {
	logs, err := filepath.Glob(consoleLog("*"))
	if err != nil {
		return err
	}
	left, err := leftBy(ctx, virsh, func(guest string) bool { return slices.Contains(logs, consoleLog(guest)) })
	for _, guest := range slices.Sorted(maps.Keys(left)) {
		tell.Warn(ctx, "no domain has the volumes that are named after a guest %s: if it was undefined, and they are of no use: %s", guest, strings.Join(left[guest], "; "))
	}
	return err
}

// volumeName matches a volume's name that may be a guest's: GUEST, GUEST-boot, GUEST-data1.
var volumeName = pattern.New(`^(.+?)(-boot|-root|-swap|-data[0-9]+)?$`)

// leftBy lists by guest the commands that remove the volumes which are named after it, and
// that no domain has. A guest counts that is known, or has a boot volume and a root.
func leftBy(ctx context.Context, virsh libvirt.Virsh, known func(guest string) bool) (commands map[string][]string, err error) {
	type volume struct{ pool, name, path string }
	pools, err := virsh.Pools(ctx)
	if err != nil {
		return nil, err
	}
	domains, err := virsh.Domains(ctx)
	if err != nil {
		return nil, err
	}
	hasDomain := func(guest string) bool {
		return slices.ContainsFunc(domains, func(d libvirt.DomainID) bool { return d.Name == guest })
	}
	volumes, names := map[string][]volume{}, map[string]bool{}
	for _, p := range pools {
		paths, err := virsh.Volumes(ctx, p.Name)
		if err != nil {
			return nil, err
		}
		for _, name := range slices.Sorted(maps.Keys(paths)) {
			if strings.HasPrefix(name, "-") { // an option, in the command that is named
				continue
			}
			names[name] = true
			guest := volumeName().FindStringSubmatch(name)[1]
			volumes[guest] = append(volumes[guest], volume{p.Name, name, paths[name]})
		}
	}
	var paths []string
	maps.DeleteFunc(volumes, func(guest string, list []volume) bool {
		_, err := os.Lstat(pendingPath(guest)) // it is in the making
		goes := hasDomain(guest) || !errors.Is(err, os.ErrNotExist) || !known(guest) && !(names[guest+"-boot"] && names[guest+"-root"])
		if !goes {
			for _, v := range list {
				paths = append(paths, v.path)
			}
		}
		return goes
	})
	if len(paths) == 0 {
		return nil, nil
	}
	users, err := usersOf(ctx, virsh, "", paths)
	if err != nil { // who isn't seen to have a user may have one
		return nil, err
	}
	commands = map[string][]string{}
	for guest, list := range volumes {
		for _, v := range list {
			if users[v.path] == "" {
				commands[guest] = append(commands[guest], "virsh vol-delete --pool "+shellWord(v.pool)+" "+shellWord(v.name))
			}
		}
	}
	return commands, nil
}

// shellWord is a name that anybody may have chosen, for a command to be pasted.
func shellWord(name string) string {
	if plainWord().MatchString(name) {
		return name
	}
	return "'" + strings.ReplaceAll(pattern.Plain(name), "'", `'\''`) + "'"
}

var plainWord = pattern.New(`^[A-Za-z0-9_.,:+@/-]+$`)
