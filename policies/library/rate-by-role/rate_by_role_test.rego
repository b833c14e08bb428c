package rate_by_role_test

import data.agentbus.modules.rate_by_role as module

question(roles, labels) := {"sender": {"id": "planner", "roles": roles}, "tenant": {"id": "acme", "labels": labels}}

rate(messages, seconds) := {"rate": {"messages": messages, "seconds": seconds}}

test_everybody_has_the_rate_of_the_tenant if {
	module.allow with input as question([], {"rate_max": "30/60"})
	module.obligations == rate(30, 60) with input as question([], {"rate_max": "30/60"})
}

test_a_tenant_without_a_rate_is_not_limited if {
	module.allow with input as question(["executive"], {})
	not module.obligations with input as question(["executive"], {})
}

test_a_role_has_its_own if {
	labels := {"rate_max": "30/60", "rate_max_executive": "120/60"}
	module.obligations == rate(120, 60) with input as question(["executive"], labels)
	module.obligations == rate(30, 60) with input as question(["implementer"], labels)
}

test_a_role_alone_limits_nobody_else if {
	labels := {"rate_max_implementer": "5/60"}
	module.obligations == rate(5, 60) with input as question(["implementer"], labels)
	not module.obligations with input as question(["executive"], labels)
	module.allow with input as question(["executive"], labels)
}

test_of_several_roles_the_highest_counts if {
	labels := {"rate_max_executive": "10/60", "rate_max_implementer": "1/1", "rate_max_monitor": "100/3600"}
	module.obligations == rate(1, 1) with input as question(["executive", "implementer", "monitor"], labels)
}

test_a_low_role_takes_nothing_from_what_everybody_has if {
	labels := {"rate_max": "30/60", "rate_max_monitor": "1/60"}
	module.obligations == rate(30, 60) with input as question(["monitor"], labels)
}

test_of_equal_rates_the_one_with_more_at_once_counts if {
	labels := {"rate_max": "1/1", "rate_max_executive": "60/60"}
	module.obligations == rate(60, 60) with input as question(["executive"], labels)
}

test_the_bounds_are_those_of_the_obligation if {
	module.allow with input as question([], {"rate_max": "1000000/86400"})
	not module.allow with input as question([], {"rate_max": "1000001/86400"})
	not module.allow with input as question([], {"rate_max": "1/86401"})
}

test_a_label_that_cannot_be_read_denies if {
	every text in ["", "30", "/", "30/", "/60", "0/60", "30/0", "030/60", "-1/60", "1.5/60", "30/60/1", "x/60", " 30/60"] {
		given := question([], {"rate_max": text})
		not module.allow with input as given
		count(module.reasons) == 1 with input as given
	}
}

test_the_reason_names_the_label if {
	given := question(["executive"], {"rate_max": "30/60", "rate_max_executive": "many"})
	not module.allow with input as given
	module.reasons == {"the label rate_max_executive is many, expected messages/seconds, as 30/60"} with input as given
}

test_what_is_allowed_has_no_reasons if {
	module.reasons == set() with input as question([], {"rate_max": "30/60"})
	module.reasons == set() with input as question([], {})
}

test_without_input_it_is_denied if {
	not module.allow with input as {}
	not module.allow with input as {"tenant": {}}
}
