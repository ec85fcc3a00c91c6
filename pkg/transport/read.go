package transport

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Sink takes what Walk finds.
type Sink struct {
	// Block is given the disk's bytes of a stream of ours, a block in one or several
	// parts; data is valid until it returns.
	Block func(offset int64, data []byte) error
	// Zero is told what of the disk is zero. A stream may say it of all of the disk.
	Zero func(offset, n int64) error
	// Files is given a complete tar of the guest's files.
	Files io.Writer
	// Shortcuts has its paths made short enough for GNU tar; nil leaves them alone.
	Shortcuts *Shortcuts
}

// Walk reads a stream of ours, or a tar, to the very end of the input. It checks
// the order, the limits, the digest and the end; that the stream is cut off, or
// damaged, is an error that names the byte. A *LossError is a stream that was read to
// its end, but GNU tar will leave out something of its files.
func (s *Stream) Walk(sink Sink) error {
	w := &walk{stream: s, sink: sink, sum: newDigest(), t: newWalker(s.r), lost: Listen("tar")}
	var err error
	if s.Kind == Ours {
		err = w.ours()
	} else {
		err = w.plain()
	}
	if err == nil {
		err = w.t.drainZeros()
	}
	if err == nil {
		err = w.lost.Fault()
	}
	return err
}

type walk struct {
	stream *Stream
	sink   Sink
	t      *walker
	sum    *digest
	next   int64
	files  bool
	lost   *Losses
}

// plain passes on every member of a tar.
func (w *walk) plain() error {
	for {
		m, err := w.t.next()
		if errors.Is(err, io.EOF) {
			return w.endFiles()
		}
		if err != nil {
			return err
		}
		if err := w.passFile(m); err != nil {
			return err
		}
	}
}

// ours takes the members of a stream of ours apart.
func (w *walk) ours() error {
	for number := 0; ; number++ {
		m, err := w.t.next()
		if errors.Is(err, io.EOF) {
			return w.t.fault(errors.New("it has no digest at its end"))
		}
		if err != nil {
			return err
		}
		own, isOwn := strings.CutPrefix(m.name, ownFolder)
		switch {
		case m.name == digestName:
			return w.digest(m)
		case number == 0 && m.name != manifestName:
			return w.t.fault(errors.New("it does not begin with a manifest"))
		case number == 0:
			err = w.pass(m, m.raw, w.sum)
		case strings.HasPrefix(own, "disk/"):
			err = w.diskBlock(m)
		case strings.HasPrefix(own, "zero/") && w.stream.Manifest.Format >= zerosFormat:
			err = w.diskZero(m)
		case isOwn:
			return w.t.fault(fmt.Errorf("member %.100q is unknown: a newer version wrote it", m.name))
		case w.stream.Manifest.Content != "files":
			return w.t.fault(fmt.Errorf("member %.100q in a backup of %s", m.name, w.stream.Manifest.Content))
		default:
			w.files = true
			err = w.passFile(m, w.sum)
		}
		if err != nil {
			return err
		}
	}
}

// passFile hands a file of the guest to the sink, under names that can be unpacked,
// and as it came to others.
func (w *walk) passFile(m member, others ...io.Writer) error {
	if m.lost != "" {
		w.lost.add(m.lost)
	}
	headers, err := w.sink.Shortcuts.next(m)
	if err != nil {
		return err
	}
	for _, to := range others {
		if _, err := to.Write(m.raw); err != nil {
			return err
		}
	}
	if _, err := w.sink.Files.Write(headers); err != nil {
		return err
	}
	return w.pass(m, nil, io.MultiWriter(append(others, w.sink.Files)...))
}

// pass writes a member's headers and its data as they came, padding included.
func (w *walk) pass(m member, headers []byte, to io.Writer) error {
	if _, err := to.Write(headers); err != nil {
		return err
	}
	all := m
	all.size = padded(m.size)
	_, err := io.CopyBuffer(onlyWriter{to}, onlyReader{w.t.data(all)}, w.t.buf)
	return err
}

