# The shape of one module's obligations, in full. Unknown words are refused: what is not understood
# cannot be honoured.
package agentbus.shape

well_formed(given) if {
	is_object(given)
	count([word | some word, value in given; not sound(word, value)]) == 0
}

sound("deliberate", value) if is_boolean(value)

sound("min_approvals", value) if {
	is_number(value)
	value == floor(value)
	value >= 1
	value <= 100
}

sound("redact", value) if {
	type_name(value) in {"array", "set"}
	count(value) <= 64
	count([path | some path in value; not is_string(path)]) == 0
}

sound("lane", value) if value == "durable"

sound("score", value) if is_boolean(value)
