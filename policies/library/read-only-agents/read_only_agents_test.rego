package read_only_agents_test

import data.agentbus.modules.read_only_agents as module

sends(agent, type, tools) := {
	"message": {"type": type, "tools": tools},
	"sender": {"id": agent, "roles": ["executive"]},
	"tenant": {"id": "acme", "labels": {"read_only_agents": "intern, guest", "read_only_roles": "viewer"}},
}

with_roles(given, roles) := object.union(given, {"sender": {"roles": roles}})

test_it_may_ask_and_answer if {
	every type in ["query", "response", "event", "notification", "heartbeat", "task_response"] {
		module.allow with input as sends("intern", type, [])
	}
}

test_it_may_not_command if {
	every type in ["command", "task_request", "governance_request", "audit_log", "unheard_of", "", null, 7] {
		not module.allow with input as sends("intern", type, [])
	}
	module.reasons == {concat(" ", [
		"the sender only reads (read_only_agents, read_only_roles of the tenant's labels),",
		"so it sends no message of type command",
	])} with input as sends("intern", "command", [])
}

test_it_may_ask_for_what_reads if {
	every tool in ["read", "get", "list_files", "mcp__fs__read_file", "viewReport", "db.read"] {
		module.allow with input as sends("intern", "query", [tool])
	}
}

test_it_may_not_ask_for_what_does_more if {
	every tool in [
		"write", "delete", "send_email", "transfer_funds", "read_and_delete_rows", "READ_AND_WRITE",
		"listDelete",
	] {
		not module.allow with input as sends("intern", "query", [tool])
	}
}

test_it_may_not_ask_for_what_is_unknown if {
	every tool in ["book_flight", "readfile", "file", "", "read_and_wire_money", "x", "READ"] {
		not module.allow with input as sends("intern", "query", [tool])
	}
}

test_one_such_tool_among_others_is_enough if {
	mixed := sends("intern", "query", ["read", "write"])
	not module.allow with input as mixed
	count(module.reasons) == 1 with input as mixed
}

test_others_are_not_limited if {
	module.allow with input as sends("planner", "command", ["delete"])
	every agent in ["interns", "INTERN", "gues", ","] {
		module.allow with input as sends(agent, "command", [])
	}
}

test_a_role_makes_read_only_whatever_else_is_held if {
	not module.allow with input as with_roles(sends("planner", "command", []), ["executive", "viewer"])
	module.allow with input as with_roles(sends("planner", "query", ["read"]), ["viewer"])
}

test_what_tools_allowed_lists_is_not_taken_for_reading if {
	given := object.union(sends("intern", "query", ["book_flight"]), {"tenant": {"labels": {"tools_allowed": "book_flight"}}})
	not module.allow with input as given
}

test_a_tenant_without_labels_is_not_limited if {
	given := sends("intern", "command", ["delete"])
	module.allow with input as {"message": given.message, "sender": given.sender, "tenant": {"id": "acme", "labels": {}}}
}

test_a_long_name_is_cut_in_the_reason if {
	long := concat("", [letter | some _ in numbers.range(1, 500); letter := "x"])
	every reason in module.reasons { count(reason) < 250 } with input as sends("intern", "query", [long])
}

test_others_have_no_reasons if {
	module.reasons == set() with input as sends("planner", "command", ["delete"])
	module.reasons == set() with input as sends("intern", "query", ["read"])
	module.allow with input as object.union(sends("", "command", []), {"tenant": {"labels": {"read_only_agents": ","}}})
}

test_without_input_it_is_denied if {
	every given in [
		{}, {"message": {}}, {"tenant": {"labels": {}}}, {"sender": {"id": "planner", "roles": []}},
		sends("intern", "query", [7]), sends(7, "query", []),
	] {
		not module.allow with input as given
	}
}
