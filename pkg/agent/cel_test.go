package agent

import "github.com/google/cel-go/cel"

// celRequest declares the variable that the API server gives to match conditions.
func celRequest() cel.EnvOption { return cel.Variable("request", cel.DynType) }
