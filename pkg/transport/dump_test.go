package transport

import "testing"

// look feeds a dump in pieces of this many bytes.
func look(b []byte, piece int) (*DumpNames, error) {
	d := &DumpNames{}
	for len(b) > 0 {
		n := min(piece, len(b))
		if _, err := d.Write(b[:n]); err != nil {
			return d, err
		}
		b = b[n:]
	}
	return d, nil
}

func FuzzDumpNames(f *testing.F) {
	f.Add([]byte{}, 100)
	f.Fuzz(func(t *testing.T, b []byte, piece int) {
		whole, werr := look(b, len(b)+1)
		parts, perr := look(b, 1+max(0, piece)%5000)
		if (werr == nil) != (perr == nil) || werr == nil && whole.Complete() != parts.Complete() {
			t.Errorf("%v and %v", werr, perr)
		}
	})
}
