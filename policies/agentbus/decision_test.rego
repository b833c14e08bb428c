package agentbus_decision_test

import data.agentbus.decision
import data.agentbus.shape

message := {
	"type": "query",
	"priority": "normal",
	"to": {"agent": "worker"},
	"tools": [],
	"content": {"text": "hello"},
	"metadata": {},
	"size": 128,
}

question := {
	"message": message,
	"sender": {"id": "planner", "roles": [], "capabilities": [], "registered": true},
	"recipient": {"id": "worker", "roles": [], "capabilities": []},
	"tenant": {"id": "acme", "labels": {}},
	"constitution": {"hash": "cdd01ef066bc6cf2"},
}

of_type(type) := object.union(question, {"message": object.union(message, {"type": type})})

from_role(given, role) := object.union(given, {"sender": object.union(question.sender, {"roles": [role]})})

test_a_newcomer_may_ask if {
	decision == {"allow": true, "reasons": [], "obligations": {}} with input as question
}

test_a_newcomer_may_not_command if {
	not decision.allow with input as of_type("command")
}

test_the_executive_may_command if {
	decision.allow with input as from_role(of_type("command"), "executive")
}

test_no_input_at_all_is_denied if {
	decision.allow == false with input as {}
}

test_an_unknown_recipient_cannot_be_judged if {
	nobody := object.union(from_role(of_type("constitutional_validation"), "judicial"), {"recipient": null})
	decision.reasons == [concat(" ", [
		"separation: a message of type",
		"constitutional_validation needs a known recipient",
	])] with input as nobody
}

test_no_modules_deny if {
	decision.allow == false with input as question with data.agentbus.modules as {}
}

test_only_true_allows if {
	every value in [false, null, 0, 1, "true", "yes", [], {}, [true]] {
		decision.allow == false with data.agentbus.modules as {"one": {"allow": true}, "two": {"allow": value}}
	}
	decision.allow with data.agentbus.modules as {"one": {"allow": true}, "two": {"allow": true}}
}

test_a_module_that_defines_nothing_denies if {
	decision == {
		"allow": false,
		"reasons": ["two: denied"],
		"obligations": {},
	} with data.agentbus.modules as {"one": {"allow": true}, "two": {}}
}

test_a_module_that_is_no_object_denies if {
	every value in [1, "allow", true, null, ["allow"]] {
		decision.allow == false with data.agentbus.modules as {"one": {"allow": true}, "two": value}
	}
}

test_obligations_are_joined if {
	decision.obligations == {
		"deliberate": true,
		"min_approvals": 3,
		"redact": ["a", "b"],
		"lane": "durable",
		"score": true,
	} with data.agentbus.modules as {
		"one": {"allow": true, "obligations": {"deliberate": true, "min_approvals": 3, "redact": ["b"]}},
		"two": {"allow": true, "obligations": {"deliberate": false, "min_approvals": 2, "redact": ["a", "b"]}},
		"three": {"allow": true, "obligations": {"lane": "durable", "score": true}},
	}
}

test_malformed_obligations_deny if {
	every given in [null, "deliberate", {"deliberate": 1}, {"lane": "fast"}, {"score": 1}, {"min_approvals": 0}, {"other": true}] {
		not shape.well_formed(given)
		decision.allow == false with data.agentbus.modules as {"one": {"allow": true, "obligations": given}}
	}
}

test_every_shipped_module_denies_without_input if {
	every name in ["priorities", "roles", "separation", "tenant", "tools"] {
		data.agentbus.modules[name].allow == false with input as {}
	}
}
