package guest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"strings"
)

// SetRootPassword sets the password field of root's line in /etc/shadow
// (shadow(5)) and touches nothing else of it: "" lets root in without a password,
// as `passwd -d root` does, "*" locks it, anything else is a hash of crypt(5).
// Where root has no line there, as in guests without shadow passwords, it is the
// field of /etc/passwd. Owner and mode of the file are kept.
func SetRootPassword(r *Root, field string) error {
	if strings.ContainsAny(field, ":\n") {
		return errors.New("set root's password: a password field can't hold a colon or a line end")
	}
	for _, name := range []string{"/etc/shadow", "/etc/passwd"} {
		old, err := r.ReadFile(name, maxConfig)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		edited, found := setField(old, "root", 1, field)
		if found {
			return r.WriteFile(name, edited, 0o640)
		}
	}
	return errors.New("set root's password: the guest has no line for root in /etc/shadow or /etc/passwd; is it a whole system?")
}

// setField sets the n-th field (from 0) of the first line whose field 0 is key, in
// a file of colon-separated fields. Every other byte stays.
func setField(data []byte, key string, n int, value string) (edited []byte, found bool) {
	var out bytes.Buffer
	for line := range bytes.Lines(data) {
		fields := bytes.Split(line, []byte(":"))
		if !found && string(fields[0]) == key && len(fields) > n+1 {
			found = true
			fields[n] = []byte(value)
			line = bytes.Join(fields, []byte(":"))
		}
		fmt.Fprintf(&out, "%s", line)
	}
	return out.Bytes(), found
}
