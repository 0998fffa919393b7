package expression

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/holdfast-dev/holdfast/pkg/policy/reference"
)

// refers is a pod in prod that refers to two Secrets, one of them twice, and a ConfigMap.
const refers = `{"apiVersion":"v1","kind":"Pod","metadata":{"namespace":"prod","name":"web"},"spec":{
	"containers":[{"name":"c","envFrom":[{"secretRef":{"name":"db"}},{"secretRef":{"name":"own"}},{"configMapRef":{"name":"settings"}}]}],
	"volumes":[{"name":"v","secret":{"secretName":"db"}}]}}`

// reads answers that the agent may read what is called own or settings, and counts.
func reads(asked *[]string) *Reads {
	return NewReads(func(r reference.Reference) (bool, error) {
		*asked = append(*asked, r.String())
		if r.Name == "broken" {
			return false, errors.New("Secret prod/broken holds hunter2")
		}
		return r.Name == "own" || r.Name == "settings", nil
	})
}

func TestReferencesInExpressions(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		source         string
		want           bool
		err            error
		asked, refused string
	}{
		{source: `len(references(object)) == 4`, want: true},
		{source: `references(object)[0] == {"kind": "Secret", "namespace": "prod", "name": "db", "path": "spec.containers[0].envFrom[0].secretRef.name", "via": "EnvFrom"}`, want: true},
		{source: `references(oldObject) == [] and references(object.spec.missing) == []`, want: true},
		{source: `references(object) == references(object)`, want: true},
		{source: `references(object) != references(oldObject)`, want: true},
		{source: `references({"spec": {"secretRef": {"name": "a"}}})[0].namespace == "requested"`, want: true},
		{source: `let old = references(oldObject); any(references(object), # not in old and .via == "Volume")`, want: true},
		{source: `any(references(object), not mayRead(#))`, want: true, asked: "Secret prod/db", refused: "Secret prod/db"},
		{source: `count(references(object), .kind == "Secret" and not mayRead(#)) == 2`, want: true, asked: "Secret prod/db Secret prod/own", refused: "Secret prod/db"},
		{source: `all(references(object), mayRead(#))`, want: false, asked: "Secret prod/db", refused: "Secret prod/db"},
		{source: `mayRead({"kind": "Secret", "namespace": "a", "name": "own"})`, want: true, asked: "Secret a/own"},
		{source: `mayRead({"kind": "Secret", "name": "*"})`, want: false, asked: "Secret */*", refused: "Secret */*"},
		{source: `mayRead({"kind": "Secret", "name": "x"}) or mayRead({"kind": "Secret", "name": "x", "via": "Env"})`, want: false, asked: "Secret */x", refused: "Secret */x"},
		{source: `mayRead({"kind": "Secret", "name": "broken"})`, err: ErrEvaluation, asked: "Secret */broken"},
		{source: `mayRead({"kind": "Secret"})`, err: ErrEvaluation},
		{source: `mayRead({"kind": "Frob", "name": "a"})`, err: ErrEvaluation},
		{source: `mayRead({"kind": "Secret", "name": 3})`, err: ErrEvaluation},
		{source: `mayRead("Secret")`, err: ErrEvaluation},
		{source: `mayRead(object.spec.missing)`, err: ErrEvaluation},
	} {
		t.Run(test.source, func(t *testing.T) {
			t.Parallel()
			var asked []string
			v := variables(decoded(t, refers))
			v.Request.Namespace, v.Reads = "requested", reads(&asked)
			got, err := run(test.source, v)
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %t, %v, want %t, %v", got, err, test.want, test.err)
			}
			if err != nil && strings.Contains(err.Error(), "hunter2") {
				t.Errorf("the error %v quotes the one of the callback", err)
			}
			if strings.Join(asked, " ") != test.asked {
				t.Errorf("asked for %s, want %s", asked, test.asked)
			}
			var refused []string
			for _, r := range v.Reads.Refused() {
				refused = append(refused, r.String())
			}
			if strings.Join(refused, " ") != test.refused {
				t.Errorf("refused %s, want %s", refused, test.refused)
			}
		})
	}
	for _, nobody := range []*Reads{nil, NewReads(nil)} {
		v := variables(decoded(t, refers))
		v.Reads = nobody
		if got, err := run(`mayRead(references(object)[0])`, v); got || !errors.Is(err, ErrEvaluation) {
			t.Errorf("nobody to ask: got %t, %v", got, err)
		}
		if len(nobody.Refused()) != 0 {
			t.Error("nobody refused something")
		}
	}
}

