package boltlog

import "os"

const childEnv = "SSE_BOLTLOG_CHILD"

func runChild(string) int { return len(os.Args) }
