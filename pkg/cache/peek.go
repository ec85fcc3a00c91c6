package cache

import (
	"context"
	"os"
)

// Peek returns the path of the tar that Get would use for the inputs, or "" when
// it would build one, as in the place of one that is too old. It reads names and
// times only and changes nothing.
func (s Store) Peek(in Inputs) string {
	n, err := s.names(in)
	if err != nil {
		return ""
	}
	stays := func(path string) bool { return s.StaleOK || !s.isOld(path) }
	if s.adminWins(n) && stays(n.admin) {
		return n.admin
	}
	if st, err := os.Stat(n.tar); err == nil && st.Mode().IsRegular() && stays(n.tar) {
		return n.tar
	}
	return ""
}

// CheckTar says why a tar can't be a tree: it is compressed, or not whole. It reads
// the headers only.
func CheckTar(ctx context.Context, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = scanFile(ctx, f)
	return err
}
