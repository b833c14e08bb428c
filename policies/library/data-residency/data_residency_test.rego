package data_residency_test

import data.agentbus.modules.data_residency as module

to_roles(roles) := {
	"message": {"metadata": {}},
	"recipient": {"id": "worker", "roles": roles},
	"tenant": {"id": "acme", "labels": {"residency_regions": "eu, uk", "residency_exempt_classes": "public"}},
}

of_class(class) := object.union(to_roles(["region_us"]), {"message": {"metadata": {"data_class": class}}})

test_a_recipient_in_a_region_is_allowed if {
	module.allow with input as to_roles(["region_eu"])
	module.allow with input as to_roles(["implementer", "region_uk"])
}

test_a_recipient_elsewhere_is_denied if {
	not module.allow with input as to_roles(["region_us"])
	module.reasons == {concat(" ", [
		"the recipient has none of the roles region_eu, region_uk of residency_regions,",
		"and is not in residency_agents",
	])} with input as to_roles(["region_us"])
}

test_a_recipient_without_a_region_is_denied if {
	every roles in [[], ["implementer"], ["eu"], ["region"], ["region_"], ["region_eu_west"], ["REGION_EU"]] {
		not module.allow with input as to_roles(roles)
	}
}

test_an_agent_that_is_listed_is_allowed if {
	given := object.union(to_roles([]), {"tenant": {"labels": {"residency_agents": "clerk, worker"}}})
	module.allow with input as given
	every id in ["WORKER", "work", "", "clerk, worker", null] {
		not module.allow with input as object.union(given, {"recipient": {"id": id}})
	}
}

test_a_region_beside_another_is_enough if {
	module.allow with input as to_roles(["region_us", "region_eu"])
}

test_a_class_that_may_leave_leaves if {
	module.allow with input as of_class("public")
}

test_every_other_class_stays if {
	every class in ["personal", "", "Public", "public,personal", " public", null, 7, ["public"], {"public": true}] {
		not module.allow with input as of_class(class)
	}
}

test_without_exempt_classes_nothing_leaves if {
	given := object.union(of_class("public"), {"tenant": {"labels": {"residency_exempt_classes": ""}}})
	not module.allow with input as given
	not module.allow with input as object.remove(of_class(""), ["tenant"])
}

test_a_tenant_without_the_label_is_not_limited if {
	module.allow with input as {"message": {}, "recipient": {"roles": []}, "tenant": {"id": "acme", "labels": {}}}
}

test_a_label_without_a_region_denies if {
	every text in ["", ",", "  "] {
		given := object.union(to_roles(["region_eu", "region_"]), {"tenant": {"labels": {"residency_regions": text}}})
		not module.allow with input as given
		module.reasons == {"the label residency_regions names no region, expected a list such as eu,uk"} with input as given
	}
}

test_capitals_in_the_label_do_not_matter if {
	module.allow with input as object.union(to_roles(["region_ch"]), {"tenant": {"labels": {"residency_regions": "CH"}}})
}

test_what_is_allowed_has_no_reasons if {
	module.reasons == set() with input as to_roles(["region_eu"])
	module.reasons == set() with input as {"message": {}, "recipient": {"roles": []}, "tenant": {"labels": {}}}
}

test_without_input_it_is_denied if {
	every given in [
		{}, {"message": {}}, {"tenant": {}}, {"recipient": {"roles": ["region_eu"]}},
		object.remove(to_roles([]), ["recipient"]),
	] {
		not module.allow with input as given
	}
}
