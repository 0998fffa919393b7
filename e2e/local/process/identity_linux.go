package process

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"syscall"
)

// startTime is the boot and the clock ticks since it: proc(5), field 22 of stat.
func startTime(pid int) (string, error) {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	// ESRCH: it ended between open and read.
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return "", ErrGone
	}
	if err != nil {
		return "", err
	}
	state, ticks, err := parseStat(string(stat))
	if err != nil {
		return "", err
	}
	if state == "Z" || state == "X" {
		return "", ErrGone
	}
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(boot)) + "/" + ticks, nil
}

// parseStat returns a process's state and start time. Its name, in parentheses, may hold
// spaces and parentheses itself.
func parseStat(stat string) (state, ticks string, err error) {
	end := strings.LastIndexByte(stat, ')')
	fields := strings.Fields(stat[end+1:])
	// The first field after the name is field 3.
	if end < 0 || len(fields) < 20 {
		return "", "", fmt.Errorf("cannot read its stat %q", stat)
	}
	return fields[0], fields[19], nil
}
