package install

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// A suite that has no kernel or boot loader for the architecture takes a while to say so,
// for each create anew. So that is remembered for its key, for a day and
// until the node's next start.
const failureTime = 24 * time.Hour

// maxFailure bounds, in bytes, the reason that is kept.
const maxFailure = 1000

// failureFile is where the failure of the tree that is wanted now is kept.
func (c Choice) failureFile() string {
	return filepath.Join(paths.LockDir, "failed-"+c.cacheInputs().Key())
}

// knownFailure is why that tree isn't built now; nil is no reason, or there is one in
// the cache.
func (c Choice) knownFailure() error {
	name := c.failureFile()
	st, err := os.Stat(name)
	if err != nil || time.Since(st.ModTime()) > failureTime || c.mustBoot() || c.cached() != "" {
		return nil
	}
	why, err := os.ReadFile(name)
	if err != nil {
		return nil
	}
	return fmt.Errorf("its tree could not be built at %s, and is tried again a day later, or when %s is removed: %s", st.ModTime().Format(time.DateTime), name, why)
}

// rememberFailure keeps why a tree couldn't be built.
func rememberFailure(name string, why error) error {
	text := []byte(why.Error())
	return os.WriteFile(name, text[:min(len(text), maxFailure)], 0o600)
}

// isOutOfReach asks the archives whether what the cached tree lacks may be had now, once
// a day: one that doesn't answer takes its time, and a cluster may never reach it.
func (c Choice) isOutOfReach(ctx context.Context, s *session.Session) bool {
	asked := filepath.Join(paths.LockDir, "asked-"+c.cacheInputs().Key())
	if st, err := os.Stat(asked); err == nil && time.Since(st.ModTime()) < failureTime {
		return true
	}
	spec := c.bootstrapSpec()
	spec.WorkDir = s.WorkDir
	if lacks, err := bootstrap.Lacks(ctx, c.Tool, spec); err == nil && len(lacks) == 0 {
		return false
	}
	if err := os.WriteFile(asked, nil, 0o600); err != nil {
		tell.Warn(ctx, "the next create will ask the archives again: %v", err)
	}
	return true
}
