package cache

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/url"
	"os"
	"slices"
	"time"

	"instance-debootstrap/pkg/paths"
	"instance-debootstrap/pkg/pattern"
)

// The chunks that are compared at every use.
const (
	chunkCount = 16
	chunkBytes = 64 << 10
)

// What a tree lacks is told to an admin, as it stands.
var lackName = pattern.New(`^[a-z ]{1,40}$`)

const maxLacks = 4

// sidecarLimit is the largest sidecar that is read, in bytes.
const sidecarLimit = 1 << 20

// sidecar says what was published or adopted.
type sidecar struct {
	Format       int     `json:"format"`
	Key          string  `json:"key"`
	Inputs       Inputs  `json:"inputs"` // userinfo of the mirror masked
	SHA256       string  `json:"sha256"`
	Size         int64   `json:"size_bytes"`
	MtimeNs      int64   `json:"mtime_ns"`
	ContentBytes int64   `json:"content_bytes"`
	Inodes       int64   `json:"inodes"`
	Chunks       []chunk `json:"chunks"`
	// Adopted says that the tar was found without a usable sidecar: whose it is isn't known.
	Adopted bool `json:"adopted,omitempty"`
	Edited  bool `json:"edited"` // an admin changed the tar after it was published
	Made
	Created time.Time `json:"created"`
	MadeBy  string    `json:"made_by"`
}

type chunk struct {
	Offset int64  `json:"offset"`
	Length int64  `json:"length"`
	SHA256 string `json:"sha256"`
}

// errChanging says that a tar is being written to while we read it.
var errChanging = errors.New("it is being changed right now; try again when that is done")

// measure reads a whole tar, checks it and returns what a sidecar says of it.
func measure(ctx context.Context, f *os.File) (sidecar, error) {
	before, err := f.Stat()
	if err != nil {
		return sidecar{}, err
	}
	size := before.Size()
	if err := checkEnds(f, size); err != nil {
		return sidecar{}, err
	}
	// Without a Seek method, so that the whole of it is read.
	all := &hashReader{ctx: ctx, r: bufio.NewReaderSize(io.NewSectionReader(f, 0, size), 1<<20), sum: sha256.New()}
	found, err := scan(ctx, all, func() int64 { return all.pos })
	if err == nil {
		_, err = io.Copy(io.Discard, all)
	}
	after, statErr := f.Stat()
	if statErr == nil && !sameIdentity(before, after) {
		return sidecar{}, errChanging
	}
	if err := errors.Join(err, statErr); err != nil {
		return sidecar{}, err
	}
	digest := all.sum.Sum(nil)
	chunks, err := sumChunks(f, placeChunks(size, digest))
	if err != nil {
		return sidecar{}, err
	}
	return sidecar{
		Format: treeFormat, SHA256: hex.EncodeToString(digest), Size: size, MtimeNs: before.ModTime().UnixNano(),
		ContentBytes: found.contentBytes, Inodes: found.inodes, Chunks: chunks, Created: time.Now().UTC().Truncate(time.Second), MadeBy: paths.Version,
	}, nil
}

func sameIdentity(a, b os.FileInfo) bool {
	return a.Size() == b.Size() && a.ModTime().Equal(b.ModTime())
}

// hashReader hashes what is read through it and stops when ctx is done.
type hashReader struct {
	ctx context.Context
	r   io.Reader
	sum hash.Hash
	pos int64
}

func (h *hashReader) Read(p []byte) (int, error) {
	if h.ctx.Err() != nil {
		return 0, context.Cause(h.ctx)
	}
	n, err := h.r.Read(p)
	h.sum.Write(p[:n])
	h.pos += int64(n)
	return n, err
}

