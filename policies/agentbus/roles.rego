# Which role may send which type of message. Roles are granted by the operator, never claimed.
#
# Executive proposes, legislative extracts the rules, judicial validates and audits; monitor, auditor,
# controller and implementer do what their names say. An agent without any role takes part, without power.
package agentbus.modules.roles

everyone := {"query", "response", "event", "notification", "heartbeat", "task_response"}

granted := {
	"executive": {"command", "task_request", "governance_request"},
	"legislative": {"governance_response"},
	"judicial": {"constitutional_validation", "governance_response", "audit_log"},
	"monitor": {"governance_request"},
	"auditor": {"audit_log", "governance_request"},
	"controller": {"command", "task_request"},
	"implementer": {"task_request"},
}

default allow := false

allow if input.message.type in everyone

allow if {
	some role in input.sender.roles
	input.message.type in granted[role]
}

reasons contains text if {
	not allow
	senders := [role | some role, types in granted; input.message.type in types]
	text := sprintf("a message of type %s needs one of the roles %s, the sender has %s", [
		input.message.type,
		concat(", ", senders),
		held,
	])
}

held := concat(", ", input.sender.roles) if {
	count(input.sender.roles) > 0
} else := "none"
