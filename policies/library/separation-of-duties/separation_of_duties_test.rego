package separation_of_duties_test

import data.agentbus.modules.separation_of_duties as module

labels := {"duties_apart": "implementer+auditor, controller + legislative", "duties_second_tools": "transfer,delete"}

from_roles(roles, tools) := {
	"message": {"type": "command", "tools": tools},
	"sender": {"id": "planner", "roles": roles},
	"tenant": {"id": "acme", "labels": labels},
}

approved(given, approvals) := object.union(given, {"approval": {"approvals": approvals}})

transfer := from_roles(["executive"], ["transfer_funds"])

test_one_role_of_a_pair_is_allowed if {
	module.allow with input as from_roles(["implementer"], ["read"])
	module.allow with input as from_roles(["auditor", "controller"], [])
	module.allow with input as from_roles([], [])
}

test_both_roles_of_a_pair_are_denied if {
	both := from_roles(["auditor", "monitor", "implementer"], ["read"])
	not module.allow with input as both
	module.reasons == {concat(" ", [
		"the sender holds the roles auditor and implementer,",
		"which duties_apart of the tenant's labels keeps apart",
	])} with input as both
}

test_blanks_in_the_label_do_not_matter if {
	not module.allow with input as from_roles(["legislative", "controller"], [])
}

test_three_roles_are_apart_when_all_are_held if {
	three := object.union(from_roles(["a", "b"], []), {"tenant": {"labels": {"duties_apart": "a+b+c"}}})
	module.allow with input as three
	not module.allow with input as object.union(three, {"sender": {"roles": ["c", "b", "a"]}})
}

test_other_tools_oblige_to_nothing if {
	not module.obligations with input as from_roles(["executive"], ["read", "send"])
	not module.obligations with input as from_roles(["executive"], [])
}

test_such_a_tool_waits_first if {
	every tool in ["transfer", "TRANSFER_ALL", "mcp__bank__transferFunds", "delete_rows"] {
		module.allow with input as from_roles(["executive"], [tool])
		module.obligations == {"deliberate": true} with input as from_roles(["executive"], [tool])
	}
}

test_somebody_of_another_role_may_approve if {
	module.allow with input as approved(transfer, [{"id": "ann", "roles": ["controller"]}])
	module.allow with input as approved(transfer, [{"id": "ann", "roles": []}])
}

test_approval_by_the_same_role_is_not_enough if {
	same := approved(transfer, [{"id": "ann", "roles": ["executive"]}, {"id": "bob", "roles": ["controller", "executive"]}])
	not module.allow with input as same
	module.reasons == {
		"the tool transfer_funds needs the approval of somebody who shares no role with the sender",
	} with input as same
}

test_one_of_another_role_among_several_is_enough if {
	module.allow with input as approved(transfer, [
		{"id": "ann", "roles": ["executive"]},
		{"id": "bob", "roles": ["auditor"]},
	])
}

test_the_sender_approves_nothing_of_its_own if {
	not module.allow with input as approved(transfer, [{"id": "planner", "roles": []}])
}

test_an_approval_that_cannot_be_read_is_none if {
	every approvals in [[], [{}], ["ann"], [{"roles": ["controller"]}], null] {
		not module.allow with input as approved(transfer, approvals)
	}
}

test_a_tenant_without_labels_is_not_limited if {
	none := {"message": transfer.message, "sender": transfer.sender, "tenant": {"id": "acme", "labels": {}}}
	module.allow with input as none
	not module.obligations with input as none
}

test_a_pair_of_one_denies if {
	every text in ["implementer", "implementer+", "+", "a+a"] {
		not module.allow with input as object.union(transfer, {"tenant": {"labels": {"duties_apart": text}}})
	}
}

test_a_long_name_is_cut_in_the_reason if {
	long := concat("", ["transfer", concat("", [letter | some _ in numbers.range(1, 500); letter := "x"])])
	every reason in module.reasons { count(reason) < 200 } with input as approved(from_roles(["executive"], [long]), [])
}

test_a_label_that_cannot_be_read_has_one_reason if {
	module.reasons == {
		"the label duties_apart holds executive, expected roles joined by + (implementer+auditor)",
	} with input as object.union(transfer, {"tenant": {"labels": {"duties_apart": "executive"}}})
}

test_without_input_it_is_denied if {
	every given in [
		{}, {"message": {"tools": []}}, {"tenant": {"labels": {}}}, from_roles("executive", []),
		from_roles([], [7]),
	] {
		not module.allow with input as given
	}
}
