package main

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// row is one comparison.
type row struct {
	name string
	text string // the operation, for the table
	goal string // what is aimed at, of the shell provider's
	run  func(row) error
}

// contender is one side of a comparison. What before does is not measured.
type contender struct {
	name   string // shell, ours, "limit", or what else there is to compare
	dir    string // the folder whose disk's writes are counted
	before func() error
	op     func() error
}

// side is what a contender came to: medians of its runs, and the largest peaks.
type side struct {
	Name string
	sample
	Fastest, Slowest time.Duration
}

// result is a comparison's outcome.
type result struct {
	row
	sides []side
}

// side returns what a contender came to, nil is none.
func (r result) side(name string) *side {
	for i := range r.sides {
		if r.sides[i].Name == name {
			return &r.sides[i]
		}
	}
	return nil
}

// compete runs the contenders by turns: once to warm up, then runs times.
func (b *bench) compete(r row, runs int, contenders ...contender) error {
	return b.turns(r, 1, runs, contenders)
}

// turns runs the contenders by turns, the first warmUps of them unmeasured.
func (b *bench) turns(r row, warmUps, runs int, contenders []contender) error {
	samples := make([][]sample, len(contenders))
	for turn := range warmUps + runs {
		for i, c := range contenders {
			if c.before != nil {
				if err := c.before(); err != nil {
					return fmt.Errorf("%s: %w", c.name, err)
				}
			}
			s, err := b.measure(c.dir, c.op)
			if err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
			if turn >= warmUps {
				samples[i] = append(samples[i], s)
			}
		}
	}
	res := result{row: r}
	for i, c := range contenders {
		res.sides = append(res.sides, summarise(c.name, samples[i]))
	}
	b.results = append(b.results, res)
	fmt.Print(res)
	return nil
}

func summarise(name string, runs []sample) side {
	var walls, cpus, owns []time.Duration
	var written []int64
	out := side{Name: name}
	for _, s := range runs {
		walls, cpus, owns, written = append(walls, s.Wall), append(cpus, s.CPU), append(owns, s.OwnCPU), append(written, s.Written)
		out.OwnPeakKiB = max(out.OwnPeakKiB, s.OwnPeakKiB)
		if s.PeakKiB > out.PeakKiB {
			out.PeakKiB, out.PeakTool = s.PeakKiB, s.PeakTool
		}
	}
	out.Wall, out.CPU, out.OwnCPU, out.Written = median(walls), median(cpus), median(owns), median(written)
	out.Fastest, out.Slowest = slices.Min(walls), slices.Max(walls)
	return out
}

// String shows a result while the bench runs.
func (r result) String() string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n%s: %s\n", r.name, r.text)
	reference := r.side("shell")
	for _, s := range r.sides {
		fmt.Fprintf(&out, "  %-22s %s (%s to %s), CPU %s, own CPU %s, %d MB written, peak %s", s.Name, seconds(s.Wall), seconds(s.Fastest), seconds(s.Slowest),
			seconds(s.CPU), seconds(s.OwnCPU), s.Written/1e6, peaks(s))
		if reference != nil && s.Name != "shell" {
			fmt.Fprintf(&out, "; of the shell's: wall %s, CPU %s", ratio(s.Wall, reference.Wall), ratio(s.CPU, reference.CPU))
		}
		fmt.Fprintln(&out)
	}
	return out.String()
}

// seconds shows a time with three digits or so.
func seconds(d time.Duration) string {
	switch s := d.Seconds(); {
	case s >= 100:
		return fmt.Sprintf("%.0f s", s)
	case s >= 10:
		return fmt.Sprintf("%.1f s", s)
	case s >= 0.1:
		return fmt.Sprintf("%.2f s", s)
	default:
		return fmt.Sprintf("%.1f ms", s*1000)
	}
}

func ratio(a, b time.Duration) string {
	if b <= 0 {
		return "–"
	}
	return fmt.Sprintf("%.2f", a.Seconds()/b.Seconds())
}

// peaks shows the most memory of a process of the provider's own, and of a tool.
func peaks(s side) string {
	text := "–"
	if s.OwnPeakKiB > 0 {
		text = fmt.Sprintf("%.0f MiB", float64(s.OwnPeakKiB)/1024)
	}
	if s.PeakTool != "" {
		text += fmt.Sprintf(" (%s: %.0f MiB)", s.PeakTool, float64(s.PeakKiB)/1024)
	}
	return text
}