// TestReadsAreShared: the rules of a decision ask once, and each has refusals of its own.
func TestReadsAreShared(t *testing.T) {
	t.Parallel()
	var asked []string
	v := variables(decoded(t, refers))
	v.Reads = reads(&asked)
	for range 3 {
		if got, err := run(`any(references(object), not mayRead(#))`, v); !got || err != nil || len(v.Reads.Refused()) != 1 {
			t.Fatalf("got %t, %v, refused %v", got, err, v.Reads.Refused())
		}
	}
	if got, err := run(`true`, v); !got || err != nil || len(v.Reads.Refused()) != 0 {
		t.Errorf("a rule that did not ask: got %t, %v, refused %v", got, err, v.Reads.Refused())
	}
	if !slices.Equal(asked, []string{"Secret prod/db"}) {
		t.Errorf("asked %s", asked)
	}
}

// TestAskingTakesItsTime: what the callback takes is none of the expression's own time, but
// the deadline holds.
func TestAskingTakesItsTime(t *testing.T) {
	t.Parallel()
	slow := func() *Reads {
		return NewReads(func(reference.Reference) (bool, error) { time.Sleep(2 * MaxTime); return true, nil })
	}
	own := time.Now().Add(MaxTime)
	m := &meter{own: own, deadline: time.Now().Add(time.Minute), variables: &Variables{Reads: slow()}}
	if yes, err := m.mayRead(reference.Reference{Kind: reference.Secret, Name: "a"}); !yes || err != nil {
		t.Errorf("got %t, %v", yes, err)
	}
	if took := m.own.Sub(own); took < 2*MaxTime {
		t.Errorf("asking took %s of the expression's time", 2*MaxTime-took)
	}
	v := variables(map[string]any{"list": make([]any, 2*interval)})
	v.Reads = slow()
	p, err := Compile(`mayRead({"kind": "Secret", "name": "a"}) and len(references(object)) == 0`)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Run(v, time.Now().Add(MaxTime)); !errors.Is(err, ErrDeadline) {
		t.Errorf("error %v, want ErrDeadline", err)
	}
}

func TestReferencesBounds(t *testing.T) {
	t.Parallel()
	many := make([]any, reference.Max+1)
	for i := range many {
		many[i] = map[string]any{"secretName": fmt.Sprintf("s%d", i)}
	}
	for _, test := range []struct {
		name   string
		object any
		err    error
	}{
		{"enough", map[string]any{"list": many[1:]}, nil},
		{"too many", map[string]any{"list": many}, ErrEvaluation},
		{"too large", map[string]any{"list": make([]any, 20_000_000)}, ErrDeadline},
	} {
		if got, err := run(`len(references(object)) > 0`, variables(test.object)); !errors.Is(err, test.err) || got != (test.err == nil) {
			t.Errorf("%s: got %t, %v, want error %v", test.name, got, err, test.err)
		}
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	v := variables(nil)
	v.Target = decoded(t, refers)
	if got, err := run(`target.metadata.name == "web" and len(references(target)) == 4`, v); !got || err != nil {
		t.Errorf("got %t, %v", got, err)
	}
	v.Target = nil
	if got, err := run(`target == nil and references(target) == []`, v); !got || err != nil {
		t.Errorf("no target: got %t, %v", got, err)
	}
	p, err := Compile(`references(target) == []`)
	if err != nil || !p.Target || p.Object {
		t.Errorf("got %+v, %v, want a program that looks at the target", p, err)
	}
}

func TestCompileRefusesFunctions(t *testing.T) {
	t.Parallel()
	for source, want := range map[string]string{
		`references() == nil`:                        "unknown function references",
		`references(object, object) == nil`:          "unknown function references",
		`references == nil`:                          "references is a function; call it with a value",
		`any(object.a, mayRead)`:                     "mayRead is a function; call it with a value",
		`mayRead(object) == 3`:                       "mismatched types bool and int",
		`__mayRead(object)`:                          "unknown function __mayRead",
		`__reads == nil`:                             "names that start with __ are not for expressions",
		`Refused() == nil`:                           "unknown function Refused",
		`podSecurity(object) == []`:                  "unknown function podSecurity",
		`podSecurity(object, "privileged") == []`:    `podSecurity wants "baseline" or "restricted", written out, in the end`,
		`podSecurity(object, request.name) == []`:    `podSecurity wants "baseline" or "restricted", written out, in the end`,
		`podSecurity(object, "base" + "line") == []`: `podSecurity wants "baseline" or "restricted", written out, in the end`,
	} {
		if _, err := Compile(source); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want %q", source, err, want)
		}
	}
}
