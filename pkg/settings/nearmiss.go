package settings

import (
	"fmt"
	"slices"
	"strings"
)

// warnNearMisses warns once of each name that a file sets and that is almost a
// setting's, or one without its OSP_, or an OS parameter's while its setting is left alone.
// Other names are the files' own helpers.
func (l *loader) warnNearMisses() {
	assigned := l.sh.Assigned()
	for _, name := range assigned {
		if s, ok := byParam(name); ok && !isSetting(name) && !slices.Contains(assigned, s.Name) {
			at, _ := l.sh.SetBy(name)
			l.warn(fmt.Sprintf("%s: %s is an OS parameter, which files have as %s", at, name, s.Name))
			continue
		}
		if name == "EXTRAPKGS" || strings.ToUpper(name) != name || isSetting(name) {
			continue
		}
		for _, s := range table {
			if d := distance(name, s.Name); d > 0 && d <= 2 && len(name) > 4 || "OSP_"+name == s.Name {
				at, _ := l.sh.SetBy(name)
				l.warn(fmt.Sprintf("%s: %s is not a setting: did you mean %s?", at, name, s.Name))
				break
			}
		}
	}
}

func isSetting(name string) bool {
	return slices.ContainsFunc(table, func(s Setting) bool { return s.Name == name })
}

// distance is the number of single letters that tell two names apart
// (Levenshtein's distance).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}
