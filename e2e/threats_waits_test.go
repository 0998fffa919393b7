package e2e

// What cases wait for, as their Waits says it. Once it is there, it is emptied, and they are
// played.
const (
	waitsAuthorizer = ""
	waitsLogs       = "a rule about logs"
	waitsSignatures = ""
)
