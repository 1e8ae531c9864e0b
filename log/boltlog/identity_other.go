//go:build !unix

package boltlog

import "os"

// identify returns nothing that tells f from a copy of it. The marks must do.
func identify(*os.File) (identity, error) { return identity{}, nil }
