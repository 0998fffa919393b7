package e2e

// What cases wait for, as their Waits says it. Once it is there, it is emptied, and they are
// played.
const (
	waitsAuthorizer  = "the authorizer"
	waitsLogs        = "a rule about logs"
	waitsPodSecurity = "the rules about what pods may ask of their nodes"
	waitsReferences  = "the rules about what objects refer to"
	waitsSignatures  = "decisions that are signed"
)
