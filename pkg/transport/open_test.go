package transport

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// compressed is what a tool makes of a text.
func compressed(t testing.TB, text string, argv ...string) string {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdin = strings.NewReader(text)
	out, err := cmd.Output()
	must(t, err)
	return string(out)
}

// at is n bytes of zeros with a text at an offset.
func at(offset int, text string, n int) string {
	b := make([]byte, n)
	copy(b[offset:], text)
	return string(b)
}

func dumpHead(order binary.ByteOrder, magic uint32) string {
	var b [1024]byte
	order.PutUint32(b[24:], magic)
	return string(b[:])
}

func beginnings(t testing.TB) map[string]struct {
	text string
	kind Kind
} {
	return map[string]struct {
		text string
		kind Kind
	}{
		"a backup":                {samples(t)["files"], Ours},
		"a backup of blocks":      {samples(t)["blocks"], Ours},
		"a tar by Go":             {tree(t), Tar},
		"a tar with a pax header": {tarOf(t, file("./"+strings.Repeat("long", 60), "x")), Tar},
		"a tar of GNU's format":   {gnuTar(t, "--format=gnu"), Tar},
		"a tar of the old format": {gnuTar(t, "--format=v7"), Tar},
		"a tar of ustar":          {gnuTar(t, "--format=ustar"), Tar},
		"a dump":                  {dumpHead(binary.LittleEndian, 60012), Dump},
		"a dump of big-endian":    {dumpHead(binary.BigEndian, 60012), Dump},
		"an old dump":             {dumpHead(binary.LittleEndian, 60011), Dump},
		"a boot record":           {at(510, "\x55\xaa", 512), Raw},
		"a gpt":                   {at(512, "EFI PART", 4096), Raw},
		"ext":                     {at(0x438, "\x53\xef", 8192), Raw},
		"xfs":                     {at(0, "XFSB", 512), Raw},
		"btrfs":                   {at(0x10040, "_BHRfS_M", headBytes), Raw},
		"swap":                    {at(4086, "SWAPSPACE2", 4096), Raw},
		"lvm":                     {at(512, "LABELONE", 1024), Raw},
		"luks":                    {at(0, "LUKS\xba\xbe", 1024), Raw},
		"mdraid":                  {at(4096, "\xfc\x4e\x2b\xa9", 8192), Raw},
	}
}

// gnuTar is a small tar by GNU tar.
func gnuTar(t testing.TB, args ...string) string {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/x", []byte("x"), 0o644))
	out, err := exec.Command("tar", append([]string{"-C", dir, "-cf", "-", "."}, args...)...).Output()
	must(t, err)
	return string(out)
}

func TestAStreamIsToldByItsBeginning(t *testing.T) {
	tools := map[string][]string{"": nil, "gzip": {"gzip", "-c"}, "zstd": {"zstd", "-qc"}, "xz": {"xz", "-c"}, "bzip2": {"bzip2", "-c"}, "lz4": {"lz4", "-c"}}
	for name, c := range beginnings(t) {
		for tool, argv := range tools {
			in := c.text
			if tool != "" {
				in = compressed(t, in, argv...)
			}
			s, err := Open(t.Context(), iotest.HalfReader(strings.NewReader(in)))
			if err != nil {
				t.Errorf("%s %s: %v", name, tool, err)
				continue
			}
			if s.Kind != c.kind || s.Compression != tool {
				t.Errorf("%s %s is %s %s", name, tool, s.Kind, s.Compression)
			}
			got, err := io.ReadAll(s.Bytes())
			if err := errors.Join(err, s.Close()); err != nil || string(got) != c.text {
				t.Errorf("%s %s: %v, %d of %d bytes", name, tool, err, len(got), len(c.text))
			}
		}
	}
}

// A file of xz -9 wants 65 MiB to be read, and a cell has bounds.
func TestTheStreamsThatWantMostOfXZAreReadInItsCell(t *testing.T) {
	text := tree(t)
	text += strings.Repeat("\x00", 48<<20-len(text)) // as a tar may go on
	for _, options := range []string{"-9", "-9e -T0 --block-size=16MiB"} {
		s, err := Open(t.Context(), strings.NewReader(compressed(t, text, append([]string{"xz", "-c"}, strings.Fields(options)...)...)))
		must(t, err)
		n, err := io.Copy(io.Discard, s.Bytes())
		if err := errors.Join(err, s.Close()); err != nil || n != int64(len(text)) || s.Kind != Tar {
			t.Errorf("xz %s: %v, %d of %d bytes, %s", options, err, n, len(text), s.Kind)
		}
	}
}

