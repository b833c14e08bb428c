# How often a sender may send, by the tenant's labels, also by the sender's role.
#
# A label is written `messages/seconds`, as `30/60`. The nodes count: this module only says how much there is room for.
package agentbus.modules.rate_by_role

messages_max := 1000000

# A day.
seconds_max := 86400

default allow := false

allow if {
	is_object(input.tenant.labels)
	every text in set_rates { readable(text) }
}

# Everybody's, and one for each of the sender's roles that has one.
names := {"rate_max"} | {name | some role in input.sender.roles; name := sprintf("rate_max_%s", [role])}

set_rates := {name: text | some name in names; text := input.tenant.labels[name]}

readable(text) if {
	parts := split(text, "/")
	count(parts) == 2
	number(parts[0], messages_max)
	number(parts[1], seconds_max)
}

# A whole number from one to the most.
number(digits, most) if {
	count(digits) in numbers.range(1, 7)
	trim(digits, "0123456789") == ""
	not startswith(digits, "0")
	to_number(digits) <= most
}

read(text) := {"messages": to_number(parts[0]), "seconds": to_number(parts[1])} if {
	readable(text)
	parts := split(text, "/")
}

rates := [read(text) | some text in set_rates]

# The highest, as an agent has what any of its roles grants.
most := max([a_second(rate) | some rate in rates])

a_second(rate) := rate.messages / rate.seconds

highest := [rate | some rate in rates; a_second(rate) == most]

# Of several that come to the same, the one that lets more through at once.
at_once := max([rate.messages | some rate in highest])

obligations := {"rate": rate} if {
	some rate in highest
	rate.messages == at_once
}

reasons contains text if {
	some name, given in set_rates
	not readable(given)
	text := sprintf("the label %s is %s, expected messages/seconds, as 30/60", [name, given])
}
