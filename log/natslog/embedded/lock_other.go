//go:build !unix || solaris || aix

package embedded

import "os"

// lock does nothing: there is no lock on this system.
func lock(*os.File) (bool, error) { return true, nil }
