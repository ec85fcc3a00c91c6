package guest

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"slices"
	"strings"
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

// maxStatus bounds dpkg's list in bytes; one of 3000 packages has 3 MiB.
const maxStatus = 64 << 20

// ReadPackages reads dpkg's list of what is installed, the fields Package, Status
// (whose third word must be "installed"), Version and Architecture of each of its
// paragraphs. A guest without one has no packages.
func ReadPackages(r *Root) (Packages, error) {
	text, err := r.ReadFile("/var/lib/dpkg/status", maxStatus)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return Packages{}, err
	}
	return countPackages(text), nil
}

func countPackages(text []byte) Packages {
	var lines []string
	for paragraph := range bytes.SplitSeq(text, []byte("\n\n")) {
		fields := map[string]string{}
		for line := range strings.Lines(string(paragraph)) {
			name, value, _ := strings.Cut(line, ":")
			switch name {
			case "Package", "Status", "Version", "Architecture":
				fields[name] = strings.TrimSpace(value)
			}
		}
		if state := strings.Fields(fields["Status"]); len(state) == 3 && state[2] == "installed" {
			lines = append(lines, fields["Package"]+" "+fields["Version"]+" "+fields["Architecture"]+"\n")
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "")))
	return Packages{Count: len(lines), SHA256: hex.EncodeToString(sum[:])}
}
