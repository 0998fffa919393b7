// Package impact says what a held change would do, in sentences and counts, for the people
// who decide on it: what cannot be undone first, what could not be found out next, and the
// rest by name as far as there is room.
//
// It is pure: what it knows of a cluster is handed to it. It holds names, counts and rules,
// never the contents of objects, and of Secrets not even names. Words that come from objects
// are quoted wherever they could pass for words of its own.
package impact

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Bounds of what is shown; status.affected of an AccessRequest has the same.
const (
	// MaxSentences is how many sentences are shown.
	MaxSentences = 64
	// MaxSentence is how long one may be, in bytes.
	MaxSentence = 1024
	// maxUnclear is how many of those that begin with Unknown stay when others are cut.
	maxUnclear = 8
)

// Beginnings of sentences. No other sentence begins like this.
const (
	// Irreversible begins those about what cannot be undone.
	Irreversible = "cannot be undone: "
	// Unknown begins those about what could not be found out.
	Unknown = "not known: "
	// NewlyAllows begins those about what a change of RBAC allows and did not before.
	NewlyAllows = "newly allows "
)

const tag = "holdfast.dev/impact/v1"

// Impact is what a change would do. The zero value says nothing about it.
type Impact struct {
	// Counts are numbers of objects, by resource as in statefulsets.apps; the object that
	// is changed is one of them. A number is the least that there are where a sentence says
	// that there may be more.
	Counts map[string]int64
	// Affected are at most MaxSentences sentences of at most MaxSentence bytes, what cannot
	// be undone first. Where some are cut, the last one says how many.
	Affected []string
	// Digest is the SHA-256 of all counts and of all sentences before they were cut, in hex;
	// empty where there are none.
	Digest string
}

// rank is the order of sentences.
type rank uint8

const (
	lost      rank = iota // data, for good
	stateful              // what holds data, or is known by its name
	unclear               // what could not be found out
	dangerous             // rights that lead to others, or to secrets
	allowed               // other rights
	named                 // everything else
)

// sentence is one of a Report, whole.
type sentence struct {
	rank rank
	text string
}

// Report gathers what is affected. Its zero value is empty. It is not safe for concurrent
// use; the order in which it is told things does not matter.
type Report struct {
	counts    map[string]int64
	sentences []sentence
}

func (r *Report) say(k rank, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	switch k {
	case lost:
		text = Irreversible + text
	case unclear:
		text = Unknown + text
	case stateful, dangerous, allowed, named:
	}
	r.sentences = append(r.sentences, sentence{k, text})
}

// Count adds n objects of a resource, such as pods or statefulsets.apps.
func (r *Report) Count(resource string, n int64) {
	if r.counts == nil {
		r.counts = map[string]int64{}
	}
	r.counts[resource] += n
}

// Unclear says that something could not be found out, and why: "what is in it", "the API
// server did not answer in time".
func (r *Report) Unclear(what, why string) { r.say(unclear, "%s; %s", what, why) }

// Impact is what has been gathered, in order and bounded.
func (r *Report) Impact() Impact {
	sorted := slices.Clone(r.sentences)
	slices.SortFunc(sorted, func(a, b sentence) int {
		return cmp.Or(cmp.Compare(a.rank, b.rank), strings.Compare(a.text, b.text))
	})
	sorted = slices.Compact(sorted)
	if len(sorted) == 0 && len(r.counts) == 0 {
		return Impact{}
	}
	return Impact{Counts: maps.Clone(r.counts), Affected: bound(sorted), Digest: digest(r.counts, sorted)}
}