func TestWhatNobodyKnowsIsRefused(t *testing.T) {
	gzip := func(s string) string { return compressed(t, s, "gzip", "-c") }
	zstd := func(s string) string { return compressed(t, s, "zstd", "-qc") }
	for name, c := range map[string]struct{ in, want string }{
		"nothing":               {"", "is empty"},
		"nothing, by gzip":      {gzip(""), "is empty"},
		"nothing, by zstd":      {zstd(""), "is empty"},
		"a byte":                {"x", "not in a format that import knows"},
		"text":                  {strings.Repeat("text ", 1000), "not in a format that import knows"},
		"zeros":                 {strings.Repeat("\x00", 1<<20), "not in a format that import knows"},
		"zeros, by gzip":        {gzip(strings.Repeat("\x00", 1<<20)), "not in a format that import knows"},
		"zeros, by zstd":        {zstd(strings.Repeat("\x00", 64<<20)), "not in a format that import knows"},
		"gzip of gzip":          {gzip(gzip(tree(t))), "compressed once"},
		"zstd of zstd":          {zstd(zstd(tree(t))), "compressed once"},
		"gzip of zstd":          {gzip(zstd(tree(t))), "compressed once"},
		"zstd of gzip":          {zstd(gzip(tree(t))), "compressed once"},
		"no gzip behind magic":  {"\x1f\x8bnone", "gzip"},
		"no zstd behind magic":  {"\x28\xb5\x2f\xfdnone", "zstd"},
		"no xz behind magic":    {"\xfd7zXZ\x00none", "xz"},
		"no bzip2 behind magic": {"BZhnone", "bzip2"},
		"no lz4 behind magic":   {"\x04\x22\x4d\x18none", "lz4"},
		"half a tar's header":   {tree(t)[:400], "not in a format that import knows"},
		"a header by a bad sum": {strings.Replace(tree(t), "./", ".!", 1), "not in a format that import knows"},
		"half a magic":          {at(510, "\x55", 511), "not in a format that import knows"},
	} {
		s, err := Open(t.Context(), strings.NewReader(c.in))
		if err == nil || !strings.Contains(err.Error(), c.want) || !printable(err.Error()) {
			t.Errorf("%s: %v, %v, want %q", name, s, err, c.want)
		}
	}
}

func TestWhatIsClearlySomethingElseIsCalledByItsName(t *testing.T) {
	for name, in := range map[string]string{
		"a qcow2 image": "QFI\xfb", "a VMDK image": "KDMV", "a VMDK's descriptor": "# Disk DescriptorFile\n", "a VDI image": at(0x40, "\x7f\x10\xda\xbe", 0x44),
		"a VHD image": "conectix", "a VHDX image": "vhdxfile", "a zip archive": "PK\x03\x04", "a 7z archive": "7z\xbc\xaf\x27\x1c", "a squashfs": "hsqs",
		"an ar archive": "!<arch>\ndebian-binary", "an ISO image": at(32769, "CD001", 65536),
	} {
		hybrid := []byte(at(0, in, 65536)) // with a boot record, as an ISO for USB sticks has it
		copy(hybrid[510:], "\x55\xaa")
		for _, in := range []string{in, at(0, in, headBytes), string(hybrid), compressed(t, at(0, in, 65536), "xz", "-c")} {
			_, err := Open(t.Context(), strings.NewReader(in))
			if err == nil || !strings.HasPrefix(err.Error(), "the backup is "+name) || !strings.Contains(err.Error(), "which import doesn't read: ") {
				t.Errorf("%s: %v", name, err)
			}
		}
	}
}

