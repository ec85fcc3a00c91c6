package install

import (
	"context"
	"errors"
	"fmt"

	"instance-debootstrap/pkg/bootstrap"
	"instance-debootstrap/pkg/pattern"
	"instance-debootstrap/pkg/proxy"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// errKeptPackages says that packages which the cache had may be the reason of a failure.
// They aren't there any more.
var errKeptPackages = errors.New("packages that were fetched before are damaged, or others than the archive has now")

// badPackage is how the tools tell of a package that isn't what the archive's list says:
// apt, dpkg-deb. debootstrap fetches such a one again by itself.
var badPackage = pattern.New(`(?i)mismatch|unexpected size|corrupt`)

// fetching has a bootstrap fetch by the cache's packages: those that it has aren't fetched
// again, and what is fetched is kept.
func (c Choice) fetching(ctx context.Context, s *session.Session, bootstrap func(bootstrap.Spec) error) error {
	spec := c.bootstrapSpec()
	spec.WorkDir = s.WorkDir
	if !c.Settings.KeepPackages || !c.Settings.GenerateCache {
		return bootstrap(spec)
	}
	p, err := c.startProxy(ctx)
	if err != nil {
		tell.Warn(ctx, "no packages are taken from the cache, nor kept: %v", err)
		return bootstrap(spec)
	}
	defer c.Store().MakeRoom(ctx)
	defer p.Close()
	spec.HTTPProxy = p.URL
	err = bootstrap(spec)
	if n := p.Counts(); n.Kept+n.Fetched > 0 {
		tell.Info(ctx, "packages and their lists: %d from the cache (%d MiB), %d fetched (%d MiB)", n.Kept, n.KeptBytes>>20, n.Fetched, n.FetchedBytes>>20)
	}
	if err != nil && context.Cause(ctx) == nil && badPackage().MatchString(err.Error()) && p.Distrust() {
		return fmt.Errorf("%w: %w", errKeptPackages, err)
	}
	return err
}

func (c Choice) startProxy(ctx context.Context) (*proxy.Proxy, error) {
	packages, err := c.Store().Packages(ctx)
	if err != nil {
		return nil, err
	}
	return proxy.Start(packages, c.Settings.Proxy)
}