// digest writes everything with its length in front, so that no two reports have one
// encoding.
func digest(counts map[string]int64, sorted []sentence) string {
	h := sha256.New()
	number := func(n int64) { _ = binary.Write(h, binary.BigEndian, n) } // a hash takes everything
	text := func(s string) { number(int64(len(s))); h.Write([]byte(s)) }
	text(tag)
	number(int64(len(counts)))
	for _, resource := range slices.Sorted(maps.Keys(counts)) {
		text(resource)
		number(counts[resource])
	}
	for _, s := range sorted {
		number(int64(s.rank))
		text(s.text)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// bound cuts what is too much, from the end, but keeps what says that something is not known.
func bound(sorted []sentence) []string {
	keep := make([]bool, len(sorted))
	kept, unknown := 0, 0
	room := len(sorted)
	if room > MaxSentences {
		room = MaxSentences - 1 // the last one says how many are missing
	}
	for i, s := range sorted {
		if s.rank == unclear && unknown < min(maxUnclear, room) {
			keep[i] = true
			kept++
			unknown++
		}
	}
	for i := range sorted {
		if kept < room && !keep[i] {
			keep[i] = true
			kept++
		}
	}
	shown := make([]string, 0, room+1)
	more, forGood := 0, 0
	for i, s := range sorted {
		switch {
		case keep[i]:
			shown = append(shown, cut(s.text))
		default:
			more++
			if s.rank == lost {
				forGood++
			}
		}
	}
	switch {
	case forGood > 0:
		shown = append(shown, fmt.Sprintf("%s%d more of these, and %d other sentences%s", Irreversible, forGood, more-forGood, notShown))
	case more > 0:
		shown = append(shown, fmt.Sprintf("and %d more sentences, none of them about what cannot be undone%s", more, notShown))
	}
	return shown
}

// cut shortens a sentence to MaxSentence, and says so.
func cut(s string) string {
	if len(s) <= MaxSentence {
		return s
	}
	const room = 40 // for what is appended
	end := MaxSentence - room
	for !utf8.RuneStart(s[end]) {
		end--
	}
	return fmt.Sprintf("%s … (%d%s", s[:end], len(s)-end, bytesMore)
}

// Ends of what stands for what was cut.
const (
	notShown  = ", are not shown"
	bytesMore = " bytes more)"
)

// Cut says whether sentences, as an Impact has them, are not all that there is.
func Cut(affected []string) bool {
	return slices.ContainsFunc(affected, func(s string) bool {
		return strings.HasSuffix(s, notShown) || strings.HasSuffix(s, bytesMore)
	})
}

// statefuls are resources whose loss cannot be undone by applying a manifest again, in the
// order in which people want to see them.
func statefuls() []string {
	return []string{
		"persistentvolumeclaims", "persistentvolumes", "statefulsets.apps",
		"volumesnapshots.snapshot.storage.k8s.io", "volumesnapshotcontents.snapshot.storage.k8s.io",
	}
}

// Stateful says whether a resource holds data, or is known by its name.
func Stateful(resource string) bool { return slices.Contains(statefuls(), resource) }

// Compare orders resources: stateful ones first, and by name.
func Compare(a, b string) int {
	place := func(resource string) int {
		if i := slices.Index(statefuls(), resource); i >= 0 {
			return i
		}
		return len(statefuls())
	}
	return cmp.Or(cmp.Compare(place(a), place(b)), strings.Compare(a, b))
}

// listed is how many names a sentence has; more of them make more sentences.
const listed = 10

// Deletes says by name which objects of a resource are deleted.
func (r *Report) Deletes(resource string, names []string) {
	k := named
	if Stateful(resource) {
		k = stateful
	}
	for part := range slices.Chunk(slices.Sorted(slices.Values(names)), listed) {
		r.say(k, "deletes %s %s", word(resource), quoted(part))
	}
}

// quoted are names in quotes, with commas between them.
func quoted(names []string) string {
	all := make([]string, len(names))
	for i, name := range names {
		all[i] = strconv.Quote(name)
	}
	return strings.Join(all, ", ")
}

// path is namespace/name in quotes; the name alone for what is in no namespace.
func path(namespace, name string) string {
	if namespace == "" {
		return strconv.Quote(name)
	}
	return strconv.Quote(namespace + "/" + name)
}

// word is s as it is where it can only be a name, else in quotes.
func word(s string) string {
	plain := func(c rune) bool {
		return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.ContainsRune("-./*:", c)
	}
	if s == "" || strings.ContainsFunc(s, func(c rune) bool { return !plain(c) }) {
		return strconv.Quote(s)
	}
	return s
}
