package install

import (
	"cmp"
	"context"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"instance-debootstrap/pkg/metrics"
	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/session"
	"instance-debootstrap/pkg/tell"
)

// Measured is what METRICS_DIR is told of a create.
type Measured struct {
	variant string
	begun   time.Time
	written int64 // bytes that this process, and its children that ended, had written by then; -1 is not known
	touched bool  // a step ended well
	steps   []metrics.Sample
}

// What takes a variant's place as the label of the figures. No variant's name begins with a dot:
// see osapi.
const (
	NoVariant = ".none"
	OfVM      = ".vm"
)

// Measure begins, and from now on notes how long the session's steps take. The variant is the
// label of the figures; "" is NoVariant.
func Measure(s *session.Session, variant string) *Measured {
	m := &Measured{variant: cmp.Or(variant, NoVariant), begun: time.Now(), written: writtenBytes()}
	observe := s.Observe
	s.Observe = func(ev session.Event) {
		if ev.Done && ev.Skipped == "" {
			m.add(ev)
			m.touched = m.touched || ev.Err == nil
		}
		if observe != nil {
			observe(ev)
		}
	}
	return m
}

// add notes a step. One that is a part of another of its name is in that: of one name, the
// longest counts, since a metric may be in a file once.
func (m *Measured) add(ev session.Event) {
	labels, seconds := []metrics.Label{{Name: "variant", Value: m.variant}, {Name: "step", Value: ev.Step}}, ev.Elapsed.Seconds()
	for i := range m.steps {
		if slices.Equal(m.steps[i].Labels, labels) {
			m.steps[i].Value = max(m.steps[i].Value, seconds)
			return
		}
	}
	m.steps = append(m.steps, metrics.Sample{Labels: labels, Value: seconds})
}

// cachedSources are the sources of a tree, as the receipt has them, that need no bootstrap.
var cachedSources = []string{"hit", "edited", "admin", "fallback"}

// Write tells it to the folder dir; "" is none. That it can't be told is no failure of the
// create.
func (m *Measured) Write(ctx context.Context, dir string, report Report, failure error) {
	if dir == "" {
		return
	}
	variant := metrics.Label{Name: "variant", Value: m.variant}
	count := func(result string, n float64) metrics.Sample {
		return metrics.Sample{Labels: []metrics.Label{variant, {Name: "result", Value: result}}, Value: n}
	}
	well, refused := oneIf(failure == nil), m.isRefusal(ctx, failure)
	name := "instance-debootstrap-create-" + url.PathEscape(variant.Value)
	families := []metrics.Family{
		{Name: "creates_total", Help: "Creates that have ended on this node.", Counter: true, Samples: []metrics.Sample{
			count("success", well), count("failure", oneIf(failure != nil && !refused)), count("refused", oneIf(refused)),
		}},
	}
	if refused { // the last create is the one before
		if err := metrics.Count(dir, paths.LockDir, name, families); err != nil {
			tell.Warn(ctx, notCounted, err)
		}
		return
	}
	families = append(families,
		metrics.Gauge("last_create_success", "Whether the last create of the variant ended without an error.", well, variant),
		metrics.Gauge("last_create_end_timestamp_seconds", "When the last create of the variant ended.", metrics.Seconds(time.Now()), variant),
		metrics.Gauge("last_create_duration_seconds", "How long the last create of the variant took.", time.Since(m.begun).Seconds(), variant),
		metrics.Family{Name: "last_create_step_duration_seconds", Help: "How long each step of the last create of the variant took.", Samples: m.steps},
	)
	if now := writtenBytes(); m.written >= 0 && now >= m.written {
		families = append(families, metrics.Gauge("last_create_written_bytes", "What the last create of the variant had written, to the guest's disk and all else.", float64(now-m.written), variant))
	}
	if failure == nil {
		families = append(families,
			metrics.Gauge("last_create_tree_cached", "Whether the last create of the variant found its tree in the cache.", oneIf(slices.Contains(cachedSources, report.Receipt.Tree.Source)), variant),
			metrics.Gauge("last_create_disk_size_bytes", "The size of the disk that the last create of the variant made.", float64(report.Receipt.Disk.SizeBytes), variant))
	}
	if err := metrics.Write(dir, paths.LockDir, name, families); err != nil {
		tell.Warn(ctx, notCounted, err)
	}
}

const notCounted = "%v: the create isn't counted"

// isRefusal tells whether a create ended before it had touched anything, for what was asked
// for or what is on the disk: its first step takes the disk.
func (m *Measured) isRefusal(ctx context.Context, failure error) bool {
	return failure != nil && !m.touched && context.Cause(ctx) == nil
}

func oneIf(is bool) float64 {
	if is {
		return 1
	}
	return 0
}

// writtenBytes is what the kernel counts (proc_pid_io(5)).
func writtenBytes() int64 {
	text, _ := os.ReadFile("/proc/self/io")
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "write_bytes: "); ok {
			if n, err := strconv.ParseInt(strings.TrimSpace(value), 10, 64); err == nil {
				return n
			}
		}
	}
	return -1
}
