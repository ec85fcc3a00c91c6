package dpkg

import (
	"fmt"

	"pault.ag/go/debian/version"
)

// Older tells whether version a comes before b (deb-version(7)).
func Older(a, b string) (bool, error) {
	var parsed [2]version.Version
	for i, text := range []string{a, b} {
		v, err := version.Parse(text)
		if err != nil {
			return false, fmt.Errorf("%q is no version of a package: %w", text, err)
		}
		parsed[i] = v
	}
	return version.Compare(parsed[0], parsed[1]) < 0, nil
}
