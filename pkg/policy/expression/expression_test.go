package expression

import (
	"errors"
	"strings"
	"testing"
	"time"
)

func variables(object any) *Variables {
	return &Variables{
		Request: Request{
			Verb: "create", Resource: "pods", Name: "web",
			User: User{Name: "system:serviceaccount:agents:bot", Groups: []string{"system:authenticated", "team"}},
		},
		Object: object,
		Agent:  Agent{Name: "bot", Owner: "jane", Labels: map[string]string{"tier": "trial"}},
	}
}

func pod() map[string]any {
	return map[string]any{
		"metadata": map[string]any{"name": "web", "labels": map[string]any{"env": "prod"}},
		"spec": map[string]any{
			"replicas": int64(3),
			"containers": []any{
				map[string]any{"name": "a", "image": "registry/a:1"},
				map[string]any{"name": "b", "securityContext": map[string]any{"privileged": true}},
			},
		},
	}
}

func run(source string, v *Variables) (bool, error) {
	p, err := Compile(source)
	if err != nil {
		return false, err
	}
	return p.Run(v, time.Now().Add(time.Minute))
}

func TestRun(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		source string
		want   bool
		err    error
	}{
		{source: `object.metadata.labels["env"] == "prod"`, want: true},
		{source: `object.metadata.labels.env == "prod"`, want: true},
		{source: `object?.metadata?.labels?.env == "prod"`, want: true},
		{source: `object.metadata.annotations["a"] == nil`, want: true},
		{source: `object.metadata.annotations.a.b.c == "x"`, want: false},
		{source: `oldObject.metadata.labels["env"] == "prod"`, want: false},
		{source: `oldObject == nil`, want: true},
		{source: `object.spec.containers[1].name == "b"`, want: true},
		{source: `object.spec.containers[-1].name == "b"`, want: true},
		{source: `object.spec.containers[7] == nil`, want: true},
		{source: `object.metadata.name.nothing == nil`, want: true},
		{source: `object.spec.replicas < 5`, want: true},
		{source: `object.spec.replicas == 3`, want: true},
		{source: `object.spec.replicas + 1 == 4`, want: true},
		{source: `object.spec.missing < 5`, err: ErrEvaluation},
		{source: `object.spec.missing`, err: ErrEvaluation},
		{source: `any(object.spec.containers, .securityContext.privileged == true)`, want: true},
		{source: `any(object.spec.containers, #.securityContext.privileged == true)`, want: true},
		{source: `all(object.spec.containers, .image startsWith "registry/")`, want: false},
		{source: `all(object.spec.missing, true)`, err: ErrEvaluation},
		{source: `all(object.spec.missing ?? [], true)`, want: true},
		{source: `count(object.spec.containers, any(keys(#), # == "image")) == 1`, want: true},
		{source: `object.metadata.name matches "^w.b$"`, want: true},
		{source: `object.metadata.missing matches "^w.b$"`, want: false},
		{source: `request.name in ["web", "db"]`, want: true},
		{source: `"team" in request.user.groups`, want: true},
		{source: `any(request.user.groups, # startsWith "te")`, want: true},
		{source: `agent.labels["tier"] == "trial" and agent.owner == "jane"`, want: true},
		{source: `agent.labels["none"] == nil`, want: true},
		{source: `"env" in object.metadata.labels`, want: true},
		{source: `object.metadata.missing in ["", "x"]`, want: false},
		{source: `object.spec.replicas in ["a", "b"]`, want: false},
		{source: `object.spec.replicas in [1, 3]`, want: true},
		{source: `object.spec.replicas not in [1, 3]`, want: false},
		{source: `object.metadata == {"name": "web", "labels": {"env": "prod"}}`, want: true},
		{source: `object.spec.containers != oldObject.spec.containers`, want: true},
		{source: `object.spec.containers == object.spec.containers`, want: true},
		{source: `object.spec.replicas * 2 - 1 == 5 and -object.spec.replicas == -3`, want: true},
		{source: `object.spec.replicas + 9223372036854775807 > 10`, err: ErrEvaluation},
		{source: `object.spec.replicas * 9223372036854775807 > 10`, err: ErrEvaluation},
		{source: `"env" in object.metadata.annotations`, want: false},
		{source: `let l = object.metadata.labels; l.env + "-x" == "prod-x"`, want: true},
		{source: `split(object.metadata.name, "e")[0] == "w"`, want: true},
		{source: `object.spec.replicas ? true : false`, err: ErrEvaluation},
		{source: `namespace.metadata.labels.env != "prod"`, want: true},
		{source: `len(object.spec.containers) == 2 && !request.dryRun`, want: true},
	} {
		t.Run(test.source, func(t *testing.T) {
			t.Parallel()
			got, err := run(test.source, variables(pod()))
			if got != test.want || !errors.Is(err, test.err) {
				t.Errorf("got %t, %v, want %t, %v", got, err, test.want, test.err)
			}
		})
	}
}

