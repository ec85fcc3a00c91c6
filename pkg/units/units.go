// Package units writes sizes for messages.
package units

import "fmt"

// MiB writes a size in bytes, with two decimals when it isn't a whole number of MiB.
func MiB(bytes int64) string {
	if bytes%(1<<20) == 0 {
		return fmt.Sprintf("%d MiB", bytes>>20)
	}
	return fmt.Sprintf("%.2f MiB", float64(bytes)/(1<<20))
}
