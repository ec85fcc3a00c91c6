package pattern

import (
	"fmt"
	"strconv"
)

// maxPlain is how many bytes of a guest's text a message repeats.
const maxPlain = 256

// Quote is a text that a guest or a stream brought, for a message: quoted, in ASCII,
// and cut to 256 bytes with a note of how many there were.
func Quote(text string) string {
	if len(text) <= maxPlain {
		return strconv.QuoteToASCII(text)
	}
	return fmt.Sprintf("%s… (%d bytes)", strconv.QuoteToASCII(text[:maxPlain]), len(text))
}

// Plain is Quote for what is usually a plain word: that stays as it is.
func Plain(text string) string {
	if q := Quote(text); q != `"`+text+`"` {
		return q
	}
	return text
}
