package cache

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// wire brings an entry from one store to another. Of what is sent, tamper may change or end it.
func wire(t *testing.T, from, to Store, tamper func(io.Writer) io.Writer) (sent Sent, sendErr, receiveErr error) {
	t.Helper()
	tree, err := from.Send(t.Context(), inputs.Key())
	must(t, err)
	defer tree.Close()
	r, w, err := os.Pipe()
	must(t, err)
	answers, answer, err := os.Pipe()
	must(t, err)
	defer answers.Close()
	done := make(chan error)
	go func() {
		err := to.Receive(t.Context(), "", r, answer)
		r.Close()
		answer.Close()
		done <- err
	}()
	sent, sendErr = tree.To(t.Context(), answers, tamper(w))
	w.Close()
	return sent, sendErr, <-done
}

func untouched(w io.Writer) io.Writer { return w }

// cable breaks after so many bytes.
type cable struct {
	w    io.Writer
	left int
}

func (c *cable) Write(p []byte) (int, error) {
	n := min(len(p), c.left)
	c.left -= n
	if _, err := c.w.Write(p[:n]); err != nil {
		return 0, err
	}
	if n < len(p) {
		c.w.(io.Closer).Close()
		return n, errors.New("the cable is cut")
	}
	return n, nil
}

// flipped changes one byte.
type flipped struct {
	w  io.Writer
	at int
}

func (f *flipped) Write(p []byte) (int, error) {
	if f.at >= 0 && f.at < len(p) {
		p = bytes.Clone(p)
		p[f.at] ^= 1
	}
	f.at -= len(p)
	return f.w.Write(p)
}

// noise is content that can't be compressed, always the same of one seed.
func noise(seed uint64, size int) string {
	r := rand.New(rand.NewPCG(seed, seed))
	b := make([]byte, size)
	for i := range b {
		b[i] = byte(r.Uint32())
	}
	return string(b)
}

// treeOf has 60 files of 100 KiB, of which those with the numbers are changed and longer.
func treeOf(t *testing.T, changed ...int) []byte {
	files := map[string]string{"etc/passwd": "x"}
	for i := range 60 {
		files[fmt.Sprintf("usr/%02d", i)] = noise(uint64(i), 100<<10)
	}
	for _, i := range changed {
		files[fmt.Sprintf("usr/%02d", i)] = noise(uint64(1000+i), 101<<10)
	}
	return tarOf(t, files)
}

func holds(t *testing.T, s Store, raw []byte) {
	t.Helper()
	got, err := os.ReadFile(filepath.Join(s.Dir, base+".tar"))
	if err != nil || !bytes.Equal(got, raw) {
		t.Errorf("the tar isn't what was sent: %d bytes of %d, %v", len(got), len(raw), err)
	}
	wantNames(t, s.Dir, base+".json", base+".tar")
	get(t, s, noBuild(t), SourceHit).Close()
	if results, err := s.Verify(t.Context()); err != nil || len(results) != 1 || results[0].Err != nil || results[0].State != StateOK {
		t.Errorf("verify: %+v %v", results, err)
	}
}

