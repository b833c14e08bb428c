# Above which amount a message waits for approvals, by the tenant's labels.
#
# A message spends when the name of a tool it asks for holds a word of `approval_tools`. All numbers under the keys of
# `approval_keys`, at any depth of the content, are added. What cannot be read as an amount waits as well: people can
# read it. Only labels that cannot be read deny.
package agentbus.modules.approvals_above_an_amount

# The largest message that is looked through for amounts, in bytes: small enough for the time that a decision has.
size_max := 4096

default allow := false

# Tenants without the label.
allow if {
	is_object(input.tenant.labels)
	not input.tenant.labels.approval_above
}

allow if {
	readable(input.tenant.labels.approval_above, 15)
	readable(count_text, 2)
	is_array(input.message.tools)
}

count_text := object.get(input.tenant.labels, "approval_count", "2")

readable(text, digits) if {
	count(text) in numbers.range(1, digits)
	trim(text, "0123456789") == ""
	not startswith(text, "0")
}

listed(text) := {word | some part in split(lower(text), ","); word := trim_space(part); word != ""}

words := listed(object.get(input.tenant.labels, "approval_tools", "buy,pay,purchase,refund,transfer,wire"))

keys := listed(object.get(input.tenant.labels, "approval_keys", "amount"))

# `transfer` lists `transfer_funds`, `wireTransfer` and `TRANSFER`.
spends(tool) if {
	some word in words
	contains(lower(tool), word)
}

harmless(tool) if {
	is_string(tool)
	not spends(tool)
}

spending if {
	some tool in input.message.tools
	not harmless(tool)
}

found := [value |
	input.message.size <= size_max
	walk(input.message.content, [path, value])
	count(path) > 0
	key := path[count(path) - 1]
	is_string(key)
	lower(key) in keys
]

unsound(value) if not is_number(value)

unsound(value) if value < 0

# There are amounts, all can be read, and together they are small.
small if {
	readable(input.tenant.labels.approval_above, 15)
	count(found) > 0
	count([value | some value in found; unsound(value)]) == 0
	sum([value | some value in found; is_number(value)]) <= to_number(input.tenant.labels.approval_above)
}

obligations := {"deliberate": true, "min_approvals": to_number(count_text)} if {
	input.tenant.labels.approval_above
	allow
	spending
	not small
}

reasons contains "the label approval_above must be a whole number from 1 of at most 15 digits" if {
	input.tenant.labels.approval_above
	not readable(input.tenant.labels.approval_above, 15)
}

reasons contains "the label approval_count must be a whole number from 1 to 99" if {
	input.tenant.labels.approval_above
	not readable(count_text, 2)
}
