package fingerprint

import (
	"strings"
	"testing"
)

func setup(t testing.TB) *Hasher {
	t.Helper()
	h, err := New([]byte(strings.Repeat("k", KeyMin)), "cluster")
	if err != nil {
		t.Fatal(err)
	}
	return h
}