func TestCompileRefuses(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ source, want string }{
		{`object.`, `line 1, column 7: unexpected end of expression`},
		{"request.name ==\n  oject.name", `line 2, column 3: unknown name oject`},
		{`request.frob == "x"`, `line 1, column 9: type expression.Request has no field frob`},
		{`request.name == 3`, `line 1, column 14: invalid operation: == (mismatched types string and int)`},
		{`request.name`, `the expression gives a string; want true or false`},
		{`repeat("a", 3) == ""`, `line 1, column 1: function repeat is not allowed in policies`},
		{`now() == nil`, `line 1, column 1: function now is not allowed in policies`},
		{`toJSON(object) == ""`, `line 1, column 1: function toJSON is not allowed in policies`},
		{`frob(object)`, `line 1, column 1: unknown function frob`},
		{`object.metadata.f()`, `line 1, column 17: only functions can be called, not values`},
		{`any(1..100000, true)`, `line 1, column 6: ranges are not allowed; loop over a list of the object`},
		{`any(object.a, any(object.b, any(object.c, true)))`, `line 1, column 43: loops are nested deeper than 2`},
		{`request.name matches object.name`, `line 1, column 14: matches wants a regular expression that is written out`},
		{`request.name matches "("`, "line 1, column 14: matches: error parsing regexp: missing closing ): `(`"},
		{`max(object.a) == 1`, `line 1, column 1: function max is not allowed in policies`},
		{`request.name matches "(a{0,500}){0,2}(b{0,500}){0,2}"`, "line 1, column 14: matches: the regular expression has 4014 steps; want at most 1000: repeat less"},
		{`$env.request.name == ""`, `line 1, column 1: $env is not for expressions; use request, object, oldObject, agent, namespace or target`},
		{`__meter == nil`, `line 1, column 1: names that start with __ are not for expressions`},
		{`"` + strings.Repeat("a", MaxSource) + `" == ""`, `the expression has 8200 bytes; want at most 8192`},
	} {
		_, err := Compile(test.source)
		var compile *CompileError
		if !errors.As(err, &compile) || err.Error() != test.want {
			t.Errorf("Compile(%.60q) = %v, want %s", test.source, err, test.want)
		}
	}
}

// TestDeadline runs expressions that would take seconds to hours.
func TestDeadline(t *testing.T) {
	t.Parallel()
	items := make([]any, 20000)
	for i := range items {
		items[i] = int64(i)
	}
	big := strings.Repeat("x", 3<<20)
	object := map[string]any{"items": items, "big": big}
	for _, source := range []string{
		`any(object.items, any(object.items, # == -1))`,
		`all(object.items, len(filter(object.items, # != 3)) == 19999)`,
		`len(map(object.items, map(object.items, #))) == 0`,
		`any(object.items, let x = #; any(object.items, # == x and object.big contains "y"))`,
		`let a=[1,1,1,1,1,1,1,1,1,1]; let b=[a,a,a,a,a,a,a,a,a,a]; let c=[b,b,b,b,b,b,b,b,b,b]; let d=[c,c,c,c,c,c,c,c,c,c]; let e=[d,d,d,d,d,d,d,d,d,d]; let f=[e,e,e,e,e,e,e,e,e,e]; let g=[f,f,f,f,f,f,f,f,f,f]; let h=[g,g,g,g,g,g,g,g,g,g]; let i=[h,h,h,h,h,h,h,h,h,h]; i == i`,
		`all(object.items, object == object)`,
		`any(object.items, "zz" in object.items)`,
		strings.Repeat(`lower(object.big) == "a" or `, 250) + `false`,
		`let b = object.big; ` + strings.Repeat(`upper(b) contains "yx" or `, 280) + `upper(b) == lower(b)`,
	} {
		start := time.Now()
		_, err := run(source, variables(object))
		if took := time.Since(start); !errors.Is(err, ErrDeadline) || took > 2*time.Second {
			t.Errorf("%.60s: error %v after %s, want ErrDeadline soon after %s", source, err, took, MaxTime)
		}
	}
}

func TestBounds(t *testing.T) {
	t.Parallel()
	object := map[string]any{"big": strings.Repeat("x", MaxText+1), "half": strings.Repeat("x", MaxText/2+1)}
	for _, source := range []string{
		`object.big matches "y"`,
		`len(split(object.big, "")) > 0`,
		`object.half matches "a{0,200}b{0,200}c"`,
		`object.half + object.half == ""`,
		`let a = object.half; a + a == ""`,
	} {
		if _, err := run(source, variables(object)); !errors.Is(err, ErrEvaluation) {
			t.Errorf("%s: error %v, want ErrEvaluation", source, err)
		}
	}
}

// TestNoValueInErrors fails where the virtual machine quotes what it failed on.
func TestNoValueInErrors(t *testing.T) {
	t.Parallel()
	object := map[string]any{"data": map[string]any{"password": "hunter2"}}
	for _, source := range []string{
		`object.data.password < 3`, `int(object.data.password) == 1`, `object.data.password`,
		`all(object.data.password, # == 1 < 3)`, `-object.data.password == 1`,
	} {
		_, err := run(source, variables(object))
		if err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%s: error %v, want one without the value", source, err)
		}
	}
}

func FuzzCompile(f *testing.F) {
	for _, seed := range []string{
		`object.metadata.labels["env"] == "prod"`, `any(object.spec.containers, .image matches "x")`,
		`let a = 1; a + 1 == 2`, `request.name ?? "x" == "y"`, `map(object.a, {"x": #})[0].x == nil`,
		`object[1:3] == nil`, `not (1 in [1,2]) or 5 % 2 == 1`, `if object == nil { true } else { false }`,
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, source string) {
		p, err := Compile(source)
		if err != nil {
			var compile *CompileError
			if !errors.As(err, &compile) {
				t.Fatalf("error %v is no CompileError", err)
			}
			return
		}
		start := time.Now()
		got, err := p.Run(variables(pod()), time.Now().Add(time.Minute))
		if err != nil && got {
			t.Fatal("true beside an error")
		}
		if took := time.Since(start); took > 5*time.Second {
			t.Fatalf("took %s", took)
		}
	})
}
