package cache

import (
	"context"
	"os"
	"path/filepath"
)

// Peek returns the path of the tar that Get would use for the inputs, or "" when
// it would build one, as in the place of one that is too old. It changes nothing.
func (s Store) Peek(in Inputs) string {
	n, err := s.names(in)
	if err != nil {
		return ""
	}
	stays := func(path string) bool {
		return s.StaleOK || !s.isOld(path) && !(s.Generate && s.isIncomplete(path))
	}
	if s.adminWins(n) && stays(n.admin) {
		return n.admin
	}
	if st, err := os.Stat(n.tar); err == nil && st.Mode().IsRegular() && stays(n.tar) {
		return n.tar
	}
	return ""
}

// CheckAdmin says why an admin's own tar can't be used: it is compressed, or not
// whole. It reads the headers only. A keyed tar is not looked at: a damaged one is
// built anew.
func (s Store) CheckAdmin(ctx context.Context, path string) error {
	if s.namesOf(filepath.Base(path)).key != "" {
		return nil
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	if _, err = scanFile(ctx, f); err != nil {
		return adminFault(path, err)
	}
	return nil
}
