package e2e

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/holdfast-dev/holdfast/pkg/apis/v1alpha1"
)

const (
	holdUnreadable = "baseline-secrets/hold-unreadable"
	holdEphemeral  = "baseline-pods/hold-ephemeral-containers"
)

// containerWith is a container with more fields.
func containerWith(name, more string) string {
	return `{"name":"` + name + `","image":"registry.invalid/c:1",` + more + `}`
}

// podSpecWith is a pod spec with more fields in its container.
func podSpecWith(more string) string { return `{"containers":[` + containerWith("c", more) + `]}` }

const (
	variable  = `"env":[{"name":"A","valueFrom":{"secretKeyRef":{"name":"password","key":"password"}}}]`
	variables = `"envFrom":[{"secretRef":{"name":"password"}}]`
	inVolume  = `"volumes":[{"name":"v","secret":{"secretName":"password"}}],`
)

// volumeWays mount a Secret; envWays put it into a container's environment.
func volumeWays() []way {
	return []way{
		{name: "secret", spec: podSpec(inVolume), shows: `"secret":{"secretName":"password"`, rule: holdUnreadable},
		{
			name: "projected", rule: holdUnreadable, shows: `"sources":[{"secret":{"name":"password"`,
			spec: podSpec(`"volumes":[{"name":"v","projected":{"sources":[{"secret":{"name":"password"}}]}}],`),
		},
		{
			name: "subPath", rule: holdUnreadable, shows: `"secret":{"secretName":"password"`,
			spec: `{` + inVolume + `"containers":[` + containerWith("c", `"volumeMounts":[{"name":"v","mountPath":"/a","subPath":"password"}]`) + `]}`,
		},
	}
}

func envWays() []way {
	of := func(name, before, shows string) way {
		return way{name: name, spec: before, shows: shows, rule: holdUnreadable}
	}
	return []way{
		of("env", `{"containers":[`+containerWith("c", variable)+`]}`, `"secretKeyRef":{`),
		of("envFrom", `{"containers":[`+containerWith("c", variables)+`]}`, `"secretRef":{"name":"password"}`),
		of("env of an init container", podSpec(`"initContainers":[`+containerWith("i", variable)+`],`), `"secretKeyRef":{`),
		of("envFrom of a sidecar", podSpec(`"initContainers":[`+containerWith("i", `"restartPolicy":"Always",`+variables)+`],`), `"secretRef":{"name":"password"}`),
	}
}

// mountThreats have a pod read for its author.
func mountThreats() []Threat {
	mounts, envs := everywhere(volumeWays(), newSecret()), everywhere(envWays(), newSecret())
	pod := carriers()[0]
	mounts = append(
		mounts,
		Trial{
			Name: "what is not there yet", Rule: holdUnreadable, // whoever makes it later fills the volume
			Attempt: pod.create(podSpec(strings.Replace(inVolume, `"password"`, `"password","optional":true`, 1))),
			Effect:  objectThere(pod.path()), Target: pod.path(),
		},
		granted("what was granted", "secrets/password", pod.create(podSpec(inVolume)), objectHas(pod.path(), `"secretName":"password"`)),
	)
	// By RBAC alone everybody reads ConfigMaps here.
	mounts = append(mounts, Trial{
		Name: "a ConfigMap that it may read", Want: Allowed, Prepare: []call{newConfigMap("settings")},
		Attempt: pod.create(podSpec(`"volumes":[{"name":"v","configMap":{"name":"settings"}}],`)), Effect: objectThere(pod.path()),
	})
	envs = append(envs, ephemeral("an ephemeral container", variables, holdUnreadable, `"secretRef":{"name":"password"}`), Trial{
		Name: "an ephemeral container, somebody's kind", Rule: holdUnreadable, Prepare: []call{newSecret()},
		Attempt: httpPost(runners, runnerBody("v1", "mine", templateSpec(podSpec(`"ephemeralContainers":[`+containerWith("e", variables)+`],`)))),
		Effect:  objectThere(runners + "/mine"), Target: runners + "/mine",
	})
	return []Threat{
		{ID: "S04", Title: "volumes: secret, projected, subPath", Verdict: Held, AtOnce: true, Trials: mounts, Control: noPods},
		{ID: "S05", Title: "env and envFrom of any container", Verdict: Held, AtOnce: true, Trials: envs, Control: noPods},
		templatesThatMount(), pullSecrets(),
	}
}

// noPods is the control of what pods or other people's controllers would do.
const (
	noPods       = "no kubelet runs here: the API server takes the object, with all of what it asks for"
	noController = "the controller is not there: the API server takes the object, with all of what it asks for"
)

