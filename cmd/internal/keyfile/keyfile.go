// Package keyfile reads keys from files, and makes those that are not there.
//
// A key that is made appears whole or not at all, and never replaces another: several processes
// may look for the same file at once. It refuses to make up a key without a file to keep it in.
package keyfile

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Read returns what is in the file. Where there is no file, it makes one with mode 0600 that
// has 260 random bits in 52 letters and digits.
func Read(file string) ([]byte, error) {
	return ReadOrMake(file, []byte(rand.Text()+rand.Text()))
}

// ReadOrMake is Read for a key of the caller's own form.
func ReadOrMake(file string, key []byte) ([]byte, error) {
	data, err := os.ReadFile(file)
	if !errors.Is(err, fs.ErrNotExist) {
		return data, err
	}
	if err := create(file, key); err != nil {
		return nil, err
	}
	return os.ReadFile(file) // another process may have been first
}

func create(file string, key []byte) error {
	temp, err := os.CreateTemp(filepath.Dir(file), ".key-*") // mode 0600
	if err != nil {
		return fmt.Errorf("creating: %w", err)
	}
	defer func() { _ = os.Remove(temp.Name()) }() // the key has a name of its own by then
	_, err = temp.Write(key)
	err = errors.Join(err, temp.Sync(), temp.Close())
	if err != nil {
		return fmt.Errorf("writing: %w", err)
	}
	if err := os.Link(temp.Name(), file); err != nil && !errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("naming: %w", err)
	}
	return nil
}