type onlyWriter struct{ io.Writer }

// diskBlock hands a block to the sink.
func (w *walk) diskBlock(m member) error {
	offset, err := w.offset(m, diskFolder)
	if err != nil {
		return err
	}
	if err := checkBlock(offset, m.size, w.next, w.stream.Manifest.Disk.SizeBytes); err != nil {
		return w.t.fault(err)
	}
	w.next = offset + m.size
	w.sum.Write(m.raw)
	for data := w.t.data(m); offset < w.next; {
		part := w.sum.room()
		part = part[:min(int64(len(part)), w.next-offset)]
		if _, err := io.ReadFull(data, part); err != nil {
			return err
		}
		w.sum.took(len(part))
		if err := w.sink.Block(offset, part); err != nil {
			return err
		}
		offset += int64(len(part))
	}
	return nil
}

// diskZero tells the sink of a part of the disk that is zero.
func (w *walk) diskZero(m member) error {
	offset, err := w.offset(m, zeroFolder)
	if err != nil {
		return err
	}
	if m.size != zeroBytes {
		return w.t.fault(fmt.Errorf("member %.100q has %d bytes, not %d", m.name, m.size, zeroBytes))
	}
	content := make([]byte, padded(m.size)) // its padding isn't zero for certain, and is under the digest too
	all := m
	all.size = padded(m.size)
	if _, err := io.ReadFull(w.t.data(all), content); err != nil {
		return err
	}
	w.sum.Write(m.raw)
	w.sum.Write(content)
	n, err := strconv.ParseInt(string(content[:zeroBytes-1]), 16, 64)
	if err != nil || content[zeroBytes-1] != '\n' {
		return w.t.fault(fmt.Errorf("member %.100q has no number", m.name))
	}
	if err := checkPlace(offset, n, w.next, w.stream.Manifest.Disk.SizeBytes); err != nil {
		return w.t.fault(err)
	}
	w.next = offset + n
	return w.sink.Zero(offset, n)
}

// offset returns where on the disk a member of a folder of ours belongs.
func (w *walk) offset(m member, folder string) (int64, error) {
	digits := strings.TrimPrefix(m.name, folder)
	offset, err := strconv.ParseInt(digits, 16, 64)
	if err != nil || len(digits) != 16 || m.kind != '0' || w.files || w.stream.Manifest.Content == "swap" || folder == zeroFolder && w.stream.Manifest.Content != "blocks" {
		return 0, w.t.fault(fmt.Errorf("member %.100q is not where or what it should be", m.name))
	}
	return offset, nil
}

// digest compares the last member with what was read, and expects the end.
func (w *walk) digest(m member) error {
	if m.size != digestBytes || m.kind != '0' {
		return w.t.fault(errors.New("its digest has a wrong size"))
	}
	said := make([]byte, digestBytes)
	if _, err := io.ReadFull(w.t.data(m), said); err != nil {
		return err
	}
	if got := w.sum.hex(); !bytes.Equal(said, []byte(got+"\n")) {
		return fmt.Errorf("the backup is damaged: its digest is %.64q, and its content's is %s: copy it anew", said, got)
	}
	if _, err := w.t.next(); !errors.Is(err, io.EOF) {
		if err == nil {
			err = w.t.fault(errors.New("a member follows its digest"))
		}
		return err
	}
	if w.stream.Manifest.Content == "files" {
		return w.endFiles()
	}
	return nil
}

// endFiles ends the tar that the sink is given.
func (w *walk) endFiles() error {
	var last []byte
	if w.sink.Shortcuts != nil {
		var err error
		if last, err = w.sink.Shortcuts.leave(""); err != nil {
			return err
		}
	}
	_, err := w.sink.Files.Write(append(last, make([]byte, 2*recordBytes)...))
	return err
}