func TestOfATreeThatANodeHasInAnOlderVersionOnlyTheChangesAreSent(t *testing.T) {
	newer := treeOf(t, 7, 31, 32)
	from, path := published(t, newer)
	to, old := published(t, treeOf(t))
	setTime(t, path, time.Now())
	setTime(t, old, time.Now().Add(-time.Hour))
	for s, path := range map[*Store]string{&from: path, &to: old} {
		m, err := readSidecar(s.namesOf(filepath.Base(path)).sidecar)
		must(t, err)
		st, err := os.Stat(path)
		must(t, err)
		m.MtimeNs = st.ModTime().UnixNano()
		must(t, s.writeSidecar(s.namesOf(filepath.Base(path)), inputs, m))
	}
	sent, err, received := wire(t, from, to, untouched)
	if err != nil || received != nil || sent.Parts < 303<<10 || sent.Parts > 600<<10 || sent.Wire > sent.Parts+sent.Parts/10 {
		t.Errorf("%+v %v %v", sent, err, received)
	}
	holds(t, to, newer)
	a, err := os.Stat(path)
	must(t, err)
	b, err := os.Stat(old)
	if err != nil || !a.ModTime().Equal(b.ModTime()) {
		t.Errorf("its age isn't the tree's: %v", err)
	}
	if sent, err, received = wire(t, from, to, untouched); err != nil || received != nil || !sent.Has || sent.Parts != 0 {
		t.Errorf("once more: %+v %v %v", sent, err, received)
	}

	// Another tree of the suite has the same files.
	third := newStore(t)
	other := inputs
	other.ExtraPkgs = nil
	e, err := third.Get(t.Context(), other, writes(treeOf(t), new(atomic.Int32)))
	must(t, err)
	e.Close()
	if sent, err, received = wire(t, from, third, untouched); err != nil || received != nil || sent.Parts > 600<<10 {
		t.Errorf("from another key: %+v %v %v", sent, err, received)
	}
	// An empty cache gets all of it.
	empty := newStore(t)
	if sent, err, received = wire(t, from, empty, untouched); err != nil || received != nil || sent.Parts < int64(len(newer))*9/10 {
		t.Errorf("to an empty cache: %+v %v %v", sent, err, received)
	}
	holds(t, empty, newer)
}

func TestATreeThatIsCutOffOnItsWayGoesOnWhereItEnded(t *testing.T) {
	raw := treeOf(t)
	from, _ := published(t, raw)
	for tenth := range 10 {
		to := newStore(t)
		_, err, received := wire(t, from, to, func(w io.Writer) io.Writer { return &cable{w, len(raw) / 10 * tenth} })
		if err == nil || received == nil {
			t.Fatalf("%d tenths were enough", tenth)
		}
		if list, err := to.List(); err != nil || len(list) > 0 {
			t.Errorf("half an entry is there: %+v, %v", list, err)
		}
		sent, err, received := wire(t, from, to, untouched)
		if err != nil || received != nil || sent.Parts > int64(len(raw)/10*(11-tenth)) {
			t.Errorf("after %d tenths: %+v %v %v", tenth, sent, err, received)
		}
		holds(t, to, raw)
	}
}

func TestWhatIsChangedOnItsWayIsNoEntry(t *testing.T) {
	raw := treeOf(t)
	from, _ := published(t, raw)
	r := rand.New(rand.NewPCG(3, 4))
	for range 40 {
		to, at := newStore(t), r.IntN(len(raw))
		if at%2 == 0 {
			at %= 8 << 10 // what is said of it
		}
		_, err, received := wire(t, from, to, func(w io.Writer) io.Writer { return &flipped{w, at} })
		if list, _ := to.List(); len(list) == 0 {
			if err == nil || received == nil {
				t.Errorf("byte %d: nothing is there, and no error: %v %v", at, err, received)
			}
			continue
		}
		holds(t, to, raw) // it was of no account, such as a name in the sidecar
	}
	for _, garbage := range []string{"", "x", greeting, greeting + "\xff\xff\xff\xff", greeting + "\x00\x00\x00\x02{}", greeting + "\x00\x00\x00\x04null\x00\x00\x00\x00"} {
		to := newStore(t)
		if err := to.Receive(t.Context(), "", strings.NewReader(garbage), io.Discard); err == nil {
			t.Errorf("%q is taken", garbage)
		}
		if files, _ := os.ReadDir(to.Dir); len(files) > 0 {
			t.Errorf("%q leaves %v", garbage, files)
		}
	}
	tree, err := from.Send(t.Context(), inputs.Key())
	must(t, err)
	defer tree.Close()
	if _, err := tree.To(t.Context(), strings.NewReader("Welcome to node2\n"), io.Discard); !errors.Is(err, ErrNoAnswer) {
		t.Errorf("another program: %v", err)
	}
}

