package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// fieldOf follows a path of keys and indexes through decoded JSON; nil where it ends early.
func fieldOf(v any, path string) any {
	for key := range strings.SplitSeq(path, ".") {
		switch now := v.(type) {
		case map[string]any:
			v = now[key]
		case []any:
			i, err := strconv.Atoi(key)
			if err != nil || i >= len(now) {
				return nil
			}
			v = now[i]
		default:
			return nil
		}
	}
	return v
}

// objectGone is the effect that an object is not there any more.
func objectGone(path string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		if a := s.read(path); a.code != http.StatusNotFound {
			return fmt.Errorf("%s is there: HTTP %d", s.expand(path), a.code)
		}
		return nil
	}
}

// objectThere is the effect that an object is there.
func objectThere(path string) func(*scene, answer) error {
	return func(s *scene, _ answer) error { return s.exists(path) }
}

// fieldIs is the effect that a field of an object has a value; nil: that it has none.
func fieldIs(path, field string, want any) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		a := s.read(path)
		if !a.ok() {
			return errors.New(a.String())
		}
		got := fieldOf(a.object(), field)
		if (want == nil) != (got == nil) || (want != nil && fmt.Sprint(got) != s.expand(fmt.Sprint(want))) {
			return fmt.Errorf("%s of %s is %v, want %v", field, s.expand(path), got, want)
		}
		return nil
	}
}

// objectNamed is the effect that the collection has an object whose name starts so.
func objectNamed(path, prefix string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		if names := s.names(path); !slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(name, prefix) }) {
			return fmt.Errorf("%s has %v, want %s…", s.expand(path), names, prefix)
		}
		return nil
	}
}

// collectionEmpty is the effect that nothing is left of a collection.
func collectionEmpty(path string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		if names := s.names(path); len(names) > 0 {
			return fmt.Errorf("%s has %v", s.expand(path), names)
		}
		return nil
	}
}
