package cache

import (
	"os"
)

// Peek returns the path of the tar that Get would use for the inputs, or "" when
// it would build one. It reads names only and changes nothing.
func (s Store) Peek(in Inputs) string {
	n, err := s.names(in)
	if err != nil {
		return ""
	}
	if s.adminWins(n) {
		return n.admin
	}
	if st, err := os.Stat(n.tar); err == nil && st.Mode().IsRegular() {
		return n.tar
	}
	return ""
}
