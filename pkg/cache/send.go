package cache

import (
	"bufio"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"instance-debootstrap/pkg/tell"
)

// greeting is how the parts of an entry begin on the way to another node, and how its
// answer does, so that neither takes another program's words for it.
const greeting = "instance-debootstrap cache parts 1\n"

// offer is what the sending end says of an entry: then follow, in a frame of their own, its
// parts.
type offer struct {
	Name    string          `json:"name"` // of the sidecar
	Sidecar json.RawMessage `json:"sidecar"`
}

// answer is what the receiving end says: after the offer, and at the end.
type answer struct {
	Fault  string `json:"fault,omitempty"`
	Has    bool   `json:"has,omitempty"`    // the entry is there
	Wanted []byte `json:"wanted,omitempty"` // a bit for each part, the first in the lowest
}

// Sending is an entry that is brought to other nodes. It stays open, and can't expire, until
// Close.
type Sending struct {
	Path  string
	Size  int64 // bytes of the tar
	entry *Entry
	offer []byte
	parts []part
}

// Close gives the entry free.
func (s *Sending) Close() error { return s.entry.Close() }

// Sent is what it took.
type Sent struct {
	Has      bool  // the node had it already
	Parts    int64 // bytes of the parts that it didn't have
	Wire     int64 // bytes that went to it, which are compressed
	Answered int64 // bytes that came from it
}

// Send opens the entry that has the key, or whose key begins with it, to be sent.
func (s Store) Send(ctx context.Context, key string) (*Sending, error) {
	n, m, e, err := s.openPublished(ctx, key)
	if err != nil {
		return nil, err
	}
	out := &Sending{Path: n.tar, Size: m.Size, entry: e}
	sum := sha256.New()
	amount := &tell.Amount{What: "read", TotalBytes: m.Size}
	err = cut(ctx, io.TeeReader(amount.Reader(ctx, io.NewSectionReader(e.File, 0, m.Size)), sum), func(p part, _ []byte) error {
		out.parts = append(out.parts, p)
		return nil
	})
	if err == nil {
		if got := hex.EncodeToString(sum.Sum(nil)); got != m.SHA256 {
			err = fmt.Errorf("it is damaged, its sha256 is %s and not %s: remove the entry, so that it is built anew", got, m.SHA256)
		}
	}
	var raw []byte
	if err == nil {
		raw, err = json.Marshal(m)
	}
	if err == nil {
		out.offer, err = json.Marshal(offer{n.base + ".json", raw})
	}
	if err != nil {
		e.Close()
		return nil, fmt.Errorf("cache entry %s: %w", n.tar, err)
	}
	return out, nil
}

// To brings it to the receiving end, another node's Receive.
func (s *Sending) To(ctx context.Context, in io.Reader, out io.Writer) (sent Sent, err error) {
	answers := bufio.NewReader(&counter{r: in, n: &sent.Answered})
	w := bufio.NewWriterSize(&counter{w: out, n: &sent.Wire}, 256<<10)
	if _, err = w.WriteString(greeting); err == nil {
		err = errors.Join(writeFrame(w, s.offer), writeFrame(w, packParts(s.parts)), w.Flush())
	}
	first, answerErr := readAnswer(answers, true)
	if answerErr != nil {
		return sent, answerErr
	}
	if err != nil || first.Has {
		sent.Has = first.Has
		return sent, err
	}
	sent.Parts, err = s.sendParts(ctx, w, first.Wanted)
	// Why the other end takes no more is in its answer, if it still gives one.
	if _, answerErr := readAnswer(answers, false); answerErr != nil {
		return sent, answerErr
	}
	return sent, err
}

// sendParts sends those that are wanted, compressed.
func (s *Sending) sendParts(ctx context.Context, w *bufio.Writer, wanted []byte) (sent int64, err error) {
	isWanted := func(i int) bool { return i/8 < len(wanted) && wanted[i/8]&(1<<(i%8)) != 0 }
	amount := &tell.Amount{What: "sent"}
	for i, p := range s.parts {
		if isWanted(i) {
			amount.TotalBytes += int64(p.bytes)
		}
	}
	z, err := gzip.NewWriterLevel(w, gzip.BestSpeed)
	if err != nil {
		return 0, err
	}
	buf := make([]byte, maxPart)
	var at int64
	for i, p := range s.parts {
		if isWanted(i) {
			if err := context.Cause(ctx); err != nil {
				return sent, err
			}
			if _, err := s.entry.File.ReadAt(buf[:p.bytes], at); err != nil {
				return sent, err
			}
			if _, err := z.Write(buf[:p.bytes]); err != nil {
				return sent, err
			}
			sent += int64(p.bytes)
			amount.Add(ctx, int64(p.bytes))
		}
		at += int64(p.bytes)
	}
	return sent, errors.Join(z.Close(), w.Flush())
}

// ErrNoAnswer is a receiving end that says nothing.
var ErrNoAnswer = errors.New("the node doesn't answer as this program does: install this version there")

func readAnswer(in *bufio.Reader, first bool) (a answer, err error) {
	if first {
		head := make([]byte, len(greeting))
		if _, err := io.ReadFull(in, head); err != nil || string(head) != greeting {
			return a, ErrNoAnswer
		}
	}
	raw, err := readFrame(in)
	if err == nil {
		err = json.Unmarshal(raw, &a)
	}
	switch {
	case err != nil:
		return a, fmt.Errorf("the node's answer is missing: %w: look at the node, and try again: what it has got it keeps", err)
	case a.Fault != "":
		return a, errors.New(oneLine(a.Fault))
	}
	return a, nil
}

// maxFault is how many bytes of another node's words a message repeats.
const maxFault = 2 << 10

// oneLine is what another node says, for a message.
func oneLine(fault string) string {
	if len(fault) > maxFault {
		fault = fmt.Sprintf("%s… (%d bytes)", fault[:maxFault], len(fault))
	}
	return strings.ReplaceAll(fault, "\n", "; ")
}

// counter counts the bytes that pass it.
type counter struct {
	r io.Reader
	w io.Writer
	n *int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	*c.n += int64(n)
	return n, err
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	*c.n += int64(n)
	return n, err
}
