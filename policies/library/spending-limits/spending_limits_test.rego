package spending_limits_test

import data.agentbus.modules.spending_limits as module

labels := {"spending_max": "1000"}

asked(tools, content) := {
	"message": {"type": "command", "tools": tools, "content": content, "size": 200},
	"sender": {"id": "planner", "roles": ["executive"]},
	"tenant": {"id": "acme", "labels": labels},
}

labelled(given, extra) := object.union(given, {"tenant": {"labels": extra}})

paying(amount) := asked(["transfer_funds"], {"amount": amount})

test_up_to_the_limit_is_allowed if {
	module.allow with input as paying(1000)
	module.allow with input as paying(0.5)
}

test_above_the_limit_is_denied_by_the_labels_name if {
	denied := paying(1000.01)
	not module.allow with input as denied
	module.reasons == {concat(" ", [
		"the amounts come to more than 1000,",
		"which is the most by spending_max of the tenant's labels",
	])} with input as denied
}

test_a_tenant_without_a_limit_is_not_limited if {
	module.allow with input as {"message": paying(5000).message, "tenant": {"id": "acme", "labels": {}}}
}

test_what_spends_nothing_may_hold_any_number if {
	module.allow with input as asked(["read_invoice"], {"amount": 9999})
	module.allow with input as asked([], {"amount": 9999})
}

test_the_word_is_found_in_any_name if {
	every tool in ["transfer", "TRANSFER", "mcp__bank__transferAll", "transfer_funds", "autopay", "read_and_wire"] {
		not module.allow with input as asked([tool], {"amount": 1001})
		module.allow with input as asked([tool], {"amount": 1})
	}
}

test_amounts_at_any_depth_are_added if {
	parts := {"payments": [{"amount": 600}, {"to": {"Amount": 600}}]}
	not module.allow with input as asked(["pay"], parts)
	module.allow with input as asked(["pay"], {"payments": [{"amount": 400}, {"amount": 600}]})
}

test_a_credit_hides_no_spending if {
	not module.allow with input as asked(["pay"], {"a": {"amount": 5000}, "b": {"amount": -4500}})
}

test_what_is_no_amount_is_denied if {
	every amount in ["10", "NaN", "Infinity", "1e3", "", null, true, [10], {"value": 10}, -1] {
		not module.allow with input as paying(amount)
		count(module.reasons) > 0 with input as paying(amount)
	}
}

test_huge_numbers_are_denied if {
	every amount in [1e300, 999999999999999999999999999999, [1e308, 1e308]] {
		not module.allow with input as paying(amount)
	}
	not module.allow with input as asked(["pay"], {"a": {"amount": 1e308}, "b": {"amount": 1e308}})
}

test_without_an_amount_it_is_denied if {
	every content in [{}, {"sum": 3}, {"text": "amount: 5"}, []] {
		not module.allow with input as asked(["pay"], content)
	}
	module.reasons == {"a message that spends needs a number under amount in its content"}
		with input as asked(["pay"], {})
}

test_one_spending_tool_among_others_is_enough if {
	not module.allow with input as asked(["read", "list", "refund"], {"amount": 2000})
}

test_a_large_message_that_spends_is_denied if {
	large := object.union(paying(1), {"message": {"size": 4097}})
	not module.allow with input as large
	module.reasons == {
		"a message that spends has at most 4096 bytes",
		"a message that spends needs a number under amount in its content",
	} with input as large
}

test_a_role_may_have_a_higher_limit if {
	more := labelled(paying(4000), {"spending_max_executive": "5000"})
	module.allow with input as more
	not module.allow with input as object.union(more, {"sender": {"roles": ["implementer"]}})
}

test_words_and_keys_can_be_named if {
	named := labelled(asked(["book_trip"], {"price": 2000}), {"spending_tools": "Book, rent", "spending_keys": "price,fee"})
	not module.allow with input as named
	module.allow with input as labelled(named, {"spending_max": "2000"})
}

test_a_label_that_cannot_be_read_denies_everything if {
	every text in ["", "0", "-5", "1e3", "10.5", "NaN", " 5", "1000000000000000", "many"] {
		given := labelled(asked([], {}), {"spending_max": text})
		not module.allow with input as given
		count(module.reasons) == 1 with input as given
	}
}

test_what_is_allowed_has_no_reasons if {
	every content in [{}, {"amount": 9999}, {"amount": "x"}] {
		module.reasons == set() with input as asked(["read"], content)
	}
	module.reasons == set() with input as paying(1000)
	module.reasons == set() with input as object.union(asked(["read"], {}), {"message": {"size": 4097}})
}

test_without_input_it_is_denied if {
	every given in [{}, {"message": {}}, {"message": {"tools": ["pay"]}}, {"tenant": {"labels": labels}}] {
		not module.allow with input as given
	}
	not module.allow with input as asked([7], {"amount": 1001})
}
