package guest

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/pattern"
)

const (
	sshFolder      = "/root/.ssh"
	authorizedKeys = sshFolder + "/authorized_keys"
)

// AddAuthorizedKeys lets the owners of the keys, lines as in authorized_keys
// (sshd(8)), log in as root. Lines that are there stay, none is added twice. File
// and folder become root's alone, as sshd(8) wants them.
func AddAuthorizedKeys(r *Root, keys string) error {
	old, err := r.ReadFile(authorizedKeys, maxConfig)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if err := errors.Join(r.MkdirAll("/root", 0o700), r.MkdirAll(sshFolder, 0o700), r.own(sshFolder, 0o700)); err != nil {
		return err
	}
	return r.WriteFile(authorizedKeys, []byte(addLines(string(old), keys)), 0o600, Reset, Follow)
}

// addLines appends the lines that a text doesn't have yet, but for blank ones.
func addLines(text, lines string) string {
	has := map[string]bool{"": true}
	for line := range strings.Lines(text) {
		has[strings.TrimSpace(line)] = true
	}
	if text != "" && !strings.HasSuffix(text, "\n") {
		text += "\n"
	}
	for line := range strings.Lines(lines) {
		if line = strings.TrimSpace(line); !has[line] {
			has[line] = true
			text += line + "\n"
		}
	}
	return text
}

// own makes an existing folder root's, with exactly mode's permission bits.
func (r *Root) own(name string, mode fs.FileMode) error {
	fd, err := r.open(name, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return fail("open folder", name, err)
	}
	defer unix.Close(fd)
	if err := errors.Join(unix.Fchown(fd, 0, 0), unix.Fchmod(fd, uint32(mode.Perm()))); err != nil {
		return fail("own folder", name, err)
	}
	return nil
}

// HostKey is by what an ssh server is known.
type HostKey struct {
	Type        string `json:"type"`        // ssh-ed25519, ecdsa-sha2-nistp256, …
	Fingerprint string `json:"fingerprint"` // SHA256:…, as ssh-keygen -l prints it
	SSHFP       string `json:"sshfp"`       // the data of a DNS record: algorithm, 2 (SHA-256), hex digits
	Public      string `json:"-"`           // "TYPE BASE64", as known_hosts has it
}

// sshfpAlgorithms are the numbers of RFC 4255 (RSA, DSA), 6594 (ECDSA), 7479
// (Ed25519) and 8709 (Ed448).
var sshfpAlgorithms = map[string]int{
	"ssh-rsa": 1, "ssh-dss": 2, "ecdsa-sha2-nistp256": 3, "ecdsa-sha2-nistp384": 3, "ecdsa-sha2-nistp521": 3, "ssh-ed25519": 4, "ssh-ed448": 6,
}

// Bounds on a guest's host keys.
const (
	maxHostKeys    = 16
	maxHostKeyFile = 16 << 10
)

// ReadHostKeys returns the host keys in /etc/ssh that have both of their files, in
// the order of their names. Types for which DNS has no number are left out.
func ReadHostKeys(r *Root) (keys []HostKey, err error) {
	const dir = "/etc/ssh"
	names, err := r.Glob(dir, "ssh_host_*_key.pub")
	if err != nil {
		return nil, err
	}
	if len(names) > maxHostKeys {
		return nil, fmt.Errorf("%s in the guest: %d host keys, more than %d", dir, len(names), maxHostKeys)
	}
	for _, name := range names {
		if !r.Exists(dir + "/" + strings.TrimSuffix(name, ".pub")) {
			continue
		}
		text, err := r.ReadFile(dir+"/"+name, maxHostKeyFile)
		if err != nil {
			return nil, err
		}
		key, err := parseHostKey(string(text))
		if err != nil {
			return nil, fail("read", dir+"/"+name, err)
		}
		if key.SSHFP != "" {
			keys = append(keys, key)
		}
	}
	return keys, nil
}

// parseHostKey reads a line "TYPE BASE64 COMMENT"; what is encoded begins with the
// type again, as a string with its length before it (RFC 4253, 6.6).
func parseHostKey(line string) (HostKey, error) {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return HostKey{}, errors.New("not a public key")
	}
	blob, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		return HostKey{}, fmt.Errorf("not a public key: %w", err)
	}
	name := fields[0]
	if len(blob) < 4 || int64(binary.BigEndian.Uint32(blob)) != int64(len(name)) || !strings.HasPrefix(string(blob[4:]), name) {
		return HostKey{}, fmt.Errorf("not a public key of the type %s", pattern.Quote(name))
	}
	number, known := sshfpAlgorithms[name]
	if !known {
		return HostKey{}, nil
	}
	sum := sha256.Sum256(blob)
	return HostKey{
		Type:        name,
		Public:      name + " " + fields[1],
		Fingerprint: "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:]),
		SSHFP:       fmt.Sprintf("%d 2 %s", number, hex.EncodeToString(sum[:])),
	}, nil
}
