package office_hours_test

import data.agentbus.modules.office_hours as module

hours := {"zone": "Europe/Berlin", "days": ["Monday", "Tuesday", "Friday"], "from": 8, "until": 18.5}

# Monday 6 January 2025, at this time in UTC; Berlin is an hour ahead.
monday(time_of_day) := time.parse_rfc3339_ns(sprintf("2025-01-06T%sZ", [time_of_day]))

sends(type) := {"message": {"type": type}, "sender": {"id": "planner"}, "tenant": {"id": "acme"}}

taken(given, at, table) if {
	module.allow with input as given with data.office_hours as table with data.agentbus.modules.office_hours.now as at
}

acme(extra) := {"acme": object.union(hours, extra)}

test_the_hours_of_this_installation_can_be_read if {
	is_object(module.table)
	every given in module.table { module.legible(given) }
}

test_within_the_hours_work_is_taken if {
	taken(sends("command"), monday("07:00:00"), acme({}))
	taken(sends("task_request"), monday("17:29:59"), acme({}))
}

test_outside_of_them_it_is_not if {
	not taken(sends("command"), monday("06:59:59"), acme({}))
	not taken(sends("command"), monday("17:30:00"), acme({}))
}

test_the_refusal_says_when if {
	module.reasons == {concat(" ", [
		"a command is taken on Monday, Tuesday, Friday from 8 to 18.5 o'clock (Europe/Berlin);",
		"office_hours.acme of data.json says so",
	])} with input as sends("command")
		with data.office_hours as acme({})
		with data.agentbus.modules.office_hours.now as monday("23:30:00")
}

test_other_days_are_closed if {
	not taken(sends("command"), time.parse_rfc3339_ns("2025-01-08T10:00:00Z"), acme({}))
}

test_the_day_is_the_one_of_the_zone if {
	# Monday 20:00 in UTC is Tuesday 9:00 in Auckland.
	auckland := acme({"zone": "Pacific/Auckland", "days": ["Tuesday"]})
	taken(sends("command"), monday("20:00:00"), auckland)
	not taken(sends("command"), monday("20:00:00"), acme({"zone": "UTC", "days": ["Tuesday"], "until": 24}))
}

test_summer_time_is_known if {
	summer := time.parse_rfc3339_ns("2025-07-07T06:30:00Z")
	taken(sends("command"), summer, acme({}))
	not taken(sends("command"), monday("06:30:00"), acme({}))
}

test_hours_may_go_over_midnight if {
	night := acme({"from": 22, "until": 6})
	taken(sends("command"), monday("21:30:00"), night)
	taken(sends("command"), monday("04:30:00"), night)
	not taken(sends("command"), monday("11:00:00"), night)
}

test_what_is_no_work_passes_at_any_time if {
	every type in ["query", "heartbeat", "notification", "unheard_of"] {
		taken(sends(type), monday("23:30:00"), acme({}))
	}
}

test_types_can_be_named if {
	every_query := acme({"message_types": ["query"]})
	not taken(sends("query"), monday("23:30:00"), every_query)
	taken(sends("command"), monday("23:30:00"), every_query)
}

test_who_is_on_call_may_always if {
	taken(sends("command"), monday("23:30:00"), acme({"on_call": ["planner"]}))
	not taken(sends("command"), monday("23:30:00"), acme({"on_call": ["plan", "PLANNER"]}))
}

test_tenants_without_hours_are_not_limited if {
	taken(sends("command"), monday("23:30:00"), {})
	taken(sends("command"), monday("23:30:00"), {"other": hours})
}

test_hours_that_cannot_be_read_take_no_work if {
	every extra in [
		{"days": []}, {"days": "Monday"}, {"from": "8"}, {"until": null}, {"from": 9, "until": 9},
		{"message_types": "query", "days": []}, {"on_call": "planner", "days": []},
	] {
		not taken(sends("command"), monday("10:00:00"), acme(extra))
		not module.legible(acme(extra).acme)
	}
}

test_zones_and_hours_are_checked if {
	every extra in [{"zone": "Europe/Nowhere"}, {"days": ["monday"]}, {"from": -1}, {"until": 25}, {"zone": 1}] {
		not module.legible(acme(extra).acme)
	}
}

test_what_is_allowed_has_no_reasons if {
	module.reasons == set() with input as sends("query")
		with data.office_hours as acme({})
		with data.agentbus.modules.office_hours.now as monday("23:30:00")
}

test_lists_are_checked if {
	not module.legible(acme({"on_call": "planner"}).acme)
	not module.legible(acme({"message_types": "query"}).acme)
	module.legible(acme({"on_call": [], "message_types": ["query"]}).acme)
}

test_without_input_it_is_denied if {
	every given in [
		{}, {"tenant": {"id": "acme"}}, {"message": {"type": "command"}},
		{"message": {"type": 7}, "tenant": {"id": "acme"}},
	] {
		not taken(given, monday("23:30:00"), acme({}))
	}
}
