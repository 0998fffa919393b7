package reference

import (
	"fmt"
	"testing"
)

// large is an object of a kind with some 50,000 values, as the largest
// CustomResourceDefinitions have.
func large(kind string) map[string]any {
	schema := map[string]any{}
	for i := range 5000 {
		schema[fmt.Sprintf("field%d", i)] = map[string]any{
			"type": "object", "description": "what it is", "x": []any{"a", "b"}, "properties": map[string]any{"a": map[string]any{"type": "string"}},
		}
	}
	return map[string]any{"apiVersion": kind, "kind": "Large", "spec": schema}
}

func BenchmarkFind(b *testing.B) {
	for name, v := range map[string]map[string]any{"built in": large("apiextensions.k8s.io/v1"), "custom": large("x.example.com/v1")} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				if refs, err := Find(v, "n", free); err != nil || len(refs) != 0 {
					b.Fatal(refs, err)
				}
			}
		})
	}
}
