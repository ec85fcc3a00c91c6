package cache

import (
	"bufio"
	"cmp"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rs/zerolog"
	"golang.org/x/sys/unix"

	"instance-debootstrap/pkg/filesystem"
)

// Receive takes an entry that another node sends. What is there of it, in other trees and of an
// attempt that was cut off, isn't asked for. The entry appears when all of it has its sha256; of
// one that is cut off, the beginning stays for the next attempt, for a day. key is that of what was
// asked for, or its beginning.
func (s Store) Receive(ctx context.Context, key string, in io.Reader, out io.Writer) error {
	r := bufio.NewReaderSize(in, 256<<10)
	if _, err := io.WriteString(out, greeting); err != nil {
		return err
	}
	err := s.receive(ctx, key, r, out)
	a := answer{}
	if err != nil {
		a.Fault = err.Error()
	}
	raw, marshalErr := json.Marshal(a)
	if errors.Is(err, errHas) {
		return nil
	}
	return errors.Join(err, marshalErr, writeFrame(out, raw))
}

// ErrNothingComes is a sending end that says nothing.
var ErrNothingComes = errors.New("what comes is no entry of another node's cache: run `cache sync NODE` on that node, which sends one")

// errHas says that the entry is there.
var errHas = errors.New("it is there")

func (s Store) receive(ctx context.Context, key string, in *bufio.Reader, out io.Writer) error {
	n, m, parts, err := s.readOffer(in)
	if err == nil && !strings.HasPrefix(n.key, keyIn(key)) {
		err = fmt.Errorf("%s is sent, and not the entry that was asked for: install this version there", n.base)
	}
	if err == nil {
		err = s.prepare(ctx)
	}
	if err != nil {
		return err
	}
	renewing, err := s.tryLock(n.base + ".renew")
	if err != nil {
		return err
	}
	if renewing == nil {
		return fmt.Errorf("cache entry %s: %w", n.base, ErrRenewing)
	}
	defer renewing.Close()
	switch err := s.mayReplace(n, m); {
	case errors.Is(err, errHas):
		raw, err := json.Marshal(answer{Has: true})
		return cmp.Or(errors.Join(err, writeFrame(out, raw)), errHas)
	case err != nil:
		return fmt.Errorf("cache entry %s: %w", n.base, err)
	}
	a, err := s.beginAssembly(ctx, n, parts)
	if err != nil {
		return err
	}
	defer a.file.Close()
	if err := s.hasRoomFor(m.Size, m.Size-a.size); err != nil {
		return err
	}
	err = s.assemble(ctx, n, a, in, out)
	if err == nil {
		err = s.publishAssembly(ctx, n, m, a)
	}
	if err != nil {
		return fmt.Errorf("receive %s: %w", n.base, err)
	}
	zerolog.Ctx(ctx).Info().Msgf("received cache entry %s: %d files, %d MiB, of which %d MiB were sent", n.tar, m.Inodes, m.Size>>20, a.sent>>20)
	return nil
}

// assemble asks for what isn't found here, and puts all of it together.
func (s Store) assemble(ctx context.Context, n names, a *assembly, in io.Reader, out io.Writer) error {
	bases := s.findParts(ctx, n, a)
	defer func() {
		for _, f := range bases {
			f.Close()
		}
	}()
	raw, err := json.Marshal(answer{Wanted: a.wanted()})
	if err == nil {
		err = writeFrame(out, raw)
	}
	if err == nil {
		err = a.fill(ctx, in)
	}
	return err
}

