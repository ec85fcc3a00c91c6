package transport

import "fmt"

// cutOff is a stream that ends before its end; it wraps io.ErrUnexpectedEOF.
type cutOff struct {
	offset int64
	err    error
}

func (c *cutOff) Error() string {
	return fmt.Sprintf("the backup is cut off at byte %d: copy it anew, whole", c.offset)
}

func (c *cutOff) Unwrap() error { return c.err }