func TestAManifestThatCantBeReadIsSaidByOpen(t *testing.T) {
	whole := samples(t)["blocks"]
	record := func(h []byte) string { return string(h) }
	link := header(manifestName, 0)
	link[atType] = '2'
	copy(link[atChecksum:], "\x00\x00\x00\x00\x00\x00\x00\x00")
	for name, c := range map[string]struct{ in, want string }{
		"cut off after its header": {whole[:512], "cut off at byte 512"},
		"cut off within":           {whole[:600], "cut off at byte 600"},
		"of a later format":        {tarOf(t, file(manifestName, `{"format":9}`)), "import it with a newer one"},
		"no JSON":                  {tarOf(t, file(manifestName, "x")), "invalid character"},
		"too large":                {record(header(manifestName, maxManifest+1)) + strings.Repeat(" ", 70<<10), "at most 65536"},
		"a link":                   {tarOf(t, entry{head: linkHead(manifestName)}), "type '2'"},
	} {
		for _, tool := range []string{"", "gzip", "zstd", "xz", "bzip2", "lz4"} {
			in := c.in
			if tool != "" {
				in = compressed(t, in, tool, "-c")
			}
			if _, err := Open(t.Context(), strings.NewReader(in)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%s %s: %v, want %q", name, tool, err, c.want)
			}
		}
	}
}

func TestACompressedStreamThatIsCutOffIsAnError(t *testing.T) {
	for _, tool := range []string{"gzip", "zstd", "xz", "bzip2", "lz4"} {
		whole := compressed(t, samples(t)["blocks"], tool, "-c")
		if _, _, err := walkStream(strings.NewReader(whole)); err != nil {
			t.Errorf("%s: %v", tool, err)
		}
		for cut := 6; cut < len(whole); cut += max(3, len(whole)/60) {
			if _, _, err := walkStream(strings.NewReader(whole[:cut])); err == nil {
				t.Errorf("%s, cut off after %d of %d bytes: no error", tool, cut, len(whole))
			}
		}
	}
}

func TestACompressedStreamThatIsDamagedIsAnErrorOfTheTool(t *testing.T) {
	raw := at(510, "\x55\xaa", 1<<20)
	for _, argv := range [][]string{{"gzip", "-c"}, {"zstd", "-qc", "--check"}, {"xz", "-c"}, {"bzip2", "-c"}, {"lz4", "-c"}} {
		b := []byte(compressed(t, raw, argv...))
		b[len(b)-2] ^= 1 // the check of the content
		s, err := Open(t.Context(), bytes.NewReader(b))
		must(t, err)
		io.Copy(io.Discard, s.Bytes())
		if err := s.Close(); err == nil || !strings.Contains(err.Error(), "decompress the backup: "+argv[0]) {
			t.Errorf("%s: %v", argv[0], err)
		}
	}
}

// endless is a stream that has always more.
type endless struct{ begin io.Reader }

func (e endless) Read(p []byte) (int, error) {
	if n, err := e.begin.Read(p); err == nil {
		return n, nil
	}
	return len(p), nil
}

func TestCloseDoesntWaitForAStreamThatNobodyReads(t *testing.T) {
	for _, tool := range []string{"gzip", "zstd", "xz", "bzip2", "lz4"} {
		// What comes out is more than a pipe holds, and the end never goes in.
		in := compressed(t, at(510, "\x55\xaa", 8<<20), tool, "-c", "-1")
		s, err := Open(t.Context(), endless{strings.NewReader(in)})
		must(t, err)
		closed := make(chan error)
		go func() { closed <- s.Close() }()
		select {
		case err := <-closed:
			if err != nil {
				t.Errorf("%s: %v", tool, err)
			}
		case <-time.After(20 * time.Second):
			t.Fatalf("%s: it waits", tool)
		}
		if err := s.Close(); err != nil {
			t.Errorf("%s, closed again: %v", tool, err)
		}
	}
}

func TestACancelledContextEndsTheDecompressor(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Open(ctx, strings.NewReader(compressed(t, at(510, "\x55\xaa", 64<<20), "gzip", "-c")))
	must(t, err)
	cancel()
	n, _ := io.Copy(io.Discard, s.Bytes())
	if err := s.Close(); n < 64<<20 && !errors.Is(err, context.Canceled) {
		t.Errorf("%d bytes came, and %v", n, err)
	}
}
