package transport

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// trees are scripts that fill a folder.
var trees = map[string]string{
	"nothing":     ":",
	"a file":      "echo text > file",
	"whole files": "head -c 512 /dev/urandom > a; head -c 10240 /dev/urandom > b; head -c 10241 /dev/urandom > c; : > d",
	"names": `touch $'odd \n \xe4 "name' -- -option @file '*'
for n in 94 95 96 97 98 99 100 101 155 156 250 255; do touch "$(printf "%0${n}d" 0)"; done
dir=.; for n in {1..12}; do dir=$dir/$(printf '%0100d' $n); mkdir $dir; done; touch $dir/deep`,
	"links":  `ln -s target short; ln -s "$(printf '%0100d' 0)" at-100; ln -s "$(printf '%0101d' 0)" at-101; ln -s "$(printf '%04000d' 0)" at-4000`,
	"hard":   `echo content > first; ln first second; mkdir sub; ln first sub/third; echo x > "$(printf '%0200d' 0)"; ln "$(printf '%0200d' 0)" zz`,
	"fifos":  `mkfifo pipe; mkfifo "$(printf '%0120d' 0)"`,
	"sparse": `truncate -s 1M empty; truncate -s 100M end; echo end >> end; echo begin > begin; truncate -s 100M begin; truncate -s 9G huge; echo x >> huge`,
	"many holes": `for n in {0..300}; do printf x | dd of=map bs=1 seek=$((n * 16384)) conv=notrunc status=none; done
truncate -s 10M map`,
	"a sparse hard link": `truncate -s 10M a; echo x >> a; ln a b`,
	"times":              `touch -d '1969-12-31 22:00:00.5' old; touch -d '2199-01-01' later; touch -d @0 zero; touch -d '2021-03-04 05:06:07.123456789' fraction; touch -d @1600000000 whole`,
	"totals":             `mkdir 'Total bytes written: 10240 (10KiB, 1MiB'; touch 'Total bytes written: 7'`,
}

func TestWhatATreeTakesIsKnownToTheByte(t *testing.T) {
	for name, script := range trees {
		dir := t.TempDir()
		shell(t, dir, "umask 022\n"+script)
		measure(t, name, dir)
	}
}

// measure holds what PackedBytes says of a tree against what it takes in a
// stream, and returns its tar.
func measure(t *testing.T, name, dir string, exclude ...string) string {
	t.Helper()
	want, err := PackedBytes(t.Context(), dir, exclude...)
	must(t, err)
	var files, out bytes.Buffer
	must(t, PackAsOf(t.Context(), dir, &files, time.Time{}, exclude...))
	w, err := NewWriter(&out, filesManifest())
	must(t, err)
	before := w.Written()
	must(t, w.Tree(bytes.NewReader(files.Bytes())))
	if got := w.Written() - before; got != want {
		t.Errorf("%s: %d bytes, %d were said", name, got, want)
	}
	must(t, w.Close())

	_, got, err := walkStream(&out)
	if err != nil || !bytes.Equal(bytes.TrimRight(got.files.Bytes(), "\x00"), bytes.TrimRight(files.Bytes(), "\x00")) {
		t.Errorf("%s: %v, %d bytes of files came back of %d", name, err, got.files.Len(), files.Len())
	}
	return files.String()
}

func TestSocketsTakeNothing(t *testing.T) {
	dir, err := os.MkdirTemp("/tmp", "transport-") // a socket's path is short
	must(t, err)
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("unix", filepath.Join(dir, "Total bytes written: 1"))
	must(t, err)
	defer l.Close()
	if entries, err := readTar(strings.NewReader(measure(t, "a socket", dir))); err != nil || len(entries) != 1 {
		t.Errorf("%v: %d members, want the folder alone", err, len(entries))
	}
}

func TestWhatIsLeftOutTakesNothing(t *testing.T) {
	dir := t.TempDir()
	shell(t, dir, `mkdir lost+found sub sub/lost+found; touch lost+found/x sub/lost+found/kept '[x]' x`)
	entries, err := readTar(strings.NewReader(measure(t, "excluded", dir, "./lost+found", "./[x]")))
	must(t, err)
	var names []string
	for _, e := range entries {
		names = append(names, e.head.Name)
	}
	if got := strings.Join(names, " "); got != "./ ./sub/ ./sub/lost+found/ ./sub/lost+found/kept ./x" {
		t.Errorf("packed %s", got)
	}
}

func TestAFolderThatCantBePackedIsAnError(t *testing.T) {
	gone := filepath.Join(t.TempDir(), "gone")
	if _, err := PackedBytes(t.Context(), gone); err == nil || !strings.Contains(err.Error(), "measure "+gone) {
		t.Errorf("measured: %v", err)
	}
	if err := Pack(t.Context(), gone, &bytes.Buffer{}); err == nil || !strings.Contains(err.Error(), "pack "+gone) {
		t.Errorf("packed: %v", err)
	}
	if err := Unpack(t.Context(), strings.NewReader(tree(t)), gone); err == nil || !strings.Contains(err.Error(), "unpack into "+gone) {
		t.Errorf("unpacked: %v", err)
	}
}

// What others made may be in any of GNU tar's formats, sparse files too.
func TestGNUTarsFormatsPassByteForByte(t *testing.T) {
	dir := t.TempDir()
	shell(t, dir, "mkdir tree; cd tree; "+trees["many holes"]+"; truncate -s 9G huge; echo x >> huge; touch $(printf '%0100d' 1); ln -s $(printf '%0150d' 2) link")
	for _, format := range []string{"gnu", "oldgnu", "posix", "posix --sparse-version=0.0", "posix --sparse-version=0.1", "posix --sparse-version=1.0"} {
		shell(t, dir, "tar -C tree --sparse -b1 -cf files.tar --format="+format+" .")
		files, err := os.ReadFile(filepath.Join(dir, "files.tar"))
		must(t, err)
		_, got, err := walkStream(bytes.NewReader(files))
		if err != nil || got.kind != Tar || !bytes.Equal(got.files.Bytes(), files) {
			t.Errorf("%s: %v, %d bytes came back of %d", format, err, got.files.Len(), len(files))
		}
	}
	for _, format := range []string{"ustar", "v7"} {
		shell(t, dir, "rm -f tree/huge; tar -C tree -cf files.tar --exclude=./link --exclude='./000*' --format="+format+" .")
		files, err := os.ReadFile(filepath.Join(dir, "files.tar"))
		must(t, err)
		if _, got, err := walkStream(bytes.NewReader(files)); err != nil || !bytes.HasPrefix(files, got.files.Bytes()) {
			t.Errorf("%s: %v, %d bytes came back of %d", format, err, got.files.Len(), len(files))
		}
	}
}

func TestASparseFileIsStoredWithoutItsHoles(t *testing.T) {
	dir := t.TempDir()
	shell(t, dir, "truncate -s 9G huge; echo x >> huge")
	files := measure(t, "sparse", dir)
	if len(files) > 64<<10+WriteBytes {
		t.Errorf("%d bytes of tar for one block of data", len(files))
	}
	w := newWalker(strings.NewReader(files))
	for _, want := range []string{"./", "./GNUSparseFile."} {
		if m, err := w.next(); err != nil || !strings.HasPrefix(m.name, want) || m.size > 16<<10 {
			t.Errorf("member %s of %d bytes, %v, want %s", m.name, m.size, err, want)
		}
	}
}
