package guest

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"

	"instance-debootstrap/pkg/dpkg"
)

// Packages stands for the packages that a guest has.
type Packages struct {
	Count int `json:"count"`
	// SHA256 is the digest, in hex, of a line "PACKAGE VERSION ARCHITECTURE" for
	// each, in byte order. dpkg-query(1) gives the same:
	//
	//	dpkg-query -W -f '${db:Status-Status} ${Package} ${Version} ${Architecture}\n' |
	//		sed -n 's/^installed //p' | LC_ALL=C sort | sha256sum
	SHA256 string `json:"sha256"`
}

// ReadPackages reads dpkg's list of what is installed. A guest without one has no packages.
func ReadPackages(r *Root) ([]dpkg.Package, error) {
	text, err := r.ReadFile(dpkg.StatusFile, dpkg.MaxStatus)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	return dpkg.Parse(text)
}

// Count is what a receipt says of packages.
func Count(list []dpkg.Package) Packages {
	sum := sha256.Sum256([]byte(dpkg.Lines(list)))
	return Packages{Count: len(list), SHA256: hex.EncodeToString(sum[:])}
}
