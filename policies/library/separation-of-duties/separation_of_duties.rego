# Which duties one agent must not join, by the tenant's labels: roles that exclude each other, and tools for which
# somebody of another role must have approved.
package agentbus.modules.separation_of_duties

default allow := false

allow if {
	is_object(input.tenant.labels)
	is_array(input.sender.roles)
	every tool in input.message.tools { is_string(tool) }
	count(reasons) == 0
}

listed(text) := {word | some part in split(text, ","); word := trim_space(part); word != ""}

# `implementer+auditor` is two roles that nobody may hold together.
apart := {pair: roles |
	some pair in listed(object.get(input.tenant.labels, "duties_apart", ""))
	roles := {role | some part in split(pair, "+"); role := trim_space(part); role != ""}
}

held := {role | is_array(input.sender.roles); some role in input.sender.roles}

words := listed(lower(object.get(input.tenant.labels, "duties_second_tools", "")))

# `transfer` lists `transfer_funds`, `wireTransfer` and `TRANSFER`.
needs_second contains tool if {
	some tool in input.message.tools
	is_string(tool)
	some word in words
	contains(lower(tool), word)
}

obligations := {"deliberate": true} if count(needs_second) > 0

# An approver who is not the sender and shares no role with it.
second if {
	is_array(input.approval.approvals)
	some approver in input.approval.approvals
	approver.id != input.sender.id
	is_array(approver.roles)
	count({role | some role in approver.roles} & held) == 0
}

reasons contains text if {
	some pair, roles in apart
	count(roles) < 2
	text := sprintf("the label duties_apart holds %s, expected roles joined by + (implementer+auditor)", [pair])
}

reasons contains text if {
	some roles in apart
	count(roles) > 1
	count(roles - held) == 0
	text := sprintf("the sender holds the roles %s, which duties_apart of the tenant's labels keeps apart", [
		concat(" and ", sort(roles)),
	])
}

reasons contains text if {
	some tool in needs_second
	input.approval
	not second
	text := sprintf("the tool %s needs the approval of somebody who shares no role with the sender", [
		substring(tool, 0, 64),
	])
}
