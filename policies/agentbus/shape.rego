# The shape of one module's obligations, in full. Unknown words are refused: what is not understood
# cannot be honoured.
package agentbus.shape

well_formed(given) if {
	is_object(given)
	count([word | some word, value in given; not sound(word, value)]) == 0
}

sound("deliberate", value) if is_boolean(value)

sound("min_approvals", value) if counts(value, 100)

sound("redact", value) if {
	type_name(value) in {"array", "set"}
	count(value) <= 64
	count([path | some path in value; not is_string(path)]) == 0
}

sound("lane", value) if value == "durable"

sound("score", value) if is_boolean(value)

sound("rate", value) if {
	is_object(value)
	object.keys(value) == {"messages", "seconds"}
	counts(value.messages, 1000000)
	counts(value.seconds, 86400)
}

sound("note", value) if is_note(value)

sound("freeze", value) if is_note(value)

sound("label", value) if {
	type_name(value) in {"array", "set"}
	count(value) <= 16
	count([word | some word in value; not is_label(word)]) == 0
}

is_note(value) if {
	is_string(value)
	count(value) >= 1
	count(value) <= 200
}

is_label(word) if {
	is_string(word)
	regex.match(`^[a-z0-9_:-]{1,32}$`, word)
}

# A whole number from one to the most.
counts(value, most) if {
	is_number(value)
	value == floor(value)
	value >= 1
	value <= most
}