// ephemeral is the trial of a container in a pod that runs.
func ephemeral(name, more, rule, shows string) Trial {
	return Trial{
		Name: name, Rule: rule, Prepare: []call{newSecret(), newPod("victim")},
		Attempt: strategicPatch(pods+"/victim/ephemeralcontainers", `{"spec":{"ephemeralContainers":[`+containerWith("e", more)+`]}}`),
		Effect:  objectHas(pods+"/victim", shows), Target: pods + "/victim",
	}
}

// templatesThatMount: templates of what is there get a Secret, or other programs beside one.
func templatesThatMount() Threat {
	threat := Threat{ID: "S06", Title: "pod templates of every controller", Verdict: Held, AtOnce: true, Control: noPods}
	const volume = `[{"name":"v","secret":{"secretName":"password"}}]`
	for _, k := range carriers() {
		if k.at == "" || k.kind == "Pod" {
			continue
		}
		threat.Trials = append(threat.Trials, Trial{
			Name: "a volume, " + k.kind, Rule: holdUnreadable, Prepare: []call{newSecret(), k.create(podSpec(""))},
			Attempt: k.change("volumes", volume), Effect: objectHas(k.path(), `"secretName":"password"`), Target: k.path(),
		})
	}
	threat.Trials = append(threat.Trials, reimaged("another image", podSpec(inVolume), holdUnreadable, "", newSecret())...)
	web := carriers()[4]
	made := []call{newSecret(), web.create(podSpec(inVolume))}
	threat.Trials = append(threat.Trials, Trial{
		Name: "replicas of what mounts it", Want: Allowed, Prepare: made,
		Attempt: mergePatch(web.path(), `{"spec":{"replicas":1}}`), Effect: fieldIs(web.path(), "spec.replicas", 1),
	}, Trial{
		Name: "a restart of what mounts it", Want: Allowed, Prepare: made,
		Attempt: mergePatch(web.path(), `{"spec":{"template":{"metadata":{"annotations":{"kubectl.kubernetes.io/restartedAt":"now"}}}}}`),
		Effect:  objectHas(web.path(), `restartedAt`),
	})
	return threat
}

// pullSecrets are read by the kubelet, and sent to the registry that the image names.
func pullSecrets() Threat {
	const accounts = "/api/v1/namespaces/{ns}/serviceaccounts"
	const pull = `"imagePullSecrets":[{"name":"password"}]`
	trials := everywhere([]way{{name: "in a pod spec", spec: podSpec(pull + ","), shows: pull, rule: holdUnreadable}}, newSecret())
	return Threat{
		ID: "S18", Title: "imagePullSecrets", Verdict: Held, AtOnce: true, Control: noPods,
		Trials: append(trials, makes("of a service account", holdUnreadable, accounts+"/mine", `{"metadata":{"name":"mine"},`+pull+`}`), Trial{
			Name: "of the default service account, afterwards", Rule: holdUnreadable, Prepare: []call{newSecret()},
			Attempt: mergePatch(accounts+"/default", `{`+pull+`}`),
			Effect:  fieldIs(accounts+"/default", "imagePullSecrets.0.name", "password"),
		}),
	}
}

// granted is a trial of what has been asked for ahead, as <resource>/<name> to get.
func granted(name, of string, attempt call, effect func(*scene, answer) error) Trial {
	return Trial{
		Name: name, Want: Allowed, Prepare: []call{newSecret()},
		Ready: func(s *scene) error {
			if s.guarded {
				s.obtain(of)
			}
			return nil
		},
		Attempt: attempt, Effect: effect,
	}
}

// obtain makes the agent ask to get something, and has it approved.
func (s *scene) obtain(of string) {
	s.t.Helper()
	resource, name, _ := strings.Cut(of, "/")
	a := s.send(s.agent, httpPost("/apis/holdfast.dev/v1alpha1/accessrequests", fmt.Sprintf(
		`{"apiVersion":"holdfast.dev/v1alpha1","kind":"AccessRequest","metadata":{"generateName":"asked-"},"spec":{"origin":"Asked","reason":"the case needs it","access":{"verbs":["get"],"apiGroups":[""],"resources":[%q],"namespaces":["{ns}"],"names":[%q],"duration":"10m"}}}`,
		resource, name)))
	if a.code != http.StatusCreated {
		s.t.Fatalf("ask for %s: %s", of, a)
	}
	request := fmt.Sprint(fieldOf(a.object(), "metadata.name"))
	s.phase(request, v1alpha1.Pending)
	s.approve(request)
	may := s.filled(httpPost("/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", fmt.Sprintf(
		`{"spec":{"resourceAttributes":{"verb":"get","resource":%q,"name":%q,"namespace":"{ns}"}}}`, resource, name)))
	s.eventually("what was approved is in force", func() error {
		if a := s.agent.send(s.t.Context(), may); fieldOf(a.object(), "status.allowed") != true {
			return errors.New(a.String())
		}
		return nil
	})
}
