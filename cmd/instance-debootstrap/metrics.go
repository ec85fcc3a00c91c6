package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"time"

	"github.com/urfave/cli/v2"

	"instance-debootstrap/pkg/cache"
	"instance-debootstrap/pkg/doctor"
	"instance-debootstrap/pkg/metrics"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
)

func (p *program) metricsCommand() *cli.Command {
	return &cli.Command{
		Name:  "metrics",
		Usage: "write figures of the cache, and doctor's findings, for Prometheus",
		Description: "Writes instance-debootstrap-node.prom into METRICS_DIR, where node_exporter's textfile\n" +
			"collector reads it. Each create writes a file of its variant there. Have cron or a timer call\n" +
			"this. The exit status is 0 also when there are faults.",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "print", Usage: "print them instead"}},
		Action: func(c *cli.Context) error {
			return p.sandboxed(c.Context, func(ctx context.Context, s *session.Session) error { return p.metrics(ctx, s, c.Bool("print")) })
		},
	}
}

func (p *program) metrics(ctx context.Context, s *session.Session, print bool) error {
	candidates, err := p.doctorCandidates(ctx, s)
	if err != nil {
		return err
	}
	dir := ""
	for _, c := range candidates {
		if c.Order != nil && dir == "" {
			dir = c.Order.Settings.MetricsDir
		}
	}
	if dir == "" && !print {
		return errors.New("METRICS_DIR isn't set, or the settings can't be read (doctor says): set it to the folder of node_exporter's textfile collector, or give --print")
	}
	families := append(doctorFigures(doctor.Diagnose(ctx, s, candidates)), cacheFigures(candidates)...)
	if print {
		_, err := io.WriteString(p.stdout(), metrics.Text(families))
		return err
	}
	return metrics.Write(dir, paths.LockDir, "instance-debootstrap-node", families)
}

// doctorFigures are how many findings there are, of each subject; all that is well is none.
func doctorFigures(findings []doctor.Finding) []metrics.Family {
	type key struct{ subject, state string }
	counts, order := map[key]int{}, []key(nil)
	for _, f := range findings {
		for _, state := range []string{doctor.Fault, doctor.Warning} {
			k := key{f.Subject, state}
			if _, seen := counts[k]; !seen {
				order = append(order, k)
			}
			if counts[k] += 0; f.State == state {
				counts[k]++
			}
		}
	}
	found := metrics.Family{Name: "doctor_findings", Help: "What doctor finds on this node. A fault keeps a create from doing its work."}
	for _, k := range order {
		found.Samples = append(found.Samples, metrics.Sample{Labels: []metrics.Label{{Name: "subject", Value: k.subject}, {Name: "state", Value: k.state}}, Value: float64(counts[k])})
	}
	return []metrics.Family{
		metrics.Gauge("info", "The program that is installed.", 1, metrics.Label{Name: "version", Value: paths.Version}),
		metrics.Gauge("doctor_timestamp_seconds", "When doctor last looked.", metrics.Seconds(time.Now())),
		found,
	}
}

// cacheFigures are those of the cache folders of all variants, which are one as a rule.
func cacheFigures(candidates []doctor.Candidate) []metrics.Family {
	size := metrics.Family{Name: "cache_size_bytes", Help: "What the cache takes on the disk."}
	trees := metrics.Family{Name: "cache_trees", Help: "How many trees are cached."}
	expired := metrics.Family{Name: "cache_expired_trees", Help: "How many trees are past their age."}
	oldest := metrics.Family{Name: "cache_oldest_tree_timestamp_seconds", Help: "When the oldest cached tree was built."}
	seen := map[string]bool{}
	for _, c := range candidates {
		if c.Order == nil || seen[c.Order.Settings.CacheDir] {
			continue
		}
		store := c.Order.Store()
		seen[store.Dir] = true
		list, err := store.List()
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			continue // doctor has told of it
		}
		dir := metrics.Label{Name: "dir", Value: store.Dir}
		var tars, images, count, old float64
		first := time.Time{}
		for _, l := range list {
			tars, images = tars+float64(l.SizeBytes), images+float64(l.ImageBytes)
			if l.State == cache.StateAside { // damaged: it only takes room
				continue
			}
			if count++; l.Expired {
				old++
			}
			if first.IsZero() || l.ModTime.Before(first) {
				first = l.ModTime
			}
		}
		_, packages := store.Kept()
		for _, of := range []struct {
			kind  string
			bytes float64
		}{{"trees", tars}, {"images", images}, {"packages", float64(packages)}} {
			size.Samples = append(size.Samples, metrics.Sample{Labels: []metrics.Label{dir, {Name: "kind", Value: of.kind}}, Value: of.bytes})
		}
		trees.Samples = append(trees.Samples, metrics.Sample{Labels: []metrics.Label{dir}, Value: count})
		expired.Samples = append(expired.Samples, metrics.Sample{Labels: []metrics.Label{dir}, Value: old})
		if !first.IsZero() {
			oldest.Samples = append(oldest.Samples, metrics.Sample{Labels: []metrics.Label{dir}, Value: metrics.Seconds(first)})
		}
	}
	return []metrics.Family{size, trees, expired, oldest}
}
