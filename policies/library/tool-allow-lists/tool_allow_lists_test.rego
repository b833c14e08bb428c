package tool_allow_lists_test

import data.agentbus.modules.tool_allow_lists as module

lists := {"acme": {
	"worker": ["read_file", "mcp__fs__*"],
	"clerk": [],
	"*": ["read"],
}}

asks(agent, tools) := {"message": {"tools": tools}, "sender": {"id": agent}, "tenant": {"id": "acme"}}

permitted(given, table) if module.allow with input as given with data.tool_allow_lists as table

test_the_lists_of_this_installation_can_be_read if {
	is_object(module.table)
	every agents in module.table { module.legible(agents) }
}

test_a_listed_tool_is_allowed if permitted(asks("worker", ["read_file"]), lists)

test_another_is_denied_by_the_line_to_change if {
	not permitted(asks("worker", ["delete"]), lists)
	module.reasons == {"the tool delete is not in tool_allow_lists.acme.worker of data.json"}
		with input as asks("worker", ["read_file", "delete"])
		with data.tool_allow_lists as lists
}

test_each_tool_must_be_listed if {
	not permitted(asks("worker", ["read_file", "write_file"]), lists)
	permitted(asks("worker", ["read_file", "mcp__fs__write"]), lists)
}

test_a_star_at_the_end_is_every_name_that_begins_so if {
	permitted(asks("worker", ["mcp__fs__delete_all"]), lists)
	not permitted(asks("worker", ["mcp__db__read", "x_mcp__fs__read", "mcp__fs_"]), lists)
}

test_names_are_exact if {
	every tool in ["READ_FILE", "read_file ", "read_files", "read", "", "*", "read_file,delete"] {
		not permitted(asks("worker", [tool]), lists)
	}
}

test_who_has_no_list_has_the_one_of_the_star if {
	permitted(asks("guest", ["read"]), lists)
	not permitted(asks("guest", ["read_file"]), lists)
	module.reasons == {"the tool write is not in tool_allow_lists.acme.* of data.json"}
		with input as asks("guest", ["write"])
		with data.tool_allow_lists as lists
}

test_who_has_a_list_has_no_other if not permitted(asks("worker", ["read"]), lists)

test_an_empty_list_is_no_tool if {
	not permitted(asks("clerk", ["read"]), lists)
	permitted(asks("clerk", []), lists)
}

test_without_a_star_who_has_no_list_has_no_tool if {
	not permitted(asks("guest", ["read"]), {"acme": {"worker": ["read"]}})
	permitted(asks("guest", []), {"acme": {"worker": ["read"]}})
}

test_tenants_without_lists_are_not_limited if {
	permitted(asks("worker", ["delete"]), {})
	permitted(asks("worker", ["delete"]), {"other": lists.acme})
}

test_lists_that_cannot_be_read_allow_no_tool if {
	every agents in [null, "read", ["read"], {"worker": "read"}, {"worker": {"read": true}}, {"worker": [1]}] {
		not permitted(asks("worker", ["write"]), {"acme": agents})
		not module.legible(agents)
	}
}

test_a_long_name_is_cut_in_the_reason if {
	long := concat("", [letter | some _ in numbers.range(1, 500); letter := "x"])
	every reason in module.reasons { count(reason) < 200 }
		with input as asks("worker", [long]) with data.tool_allow_lists as lists
}

test_what_is_allowed_has_no_reasons if {
	module.reasons == set() with input as asks("worker", ["delete"]) with data.tool_allow_lists as {}
	module.reasons == set() with input as asks("worker", ["read_file"]) with data.tool_allow_lists as lists
}

test_without_input_it_is_denied if {
	every given in [
		{}, {"tenant": {"id": "acme"}}, {"message": {"tools": ["read"]}}, asks("worker", [7]),
		asks(7, ["read"]),
	] {
		not permitted(given, lists)
	}
}
