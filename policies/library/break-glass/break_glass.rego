# Tools that are behind glass, by the tenant's label `glass_tools`: asked for in an emergency only, with a reason in the
# metadata and the approval of two people.
package agentbus.modules.break_glass

default allow := false

# Nothing behind glass is asked for.
allow if {
	is_object(input.tenant.labels)
	every tool in input.message.tools { is_string(tool) }
	count(behind_glass) == 0
}

# Parked, since nobody has approved yet.
allow if {
	count(behind_glass) > 0
	reason_given
	not input.approval
}

allow if {
	count(behind_glass) > 0
	reason_given
	count(approvers) >= 2
}

words := {word |
	some part in split(lower(object.get(input.tenant.labels, "glass_tools", "")), ",")
	word := trim_space(part)
	word != ""
}

# `delete` lists `delete_rows`, `deleteRow` and `DELETE`.
behind_glass contains tool if {
	some tool in input.message.tools
	is_string(tool)
	some word in words
	contains(lower(tool), word)
}

reason_given if {
	reason := input.message.metadata.break_glass
	is_string(reason)
	count(trim_space(reason)) in numbers.range(20, 500)
}

# Each counts once, and the sender not at all.
approvers contains approver.id if {
	is_array(input.approval.approvals)
	some approver in input.approval.approvals
	approver.id != input.sender.id
}

obligations := {"deliberate": true, "min_approvals": 2} if count(behind_glass) > 0

reasons contains text if {
	some tool in behind_glass
	not reason_given
	text := sprintf("the tool %s is behind glass (glass_tools): say why in metadata.break_glass, in 20 to 500 letters", [
		substring(tool, 0, 64),
	])
}

reasons contains "two people other than the sender must approve to break the glass" if {
	count(behind_glass) > 0
	input.approval
	count(approvers) < 2
}
