# How much one message may spend, by the tenant's labels, also by the sender's role.
#
# A message spends when the name of a tool it asks for holds a word of `spending_tools`. All numbers under the keys
# of `spending_keys`, at any depth of the content, are added. What cannot be read as an amount denies.
package agentbus.modules.spending_limits

# The largest message that is looked through for amounts, in bytes: small enough for the time that a decision has.
size_max := 4096

default allow := false

# Tenants without a limit.
allow if {
	is_object(input.tenant.labels)
	count(set_limits) == 0
}

allow if {
	limited
	every tool in input.message.tools { harmless(tool) }
}

allow if {
	limited
	is_array(input.message.tools)
	within
}

# A label that cannot be read denies everything.
limited if {
	count(set_limits) > 0
	every text in set_limits { readable(text) }
}

within if {
	input.message.size <= size_max
	count(found) > 0
	every value in found { sound(value) }
	sum(amounts) <= limit
}

listed(text) := {word | some part in split(lower(text), ","); word := trim_space(part); word != ""}

words := listed(object.get(input.tenant.labels, "spending_tools", "buy,pay,purchase,refund,transfer,wire"))

keys := listed(object.get(input.tenant.labels, "spending_keys", "amount"))

# `transfer` lists `transfer_funds`, `wireTransfer` and `TRANSFER`.
spends(tool) if {
	some word in words
	contains(lower(tool), word)
}

harmless(tool) if {
	is_string(tool)
	not spends(tool)
}

# The limits that apply: everybody's, and one for each of the sender's roles that has one.
names := {"spending_max"} | {name | some role in input.sender.roles; name := sprintf("spending_max_%s", [role])}

# A tenant that limits one role alone limits nobody else.
set_limits := {name: text | some name in names; text := input.tenant.labels[name]}

readable(text) if {
	count(text) in numbers.range(1, 15)
	trim(text, "0123456789") == ""
	not startswith(text, "0")
}

# The highest, as an agent has what any of its roles grants.
limit := max([to_number(text) | some text in set_limits; readable(text)])

found := [value |
	input.message.size <= size_max
	walk(input.message.content, [path, value])
	count(path) > 0
	key := path[count(path) - 1]
	is_string(key)
	lower(key) in keys
]

sound(value) if {
	is_number(value)
	value >= 0
}

amounts := [value | some value in found; sound(value)]

spending if {
	count(set_limits) > 0
	some tool in input.message.tools
	not harmless(tool)
}

reasons contains text if {
	some name, given in set_limits
	not readable(given)
	text := sprintf("the label %s is %s, expected a whole number from 1 of at most 15 digits", [name, given])
}

reasons contains text if {
	spending
	some value in found
	not sound(value)
	text := sprintf("each %s must be a number of 0 or more, found a %s", [shown_keys, kind(value)])
}

kind(value) := type_name(value) if not is_number(value)

kind(value) := "negative number" if is_number(value)

reasons contains text if {
	spending
	count(found) == 0
	text := sprintf("a message that spends needs a number under %s in its content", [shown_keys])
}

reasons contains text if {
	spending
	not small
	text := sprintf("a message that spends has at most %d bytes", [size_max])
}

small if input.message.size <= size_max

reasons contains text if {
	spending
	sum(amounts) > limit
	text := sprintf("the amounts come to more than %d, which is the most by %s of the tenant's labels", [
		limit,
		concat(", ", sort([name | some name, _ in set_limits])),
	])
}

shown_keys := concat(" or ", sort(keys))