// placeChunks spreads the chunks over a file: one in each sixteenth, where in it
// is decided by the digest. A small file is one chunk.
func placeChunks(size int64, digest []byte) []chunk {
	if size <= chunkCount*chunkBytes {
		return []chunk{{Offset: 0, Length: size}}
	}
	region := size / chunkCount
	chunks := make([]chunk, chunkCount)
	for i := range chunks {
		fraction := int64(digest[2*i])<<8 | int64(digest[2*i+1]) // of 65536
		chunks[i] = chunk{Offset: int64(i)*region + (region-chunkBytes)*fraction>>16, Length: chunkBytes}
	}
	return chunks
}

func sumChunks(f io.ReaderAt, chunks []chunk) ([]chunk, error) {
	out := make([]chunk, len(chunks))
	for i, c := range chunks {
		sum := sha256.New()
		n, err := io.Copy(sum, io.NewSectionReader(f, c.Offset, c.Length))
		if err == nil && n != c.Length {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return nil, fmt.Errorf("read %d bytes at %d: %w", c.Length, c.Offset, err)
		}
		out[i] = chunk{Offset: c.Offset, Length: c.Length, SHA256: hex.EncodeToString(sum.Sum(nil))}
	}
	return out, nil
}

// identical tells whether a file has the size and time that were published.
func (m sidecar) identical(st os.FileInfo) bool {
	return m.Size == st.Size() && m.MtimeNs == st.ModTime().UnixNano()
}

// checkChunks compares the sampled chunks of a tar.
func (m sidecar) checkChunks(f io.ReaderAt) error {
	now, err := sumChunks(f, m.Chunks)
	if err != nil {
		return err
	}
	for i := range now {
		if now[i] != m.Chunks[i] {
			return fmt.Errorf("its content at byte %d is another than when it was published, its size and time are not", now[i].Offset)
		}
	}
	return nil
}

// readSidecar reads a sidecar; one that makes no sense is an error.
func readSidecar(path string) (sidecar, error) {
	f, err := os.Open(path)
	if err != nil {
		return sidecar{}, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, sidecarLimit))
	if err != nil {
		return sidecar{}, err
	}
	return parseSidecar(path, raw)
}

func parseSidecar(path string, raw []byte) (sidecar, error) {
	var m sidecar
	if err := json.Unmarshal(raw, &m); err != nil {
		return sidecar{}, fmt.Errorf("sidecar %s: %w", path, err)
	}
	if len(m.SHA256) != 2*sha256.Size || len(m.Chunks) == 0 || len(m.Chunks) > chunkCount {
		return sidecar{}, fmt.Errorf("sidecar %s: not one of ours", path)
	}
	if len(m.Lacks) > maxLacks || slices.ContainsFunc(m.Lacks, func(what string) bool { return !lackName().MatchString(what) }) {
		return sidecar{}, fmt.Errorf("sidecar %s: what the tree lacks makes no sense", path)
	}
	for _, c := range m.Chunks {
		if c.Offset < 0 || c.Length < 1 || c.Length > chunkCount*chunkBytes {
			return sidecar{}, fmt.Errorf("sidecar %s: chunk %d+%d makes no sense", path, c.Offset, c.Length)
		}
	}
	return m, nil
}

// writeSidecar puts a sidecar in place, durably, in the stead of an older one.
func (s Store) writeSidecar(n names, in Inputs, m sidecar) error {
	m.Key, m.Inputs = n.key, in
	m.Inputs.Mirror = maskUserinfo(in.Mirror)
	raw, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	t, err := s.scratch(n.sidecar)
	if err != nil {
		return err
	}
	defer t.discard()
	if _, err := t.f.Write(append(raw, '\n')); err != nil {
		return fmt.Errorf("write %s: %w", n.sidecar, err)
	}
	if err := os.Remove(n.sidecar); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return t.publish()
}

// maskUserinfo hides the user and password of a URL.
func maskUserinfo(mirror string) string {
	u, err := url.Parse(mirror)
	if err != nil {
		return "(not a URL)"
	}
	if u.User != nil {
		u.User = url.User("xxxxx")
	}
	return u.String()
}