// publishAssembly reads the tar through, and publishes it. What the file itself tells is not
// taken from the other node.
func (s Store) publishAssembly(ctx context.Context, n names, m sidecar, a *assembly) error {
	got, err := measure(ctx, a.file)
	if err == nil && got.SHA256 != m.SHA256 {
		err = fmt.Errorf("its sha256 is %s, and %s was sent: try again", got.SHA256, m.SHA256)
	}
	if err != nil {
		if context.Cause(ctx) == nil {
			os.Remove(a.file.Name())
		}
		return err
	}
	m.Chunks, m.ContentBytes, m.Inodes = got.Chunks, got.ContentBytes, got.Inodes
	return s.publishIncoming(ctx, n, m, &scratch{f: a.file, final: n.tar, temp: a.file.Name()})
}

// mayReplace tells whether an entry may take the place of what is there.
func (s Store) mayReplace(n names, m sidecar) error {
	st, err := os.Lstat(n.tar)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	here, sideErr := readSidecar(n.sidecar)
	switch {
	case err != nil:
		return err
	case sideErr == nil && here.SHA256 == m.SHA256 && here.identical(st):
		return errHas
	case st.Mode()&0o200 == 0:
		return errors.New("the one there is read-only, and stays: chmod u+w lets it be replaced")
	case sideErr != nil || here.Edited || !here.identical(st):
		return errors.New("the one there was edited, or nothing is known of it, and stays: remove it there to have this one")
	case here.MtimeNs > m.MtimeNs:
		return errors.New("the one there is newer, and stays: sync from there, or remove it")
	}
	return nil
}

// readOffer reads what the sending end says of the entry.
func (s Store) readOffer(in *bufio.Reader) (n names, m sidecar, parts []part, err error) {
	head := make([]byte, len(greeting))
	if _, err := io.ReadFull(in, head); err != nil || string(head) != greeting {
		return n, m, nil, ErrNothingComes
	}
	raw, err := readFrame(in)
	var o offer
	if err == nil {
		err = json.Unmarshal(raw, &o)
	}
	if err == nil {
		n, m, err = s.parseIncoming(o.Name, o.Sidecar)
	}
	if err == nil {
		raw, err = readFrame(in)
	}
	if err == nil {
		parts, err = unpackParts(raw, m.Size)
	}
	if err != nil {
		err = fmt.Errorf("what another node sends makes no sense: %w", err)
	}
	return n, m, parts, err
}

// hasRoomFor refuses a tar that the cache has no room for: by its limit, or on its filesystem.
func (s Store) hasRoomFor(size, missing int64) error {
	const spare = 64 << 20
	if s.MaxBytes > 0 && size > s.MaxBytes {
		return fmt.Errorf("the tree takes %d MiB, and CACHE_MAX_SIZE there is %d MiB: raise it", size>>20, s.MaxBytes>>20)
	}
	if free, err := filesystem.FreeBytes(s.Dir); err == nil && free < missing+spare {
		return fmt.Errorf("%s has %d MiB left there, and %d MiB are still to come: free some space, or set CACHE_DIR", s.Dir, free>>20, missing>>20)
	}
	return nil
}

// place is where a part can be read.
type place struct {
	file *os.File
	at   int64
}

// assembly is a tar that is put together of its parts, in their order.
type assembly struct {
	file  *os.File
	size  int64  // bytes of what is in the file
	parts []part // that are to follow
	skip  int    // parts that were there
	known map[[sha256.Size]byte]place
	sent  int64 // bytes that were sent
}

// beginAssembly opens what an earlier attempt has left, as far as it has the parts.
func (s Store) beginAssembly(ctx context.Context, n names, parts []part) (*assembly, error) {
	path := tempPath(n.tar + ".parts")
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return nil, fmt.Errorf("make a file in cache folder %s: %w", s.Dir, withRemedy(err))
	}
	a := &assembly{file: f, parts: parts, known: map[[sha256.Size]byte]place{}}
	buf := make([]byte, maxPart)
	for len(a.parts) > 0 && context.Cause(ctx) == nil {
		p := a.parts[0]
		if _, err := f.ReadAt(buf[:p.bytes], a.size); err != nil || sha256.Sum256(buf[:p.bytes]) != p.sum {
			break
		}
		a.took(p)
		a.skip++
	}
	if err := errors.Join(context.Cause(ctx), f.Truncate(a.size)); err != nil {
		f.Close()
		return nil, err
	}
	return a, nil
}

