package break_glass_test

import data.agentbus.modules.break_glass as module

why := "the disk of node 3 is full, orders are lost"

asks(tools, metadata) := {
	"message": {"type": "command", "tools": tools, "metadata": metadata},
	"sender": {"id": "planner", "roles": ["controller"]},
	"tenant": {"id": "acme", "labels": {"glass_tools": "delete, shutdown"}},
}

emergency := asks(["delete_rows"], {"break_glass": why})

approved(given, approvals) := object.union(given, {"approval": {"approvals": approvals}})

by(ids) := [{"id": id, "roles": []} | some id in ids]

test_other_tools_pass_and_oblige_to_nothing if {
	every tools in [[], ["read"], ["write_file", "send"]] {
		module.allow with input as asks(tools, {})
		not module.obligations with input as asks(tools, {})
	}
}

test_without_a_reason_it_is_denied if {
	not module.allow with input as asks(["delete_rows"], {})
	module.reasons == {concat(" ", [
		"the tool delete_rows is behind glass (glass_tools):",
		"say why in metadata.break_glass, in 20 to 500 letters",
	])} with input as asks(["delete_rows"], {})
}

test_with_a_reason_it_waits_for_two if {
	module.allow with input as emergency
	module.obligations == {"deliberate": true, "min_approvals": 2} with input as emergency
}

test_two_approvals_break_the_glass if {
	module.allow with input as approved(emergency, by(["ann", "bob"]))
}

test_one_approval_does_not if {
	not module.allow with input as approved(emergency, by(["ann"]))
	module.reasons == {
		"two people other than the sender must approve to break the glass",
	} with input as approved(emergency, by(["ann"]))
}

test_the_same_twice_is_one if {
	not module.allow with input as approved(emergency, by(["ann", "ann"]))
}

test_the_sender_does_not_count if {
	not module.allow with input as approved(emergency, by(["planner", "ann"]))
	module.allow with input as approved(emergency, by(["planner", "ann", "bob"]))
}

test_an_approval_without_a_reason_breaks_nothing if {
	not module.allow with input as approved(asks(["delete_rows"], {}), by(["ann", "bob"]))
}

test_an_approval_that_cannot_be_read_is_none if {
	every approvals in [[], [{}, {}], ["ann", "bob"], null, "ann,bob"] {
		not module.allow with input as approved(emergency, approvals)
	}
}

test_the_word_is_found_in_any_name if {
	every tool in ["delete", "DELETE", "mcp__fs__deleteAll", "read_and_delete", "shutdown_node"] {
		not module.allow with input as asks([tool], {})
		not module.allow with input as asks(["read", tool], {})
	}
}

test_a_reason_is_a_text_of_some_length if {
	long := concat("", [letter | some _ in numbers.range(1, 501); letter := "x"])
	every given in ["", "urgent", "                         ", long, null, true, 7, [why], {"why": why}] {
		not module.allow with input as asks(["delete"], {"break_glass": given})
	}
}

test_a_tenant_without_the_label_is_not_limited if {
	none := {"message": emergency.message, "sender": emergency.sender, "tenant": {"id": "acme", "labels": {}}}
	module.allow with input as none
	not module.obligations with input as none
}

test_what_is_allowed_has_no_reasons if {
	module.reasons == set() with input as asks(["read"], {})
	module.reasons == set() with input as emergency
	module.reasons == set() with input as approved(emergency, by(["ann", "bob"]))
	module.reasons == set() with input as approved(asks(["read"], {}), [])
}

test_without_input_it_is_denied if {
	every given in [
		{}, {"message": {"tools": []}}, {"tenant": {"labels": {}}}, asks([7], {}),
		object.remove(asks([], {}), ["message"]),
	] {
		not module.allow with input as given
	}
}
