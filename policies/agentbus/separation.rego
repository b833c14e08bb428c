# Separation of roles: nobody validates, answers or audits what they or their own role proposed.
package agentbus.modules.separation

# Each branch of government judges another, so no agent may act for two of them.
branches := {"executive", "legislative", "judicial"}

# Who acts cannot keep the record of acts.
acting := {"executive", "controller", "implementer"}

# The acts that judge another's. Everything else passes this module.
judging := {"constitutional_validation", "governance_response"}

governing := {"constitutional_validation", "governance_response", "governance_request"}

separated := governing | {"audit_log"}

default allow := false

allow if {
	input.message.type
	not input.message.type in separated
}

allow if {
	input.message.type in separated
	count(reasons) == 0
}

reasons contains "an agent cannot judge its own proposal" if {
	input.message.type in judging
	input.recipient.id == input.sender.id
}

reasons contains text if {
	input.message.type in judging
	some role in input.sender.roles
	role in input.recipient.roles
	text := sprintf("the role %s cannot judge what the role %s proposed", [role, role])
}

reasons contains text if {
	input.message.type in judging
	not input.recipient.id
	text := sprintf("a message of type %s needs a known recipient", [input.message.type])
}

reasons contains text if {
	input.message.type in governing
	count(held) > 1
	text := sprintf("an agent cannot act for more than one of %s", [concat(", ", sort(held))])
}

held contains role if {
	some role in input.sender.roles
	role in branches
}

reasons contains text if {
	input.message.type == "audit_log"
	some role in input.sender.roles
	role in acting
	text := sprintf("the role %s acts, so it cannot keep the audit log", [role])
}
