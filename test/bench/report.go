package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"instance-debootstrap/test/manual"
)

// The figures stand between these lines of docs/performance.md.
const (
	beginMark = "<!-- figures: written by make bench -->\n"
	endMark   = "<!-- end of the figures -->\n"
)

// writeDoc writes the figures into the document: all of them, or the lines of the
// rows that were asked for.
func (b *bench) writeDoc() error {
	old, err := os.ReadFile(b.doc)
	if err != nil {
		return err
	}
	var figures bytes.Buffer
	b.figures(&figures)
	var text []byte
	if b.named != "" {
		text = merge(old, figures.Bytes())
	} else if text, err = between(old, figures.Bytes()); err != nil {
		return fmt.Errorf("%s: %w", b.doc, err)
	}
	return os.WriteFile(b.doc, []byte(wrapped(string(text))), 0o644)
}

// wrapped has what is said of the measurement in lines of 100 letters, as the page is.
func wrapped(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "Measured on ") || strings.HasPrefix(line, "Some rows anew: ") || strings.HasPrefix(line, "Rows that failed, ") {
			line = strings.Join(manual.Wrap(line, 100), "\n") + "\n"
		}
		out.WriteString(line)
	}
	return out.String()
}

// merge puts the lines of some rows' tables in the place of those that have the same
// first cell in the same table, and what is said of the measurement behind what was
// said of the earlier one.
func merge(text, figures []byte) []byte {
	const measured = "Measured on "
	lines, said := map[string]string{}, ""
	eachLine(string(figures), func(key, line string) {
		if strings.HasPrefix(line, measured) {
			said = "Some rows anew: m" + line[1:]
		}
		lines[key] = line
	})
	var out strings.Builder
	inMeasured := false
	eachLine(string(text), func(key, line string) {
		if anew := lines[key]; anew != "" && strings.HasPrefix(line, "| ") {
			line = anew
		}
		if inMeasured && line == "\n" {
			out.WriteString("\n" + said)
			inMeasured = false
		}
		inMeasured = inMeasured || strings.HasPrefix(line, measured)
		out.WriteString(line)
	})
	return []byte(out.String())
}

// eachLine calls do with each line and, as its key, the heading above it and the
// line's first cell.
func eachLine(text string, do func(key, line string)) {
	title := ""
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, "#") {
			title = line
		}
		cell, _, _ := strings.Cut(strings.TrimPrefix(line, "| "), " |")
		do(title+cell, line)
	}
}

// between puts figures in the place of those in text.
func between(text, figures []byte) ([]byte, error) {
	before, rest, ok := bytes.Cut(text, []byte(beginMark))
	_, after, ok2 := bytes.Cut(rest, []byte(endMark))
	if !ok || !ok2 {
		return nil, errors.New("the lines are missing that the figures stand between")
	}
	return bytes.Join([][]byte{before, []byte(beginMark), figures, []byte(endMark), after}, nil), nil
}

func (b *bench) figures(out io.Writer) {
	fmt.Fprintf(out, "\nMeasured on %s by `make bench` (%sBENCH_RUNS=%d BENCH_DISK=%d): %s; %s, with %s on %d GiB disks, PARTITION_STYLE=%s unless the row needs another.\n",
		time.Now().Format("2006-01-02"), b.named, b.runs, b.diskGiB, b.machine(), b.versions(), b.suite, b.diskGiB, b.style)
	if len(b.failed) > 0 {
		fmt.Fprintf(out, "\nRows that failed, and have no figures or guests that differ: %s.\n", strings.Join(b.failed, ", "))
	}
	b.comparison(out)
	b.costs(out)
	for _, t := range b.steps {
		b.stepsTable(out, t)
	}
	b.growthTable(out, "trees", "How it grows with the tree", "tree")
	b.growthTable(out, "disks", "How it grows with the disk", "disk")
	b.growthTable(out, "concurrency", "Several at once, until the last is durable", "creates")
}

// table writes a table of Markdown.
func table(out io.Writer, title string, head []string, rows [][]string) {
	if len(rows) == 0 { // of rows that were not asked for
		return
	}
	fmt.Fprintf(out, "\n### %s\n\n| %s |\n|%s\n", title, strings.Join(head, " | "), strings.Repeat("---|", len(head)))
	for _, r := range rows {
		fmt.Fprintf(out, "| %s |\n", strings.Join(r, " | "))
	}
}

// isGrowth tells the rows that have tables of their own.
func isGrowth(name string) bool { return name == "trees" || name == "disks" || name == "concurrency" }

func (b *bench) comparison(out io.Writer) {
	var rows [][]string
	for _, r := range b.results {
		if isGrowth(r.name) {
			continue
		}
		shell, limit := r.side("shell"), r.side("limit")
		for _, s := range r.sides {
			if !strings.HasPrefix(s.Name, "ours") {
				continue
			}
			text := r.text + strings.TrimPrefix(s.Name, "ours")
			line := []string{text, "–", seconds(s.Wall), "–", r.goal, "–", "–"}
			if shell != nil {
				line[1], line[3] = seconds(shell.Wall), ratio(s.Wall, shell.Wall)
			}
			if limit != nil {
				line[5], line[6] = seconds(limit.Wall), ratio(s.Wall, limit.Wall)
			}
			rows = append(rows, line)
		}
	}
	table(out, "Wall time, durable at the end (medians)", []string{"operation", "shell", "ours", "ours / shell", "goal", "disk's limit", "ours / limit"}, rows)
}

func (b *bench) costs(out io.Writer) {
	var rows [][]string
	for _, r := range b.results {
		if isGrowth(r.name) {
			continue
		}
		shell := r.side("shell")
		if shell == nil {
			shell = &side{}
		}
		for _, s := range r.sides {
			if !strings.HasPrefix(s.Name, "ours") {
				continue
			}
			rows = append(rows, []string{r.text + strings.TrimPrefix(s.Name, "ours"), seconds(shell.CPU), seconds(s.CPU), ratio(s.CPU, shell.CPU), seconds(s.OwnCPU),
				megabytes(shell.Written), megabytes(s.Written), peaks(*shell), peaks(s)})
		}
	}
	table(out, "CPU time, bytes written, and the most memory of one process",
		[]string{"operation", "CPU, shell", "CPU, ours", "ours / shell", "of it our own process", "MB written, shell", "MB written, ours", "peak, shell: own (largest tool)", "peak, ours: own (largest tool)"}, rows)
}

func megabytes(n int64) string { return fmt.Sprint((n + 5e5) / 1e6) }

func (b *bench) stepsTable(out io.Writer, t stepTable) {
	var rows [][]string
	for i, name := range t.names {
		rows = append(rows, []string{name, seconds(t.times[i])})
	}
	table(out, "Where the time goes: "+t.text, []string{"step", "time"}, rows)
}

func (b *bench) growthTable(out io.Writer, name, title, what string) {
	var rows [][]string
	for _, r := range b.results {
		if r.name != name || r.side("shell") == nil || r.side("ours") == nil {
			continue
		}
		shell, ours, limit := r.side("shell"), r.side("ours"), r.side("limit")
		line := []string{r.text, seconds(shell.Wall), seconds(ours.Wall), ratio(ours.Wall, shell.Wall), seconds(shell.CPU), seconds(ours.CPU), megabytes(ours.Written), "–"}
		if limit != nil {
			line[7] = seconds(limit.Wall)
		}
		rows = append(rows, line)
	}
	table(out, title, []string{what, "shell", "ours", "ours / shell", "CPU, shell", "CPU, ours", "MB written, ours", "disk's limit"}, rows)
}
