package guest

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// unitFolders are where a package's or an admin's units are, in systemd's order.
var unitFolders = []string{"/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/"}

// EnableUnit does what `systemctl enable UNIT` does: it makes the links that the
// unit's [Install] section asks for (systemd.unit(5): WantedBy=, Alias=, and Also=
// in turn). A unit that doesn't exist is an error, but one of Also= is not.
func EnableUnit(r *Root, unit string) error { return enable(r, unit, map[string]bool{}) }

func enable(r *Root, unit string, done map[string]bool) error {
	done[unit] = true
	var path string
	for _, dir := range unitFolders {
		if r.Exists(dir + unit) {
			path = dir + unit
			break
		}
	}
	if path == "" {
		return fmt.Errorf("enable %s in the guest: %w", unit, fs.ErrNotExist)
	}
	text, err := r.ReadFile(path, maxConfig)
	if err != nil {
		return err
	}
	install := installSection(string(text))
	var links []string
	for _, target := range install["WantedBy"] {
		links = append(links, target+".wants/"+unit)
	}
	for _, link := range append(links, install["Alias"]...) {
		link = "/etc/systemd/system/" + link
		if err := r.MkdirAll(link[:strings.LastIndexByte(link, '/')], 0o755); err != nil {
			return err
		}
		if err := r.Symlink(path, link); err != nil {
			return err
		}
	}
	for _, also := range install["Also"] {
		if done[also] {
			continue
		}
		if err := enable(r, also, done); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	return nil
}

// installSection returns the words of each key of a unit's [Install] section.
func installSection(text string) map[string][]string {
	keys, inside := map[string][]string{}, false
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "[") {
			inside = line == "[Install]"
		}
		if key, value, ok := strings.Cut(line, "="); ok && inside && line[0] != '#' && line[0] != ';' {
			key = strings.TrimSpace(key)
			keys[key] = append(keys[key], strings.Fields(value)...)
		}
	}
	return keys
}
