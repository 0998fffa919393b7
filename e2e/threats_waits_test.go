package e2e

// What cases wait for, as their Waits says it. Once it is there, it is emptied, and they are
// played.
const (
	waitsAuthorizer  = "for the authorizer"
	waitsLogs        = "for a rule about logs"
	waitsPodSecurity = "for the rules about what pods may ask of their nodes"
	waitsReferences  = "for the rules about what objects refer to"
	waitsSignatures  = "for decisions that are signed"
)