func TestWhatIsOnANodeStaysWhereItIsAnAdminsOrThereIsNoRoom(t *testing.T) {
	raw := treeOf(t)
	from, sentPath := published(t, raw)
	for what, prepare := range map[string]func(s *Store, path string){
		"was edited":   func(_ *Store, path string) { must(t, os.WriteFile(path, treeOf(t, 2), 0o644)) },
		"is read-only": func(_ *Store, path string) { must(t, os.Chmod(path, 0o444)) },
		"there is newer": func(s *Store, path string) {
			m, err := readSidecar(s.namesOf(filepath.Base(path)).sidecar)
			must(t, err)
			later := time.Now().Add(time.Hour)
			setTime(t, path, later)
			st, err := os.Stat(path)
			must(t, err)
			m.MtimeNs = st.ModTime().UnixNano()
			must(t, s.writeSidecar(s.namesOf(filepath.Base(path)), inputs, m))
		},
	} {
		to, path := published(t, treeOf(t, 1))
		prepare(&to, path)
		before, err := os.ReadFile(path)
		must(t, err)
		_, sendErr, received := wire(t, from, to, untouched)
		after, err := os.ReadFile(path)
		must(t, err)
		if sendErr == nil || received == nil || !strings.Contains(sendErr.Error(), what) || !bytes.Equal(before, after) {
			t.Errorf("%s: %v, %v", what, sendErr, received)
		}
	}
	small := newStore(t)
	small.MaxBytes = 1 << 20
	if _, err, _ := wire(t, from, small, untouched); err == nil || !strings.Contains(err.Error(), "CACHE_MAX_SIZE there is 1 MiB") {
		t.Errorf("no room: %v", err)
	}
	// Where there is room for one alone, the other goes.
	one := newStore(t)
	other := inputs
	other.ExtraPkgs = nil
	e, err := one.Get(t.Context(), other, writes(treeOf(t), new(atomic.Int32)))
	must(t, err)
	e.Close()
	one.MaxBytes = int64(len(raw)) * 3 / 2
	if _, err, received := wire(t, from, one, untouched); err != nil || received != nil {
		t.Errorf("%v %v", err, received)
	}
	wantNames(t, one.Dir, base+".json", base+".tar")

	must(t, os.WriteFile(sentPath, raw[:len(raw)-512], 0o644)) // and one that is damaged is not sent
	if _, err := from.Send(t.Context(), inputs.Key()); err == nil {
		t.Error("a tar without its end is sent")
	}
}

func TestAnEntryThatWasNotAskedForIsNotTaken(t *testing.T) {
	from, _ := published(t, treeOf(t))
	tree, err := from.Send(t.Context(), inputs.Key())
	must(t, err)
	defer tree.Close()
	var sent bytes.Buffer
	_, _ = tree.To(t.Context(), strings.NewReader(""), &sent) // nobody answers
	to := newStore(t)
	if err := to.Receive(t.Context(), "feedfeed", bytes.NewReader(sent.Bytes()), io.Discard); err == nil || !strings.Contains(err.Error(), "not the entry that was asked for") {
		t.Errorf("%v", err)
	}
	if list, err := to.List(); err != nil || len(list) > 0 {
		t.Errorf("%v, %v", list, err)
	}
}

func TestWhatAnotherNodeSaysIsOneLineOfAMessage(t *testing.T) {
	var answer bytes.Buffer
	answer.WriteString(greeting)
	must(t, writeFrame(&answer, []byte(`{"fault": "no room\nall is well`+strings.Repeat("x", 1<<20)+`"}`)))
	_, err := readAnswer(bufio.NewReader(&answer), true)
	if err == nil || len(err.Error()) > 3<<10 || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "no room; all is well") {
		t.Errorf("%.200v", err)
	}
}
