// Package metrics writes figures for Prometheus, as files that node_exporter's textfile
// collector reads: in Prometheus' text format, and whole whenever anybody looks.
package metrics

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/lock"
)

// Family is one metric, with all its values. A counter's name ends in _total, and what has a
// unit ends in that: _seconds, _bytes.
type Family struct {
	Name, Help string
	Counter    bool
	Samples    []Sample
}

// Sample is a value, of the labels that the family has.
type Sample struct {
	Labels []Label
	Value  float64
}

// Label is one of a sample's.
type Label struct{ Name, Value string }

// prefix is that of all names.
const prefix = "instance_debootstrap_"

// Gauge is a family of one sample.
func Gauge(name, help string, value float64, labels ...Label) Family {
	return Family{Name: name, Help: help, Samples: []Sample{{labels, value}}}
}

// Seconds is a time as a value.
func Seconds(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// Text is the families in Prometheus' text format.
func Text(families []Family) string {
	var b strings.Builder
	for _, f := range families {
		if len(f.Samples) == 0 {
			continue
		}
		kind := "gauge"
		if f.Counter {
			kind = "counter"
		}
		fmt.Fprintf(&b, "# HELP %[1]s%[2]s %[3]s\n# TYPE %[1]s%[2]s %[4]s\n", prefix, f.Name, f.Help, kind)
		for _, s := range f.Samples {
			fmt.Fprintf(&b, "%s %s\n", series(f.Name, s.Labels), strconv.FormatFloat(s.Value, 'f', -1, 64))
		}
	}
	return b.String()
}

var escapes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`)

// series is a sample's name with its labels.
func series(name string, labels []Label) string {
	var texts []string
	for _, l := range labels {
		texts = append(texts, l.Name+`="`+escapes.Replace(strings.ToValidUTF8(l.Value, "?"))+`"`)
	}
	if len(texts) > 0 {
		return prefix + name + "{" + strings.Join(texts, ",") + "}"
	}
	return prefix + name
}

// maxFile bounds what is read of a file that is there.
const maxFile = 1 << 20

// patience is how long another run that writes is waited for.
const patience = 5 * time.Second

// Write puts the families into a file NAME.prom of a folder, in the place of one that is
// there. Counters go on from what that one has.
func Write(dir, lockDir, name string, families []Family) error {
	path := filepath.Join(dir, name+".prom")
	l, err := take(filepath.Join(lockDir, "metrics"))
	if err == nil {
		defer l.Close()
		countOn(read(path), families)
		err = replace(path, Text(families))
	}
	return blame(err)
}

// Count is Write of what leaves the other metrics of the file as they are.
func Count(dir, lockDir, name string, families []Family) error {
	path := filepath.Join(dir, name+".prom")
	l, err := take(filepath.Join(lockDir, "metrics"))
	if err == nil {
		defer l.Close()
		old := read(path)
		countOn(old, families)
		err = replace(path, Text(families)+others(old, families))
	}
	return blame(err)
}

func blame(err error) error {
	if err != nil {
		return fmt.Errorf("METRICS_DIR: %w", err)
	}
	return nil
}

// others are the lines of a text that are of none of the families.
func others(text string, families []Family) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		words := strings.TrimPrefix(strings.TrimPrefix(line, "# HELP "), "# TYPE ")
		name, _, _ := strings.Cut(strings.TrimPrefix(words, prefix), " ")
		name, _, _ = strings.Cut(name, "{")
		if !slices.ContainsFunc(families, func(f Family) bool { return f.Name == name }) {
			b.WriteString(line)
		}
	}
	return b.String()
}

func take(path string) (*lock.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, err
	}
	for begin := time.Now(); ; time.Sleep(10 * time.Millisecond) {
		l, err := lock.Try(path, unix.LOCK_EX)
		if err == nil || !errors.Is(err, unix.EWOULDBLOCK) || time.Since(begin) > patience {
			return l, err
		}
	}
}

// read returns what a file has; one that isn't there, or isn't a file, has nothing.
func read(path string) string {
	f, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return ""
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return ""
	}
	text, _ := io.ReadAll(io.LimitReader(f, maxFile))
	return string(text)
}

// countOn adds what a text has of counters; one that it doesn't have begins here.
func countOn(text string, families []Family) {
	for i, f := range families {
		if !f.Counter {
			continue
		}
		for j, s := range f.Samples {
			for line := range strings.Lines(text) {
				value, is := strings.CutPrefix(line, series(f.Name, s.Labels)+" ")
				if old, err := strconv.ParseUint(strings.TrimSpace(value), 10, 53); is && err == nil {
					families[i].Samples[j].Value += float64(old)
				}
			}
		}
	}
}

// replace writes a file that everybody may read, by a rename: node_exporter, which is not
// root, sees the old or the new one. It reads no name that doesn't end in .prom.
func replace(path, text string) error {
	temp := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	if err := os.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) { // of a killed run
		return err
	}
	f, err := os.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL|unix.O_NOFOLLOW, 0o644)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Chmod(0o644), f.Close()); err == nil {
		err = os.Rename(temp, path)
	}
	if err != nil {
		return cmp.Or(err, os.Remove(temp))
	}
	return nil
}
