package hooks

import (
	"maps"
	"slices"
	"strings"
)

// Environ builds the environment of hooks: base, as NAME=value, then what the
// settings files exported, then over, where a later value of a name replaces an
// earlier one. So neither a variable received nor a settings file can move, say,
// DISK_0_PATH away from what the caller puts in over. The result is sorted; what
// has no "=" or no name is dropped.
func Environ(base []string, over map[string]string, exported []string) []string {
	values := map[string]string{}
	for _, entry := range slices.Concat(base, exported) {
		if name, value, ok := strings.Cut(entry, "="); ok && name != "" {
			values[name] = value
		}
	}
	maps.Copy(values, over)
	env := make([]string, 0, len(values))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		env = append(env, name+"="+values[name])
	}
	return env
}
