package approvals_above_an_amount_test

import data.agentbus.modules.approvals_above_an_amount as module

two := {"deliberate": true, "min_approvals": 2}

asked(tools, content) := {
	"message": {"type": "command", "tools": tools, "content": content, "size": 200},
	"tenant": {"id": "acme", "labels": {"approval_above": "1000"}},
}

labelled(given, extra) := object.union(given, {"tenant": {"labels": extra}})

paying(amount) := asked(["transfer_funds"], {"amount": amount})

waits(given) if {
	module.allow with input as given
	module.obligations == two with input as given
}

passes(given) if {
	module.allow with input as given
	not module.obligations with input as given
}

test_up_to_the_amount_nobody_is_asked if {
	passes(paying(1000))
	passes(paying(0))
}

test_above_the_amount_two_must_approve if waits(paying(1000.5))

test_a_tenant_without_the_label_is_not_obliged if {
	passes({"message": paying(5000).message, "tenant": {"id": "acme", "labels": {}}})
}

test_what_spends_nothing_does_not_wait if {
	passes(asked(["read_invoice"], {"amount": 9999}))
	passes(asked([], {"amount": 9999}))
}

test_the_word_is_found_in_any_name if {
	every tool in ["transfer", "TRANSFER", "mcp__bank__transferAll", "autopay", "read_and_wire"] {
		waits(asked([tool], {"amount": 1001}))
	}
}

test_amounts_at_any_depth_are_added if {
	waits(asked(["pay"], {"payments": [{"amount": 600}, {"to": {"AMOUNT": 600}}]}))
	passes(asked(["pay"], {"payments": [{"amount": 400}, {"amount": 600}]}))
}

test_a_credit_hides_no_spending if waits(asked(["pay"], {"a": {"amount": 5000}, "b": {"amount": -4500}}))

test_what_is_no_amount_waits if {
	every amount in ["10", "NaN", "1e3", "", null, true, [10], {"value": 10}, -1, 1e300] {
		waits(paying(amount))
	}
}

test_without_an_amount_it_waits if {
	every content in [{}, {"sum": 3}, []] { waits(asked(["pay"], content)) }
}

test_a_large_message_that_spends_waits if {
	waits(object.union(paying(1), {"message": {"size": 4097}}))
}

test_the_number_of_approvals_can_be_named if {
	module.obligations.min_approvals == 3 with input as labelled(paying(1001), {"approval_count": "3"})
}

test_words_and_keys_can_be_named if {
	waits(labelled(asked(["book_trip"], {"price": 2000}), {"approval_tools": "book", "approval_keys": "price"}))
}

test_labels_that_cannot_be_read_deny if {
	every text in ["", "0", "-5", "1e3", "NaN", "many", "1000000000000000"] {
		not module.allow with input as labelled(paying(1), {"approval_above": text})
	}
	every text in ["", "0", "100", "two"] {
		given := labelled(paying(1), {"approval_count": text})
		not module.allow with input as given
		module.reasons == {"the label approval_count must be a whole number from 1 to 99"} with input as given
	}
}

test_only_labels_that_cannot_be_read_have_reasons if {
	module.reasons == set() with input as paying("x")
	module.reasons == set() with input as {"message": paying(1).message, "tenant": {"labels": {"approval_count": "x"}}}
	not module.obligations with input as labelled(paying(2000), {"approval_count": "x"})
}

test_without_input_it_is_denied if {
	every given in [{}, {"message": {}}, {"tenant": {"labels": {"approval_above": "1"}}}] {
		not module.allow with input as given
	}
	waits(asked([7], {"amount": 1001}))
}
