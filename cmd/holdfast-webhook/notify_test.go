package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"
)

// TestNotifyFlags: who is told, and what is said about flags that cannot work.
func TestNotifyFlags(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		name  string
		args  []string
		tells bool
		want  string
	}{
		{"none", nil, false, ""},
		{"a URL", []string{"--notify-url=https://chat/x"}, true, ""},
		{"no URL", []string{"--notify-header-file=" + empty}, false, "--notify-header-file, --notify-ca-file: want --notify-url with them"},
		{"no CA file", []string{"--notify-url=https://chat/x", "--notify-ca-file=" + dir + "/none"}, false, "--notify-ca-file: open " + dir + "/none: no such file or directory"},
		{
			"no certificate", []string{"--notify-url=https://chat/x", "--notify-ca-file=" + empty}, false,
			"--notify-url, --notify-header-file, --notify-ca-file: notify: CA: want certificates in PEM",
		},
		{
			"no header", []string{"--notify-url=https://chat/x", "--notify-header-file=" + empty}, false,
			"--notify-url, --notify-header-file, --notify-ca-file: notify: header file " + empty + ": want one line, Name: value",
		},
	} {
		var c notifyConfig
		flags := pflag.NewFlagSet(test.name, pflag.ContinueOnError)
		c.flags(flags)
		if err := flags.Parse(test.args); err != nil {
			t.Fatal(err)
		}
		receiver, err := c.receiver("uid")
		if (receiver != nil) != test.tells || (err == nil) != (test.want == "") || (err != nil && err.Error() != test.want) {
			t.Errorf("%s: receiver %t, error %v, want %t and %q", test.name, receiver != nil, err, test.tells, test.want)
		}
	}
}
