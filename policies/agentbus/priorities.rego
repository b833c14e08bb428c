# Who may call a message critical: those whose part it is to raise an alarm or to act on one.
package agentbus.modules.priorities

everyone := {"low", "normal", "high"}

alarm := {"executive", "judicial", "monitor", "controller"}

default allow := false

allow if input.message.priority in everyone

allow if {
	input.message.priority == "critical"
	some role in input.sender.roles
	role in alarm
}

reasons contains text if {
	not allow
	text := sprintf("priority %s needs one of the roles %s", [
		input.message.priority,
		concat(", ", sort(alarm)),
	])
}