// took notes that the next part is in the file.
func (a *assembly) took(p part) {
	a.known[p.sum] = place{a.file, a.size}
	a.size, a.parts = a.size+int64(p.bytes), a.parts[1:]
}

// maxBases is how many trees are looked through for parts.
const maxBases = 3

// findParts looks for parts in trees of the same suite and architecture, the newest first. It
// returns the open files.
func (s Store) findParts(ctx context.Context, n names, a *assembly) (bases []*os.File) {
	missing := map[[sha256.Size]byte]bool{}
	for _, p := range a.parts {
		if _, ok := a.known[p.sum]; !ok {
			missing[p.sum] = true
		}
	}
	list, err := s.List()
	if err != nil {
		return nil
	}
	kind := strings.TrimSuffix(n.base, n.key)
	list = slices.DeleteFunc(list, func(l Listing) bool {
		return l.Key == "" || !strings.HasPrefix(filepath.Base(l.Path), kind) || s.checkFile(ctx, l.Path) != nil
	})
	slices.SortFunc(list, func(x, y Listing) int { return y.ModTime.Compare(x.ModTime) })
	for _, l := range list[:min(len(list), maxBases)] {
		f, err := os.Open(l.Path)
		if err != nil || len(missing) == 0 {
			continue
		}
		bases = append(bases, f)
		var at int64
		err = cut(ctx, io.NewSectionReader(f, 0, l.SizeBytes), func(p part, _ []byte) error {
			if missing[p.sum] {
				a.known[p.sum] = place{f, at}
				delete(missing, p.sum)
			}
			at += int64(p.bytes)
			return nil
		})
		if err != nil {
			zerolog.Ctx(ctx).Debug().Err(err).Msgf("%s gives no parts", l.Path)
		}
	}
	return bases
}

// wanted has a bit for each part that has to be sent: one that comes twice is sent once.
func (a *assembly) wanted() []byte {
	bits := make([]byte, (a.skip+len(a.parts)+7)/8)
	coming := map[[sha256.Size]byte]bool{}
	for i, p := range a.parts {
		if _, ok := a.known[p.sum]; ok || coming[p.sum] {
			continue
		}
		coming[p.sum] = true
		bits[(a.skip+i)/8] |= 1 << ((a.skip + i) % 8)
	}
	return bits
}

// fill puts the rest together, of what is known and what is sent.
func (a *assembly) fill(ctx context.Context, in io.Reader) error {
	z, err := gzip.NewReader(in)
	if err != nil {
		return cutOff(err)
	}
	z.Multistream(false) // the other end waits for the answer, and sends nothing more
	buf := make([]byte, maxPart)
	for len(a.parts) > 0 {
		if err := context.Cause(ctx); err != nil {
			return err
		}
		p := a.parts[0]
		from, known := a.known[p.sum]
		if known {
			_, err = from.file.ReadAt(buf[:p.bytes], from.at)
		} else {
			_, err = io.ReadFull(z, buf[:p.bytes])
			a.sent += int64(p.bytes)
		}
		if err != nil {
			return cutOff(err)
		}
		if sha256.Sum256(buf[:p.bytes]) != p.sum {
			return errors.New("a part is not what was announced: a tree was changed meanwhile, here or there; try again")
		}
		if _, err := a.file.WriteAt(buf[:p.bytes], a.size); err != nil {
			return withRemedy(err)
		}
		a.took(p)
	}
	if _, err := io.Copy(io.Discard, z); err != nil {
		return cutOff(err)
	}
	return nil
}

// cutOff says so of a stream that ends.
func cutOff(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return errors.New("it is cut off: try again, and what has come is not sent twice")
	}
	return err
}
