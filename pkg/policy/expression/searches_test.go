package expression

import (
	"errors"
	"testing"
	"time"
)

// TestSearchesAreShared: what one evaluation has found the next one gets, and what an
// expression makes is searched anew.
func TestSearchesAreShared(t *testing.T) {
	t.Parallel()
	v := variables(decoded(t, refers))
	v.OldObject, v.Target = decoded(t, refers), decoded(t, refers)
	v.Searches = NewSearches()
	const source = `len(references(object)) == 4 and references(oldObject) == references(target) and podSpecs(object) == podSpecs(oldObject)
		and podSecurity(object, "baseline") != podSecurity(object, "restricted")
		and len(references({"spec": {"secretRef": {"name": "a"}}, "metadata": object.metadata})) == 1 and len(podSpecs(object.spec)) == 1`
	for range 2 {
		if got, err := run(source, v); !got || err != nil {
			t.Fatalf("got %t, %v", got, err)
		}
	}
	if n := len(v.Searches.found); n != 7 {
		t.Errorf("%d searches are remembered, want 7", n)
	}
	// Another object has another address.
	v.Object = decoded(t, `{"spec":{"secretRef":{"name":"a"}}}`)
	if got, err := run(`len(references(object)) == 1`, v); !got || err != nil {
		t.Errorf("another object: got %t, %v", got, err)
	}
}

// TestSearchesHaveADeadline: a search that all rules share takes none of a rule's own time,
// but it ends with the deadline, and what has not been found is not remembered.
func TestSearchesHaveADeadline(t *testing.T) {
	t.Parallel()
	large := map[string]any{"list": make([]any, 20_000_000)}
	v := variables(large)
	v.Searches = NewSearches()
	p, err := Compile(`references(object) == []`)
	if err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	if _, err := p.Run(v, time.Now().Add(3*MaxTime)); !errors.Is(err, ErrDeadline) {
		t.Errorf("error %v, want ErrDeadline", err)
	}
	if took := time.Since(start); took < 3*MaxTime || took > 2*time.Second {
		t.Errorf("it took %s, want some more than %s", took, 3*MaxTime)
	}
	if len(v.Searches.found) != 0 {
		t.Error("half a search is remembered")
	}
}
