package main

import (
	"context"
	"errors"
	"fmt"
	"net"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// explain adds to an API error what can be done about it. doing says what failed, as
// "approve NAME".
func explain(doing string, err error) error {
	if err == nil {
		return nil
	}
	var unreachable *net.OpError
	switch {
	case apierrors.IsNotFound(err) && missingKind(err):
		return fmt.Errorf("%s: this cluster does not know Holdfast's kinds (is it the right --context? if so, apply manifests/crds of Holdfast): %w", doing, err)
	case apierrors.IsNotFound(err):
		return fmt.Errorf("%s: there is none of that name (see \"kubectl holdfast get\" and \"kubectl holdfast agents\"): %w", doing, err)
	case apierrors.IsForbidden(err):
		return fmt.Errorf("%s: you may not (\"kubectl auth whoami\" says who you are, \"kubectl auth can-i --list\" what you may): %w", doing, err)
	case apierrors.IsUnauthorized(err):
		return fmt.Errorf("%s: the API server does not know you: log in again, or choose another --context: %w", doing, err)
	case apierrors.IsInvalid(err):
		return fmt.Errorf("%s: %w", doing, err)
	case errors.Is(err, context.DeadlineExceeded), apierrors.IsTimeout(err):
		return fmt.Errorf("%s: the API server did not answer in time; try again: %w", doing, err)
	case errors.As(err, &unreachable):
		return fmt.Errorf("%s: the API server cannot be reached (see --context and --kubeconfig): %w", doing, err)
	}
	return fmt.Errorf("%s: %w", doing, err)
}

// missingKind tells the answer for an unknown resource from that for an unknown object,
// which names the object.
func missingKind(err error) bool {
	var status apierrors.APIStatus
	if !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details == nil || details.Name == ""
}
