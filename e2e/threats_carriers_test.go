package e2e

import (
	"errors"
	"fmt"
	"strings"
)

const (
	daemonSets = "/apis/apps/v1/namespaces/{ns}/daemonsets"
	cronJobs   = "/apis/batch/v1/namespaces/{ns}/cronjobs"
	onceJobs   = "/apis/batch/v1/namespaces/{ns}/jobs"
)

// carrier is a kind that carries a pod spec.
type carrier struct {
	kind, collection string
	// object is its body, without metadata: {metadata} and {template} stand for the
	// annotations of the object and of its template, {spec} for the pod spec.
	object string
	// at is where its pod spec is; empty for what cannot be changed afterwards.
	at string
}

const (
	carriedTemplate = `{"metadata":{"labels":{"app":"w"},"annotations":{template}},"spec":{spec}}`
	carriedSelector = `"selector":{"matchLabels":{"app":"w"}},`
)

// carriers are all kinds of workload, and one of somebody's own. None of them makes a pod: they
// have no replicas, or are suspended, or there is no node.
func carriers() []carrier {
	metadata := func(more string) string { return `{"metadata":{"name":"mine","annotations":{metadata}},` + more + `}` }
	workload := func(of string) string { return metadata(`"spec":{` + of + `"template":` + carriedTemplate + `}`) }
	return []carrier{
		{"Pod", pods, `{"metadata":{"name":"mine","annotations":{template}},"spec":{spec}}`, "/spec"},
		{"PodTemplate", podTemplates, metadata(`"template":` + carriedTemplate), "/template/spec"},
		{"ReplicationController", controllers, workload(`"replicas":0,"selector":{"app":"w"},`), "/spec/template/spec"},
		{"ReplicaSet", replicaSets, workload(`"replicas":0,` + carriedSelector), "/spec/template/spec"},
		{"Deployment", deployments, workload(`"replicas":0,` + carriedSelector), "/spec/template/spec"},
		{"StatefulSet", statefulSets, workload(`"replicas":0,` + carriedSelector), "/spec/template/spec"},
		{"DaemonSet", daemonSets, workload(carriedSelector), "/spec/template/spec"},
		{"Job", onceJobs, workload(`"suspend":true,`), ""},
		{
			"CronJob", cronJobs,
			metadata(`"spec":{"schedule":"0 0 1 1 *","suspend":true,"jobTemplate":{"spec":{"template":` + carriedTemplate + `}}}`),
			"/spec/jobTemplate/spec/template/spec",
		},
		{
			"somebody's kind", runners,
			`{"apiVersion":"` + runnerGroup + `/v1","kind":"Runner",` + strings.TrimPrefix(workload(`"replicas":0,`), "{"),
			"/spec/template/spec",
		},
	}
}

// path is that of the object that create makes.
func (k *carrier) path() string { return k.collection + "/mine" }

// create makes an object with a pod spec. Pods of jobs say that they end.
func (k *carrier) create(spec string) call { return k.annotated(spec, "{}", "{}") }

func (k *carrier) annotated(spec, metadata, template string) call {
	if k.kind == "Job" || k.kind == "CronJob" {
		spec = `{"restartPolicy":"Never",` + strings.TrimPrefix(spec, "{")
	}
	return httpPost(k.collection, strings.NewReplacer("{metadata}", metadata, "{template}", template, "{spec}", spec).Replace(k.object))
}

// change replaces a field of the pod spec, or of its first container.
func (k *carrier) change(field, value string) call {
	return jsonPatch(k.path(), fmt.Sprintf(`[{"op":"add","path":%q,"value":%s}]`, k.at+"/"+field, value))
}

// reimage puts another image into the pod spec.
func (k *carrier) reimage() call { return k.change("containers/0/image", `"registry.invalid/mine:2"`) }

// objectHas is the effect that an object has some text in it, as the API server writes JSON. What
// it drops from an object is not in it.
func objectHas(path, text string) func(*scene, answer) error {
	return func(s *scene, _ answer) error {
		a := s.read(path)
		if !a.ok() {
			return errors.New(a.String())
		}
		if !strings.Contains(a.body, s.expand(text)) {
			return fmt.Errorf("%s does not have %s: %s", s.expand(path), text, a)
		}
		return nil
	}
}

// way is one way of asking for something in a pod spec.
type way struct {
	name, spec string
	// shows is the part of the object that asks.
	shows string
	// rule is what answers; podRule what answers for Pods where that is another.
	rule, podRule string
}

// everywhere are trials of making each kind of workload in each way.
func everywhere(ways []way, prepare ...call) []Trial {
	var trials []Trial
	for _, w := range ways {
		for _, k := range carriers() {
			rule := w.rule
			if k.kind == "Pod" && w.podRule != "" {
				rule = w.podRule
			}
			trials = append(trials, Trial{
				Name: w.name + ", " + k.kind, Rule: rule, Prepare: prepare,
				Attempt: k.create(w.spec), Effect: objectHas(k.path(), w.shows), Target: k.path(),
			})
		}
	}
	return trials
}

// reimaged are trials of changing what runs in each kind that has it already. rule is empty
// where that is allowed.
func reimaged(name, spec, rule string, want Verdict, prepare ...call) []Trial {
	var trials []Trial
	for _, k := range carriers() {
		if k.at == "" {
			continue
		}
		trials = append(trials, Trial{
			Name: name + ", " + k.kind, Want: want, Rule: rule, Prepare: append(prepare[:len(prepare):len(prepare)], k.create(spec)),
			Attempt: k.reimage(), Effect: objectHas(k.path(), `"image":"registry.invalid/mine:2"`), Target: k.path(),
		})
	}
	return trials
}

// makes is the trial of making an object; its name is the last part of the path.
func makes(name, rule, path, body string) Trial {
	return Trial{Name: name, Rule: rule, Attempt: httpPost(path[:strings.LastIndex(path, "/")], body), Effect: objectThere(path), Target: path}
}
