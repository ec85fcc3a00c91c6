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

// Examine returns what is known of an entry, for its path, and changes nothing: of an
// admin's own tar by its headers, of a keyed one by its sidecar; nil is nothing yet. An
// admin's tar that can't be used, and a file that can't be trusted, are errors; a keyed
// one that is damaged is built anew. Its File is nil.
func (s Store) Examine(ctx context.Context, path string) (*Entry, error) {
	if err := s.checkFile(ctx, path); err != nil {
		return nil, err
	}
	n := s.namesOf(filepath.Base(path))
	e := &Entry{Path: path, Key: n.key, Source: SourceAdmin}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if n.key != "" {
		st, err := f.Stat()
		m, merr := readSidecar(n.sidecar)
		if err != nil || merr != nil || !m.identical(st) {
			return nil, err
		}
		e.Source, e.ContentBytes, e.Inodes, e.Made = SourceHit, m.ContentBytes, m.Inodes, m.Made
		return e, nil
	}
	found, err := scanFile(ctx, f)
	if err != nil {
		return nil, adminFault(path, err)
	}
	e.ContentBytes, e.Inodes, e.HasKernel, e.HasEtc = found.contentBytes, found.inodes, found.kernel, found.etc
	return e, nil
}
