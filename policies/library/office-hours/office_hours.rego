# When agents may give work, by the tenant's hours in data.json.
#
# The time is part of every answer, so this module switches the decision cache off.
package agentbus.modules.office_hours

default table := {}

table := data.office_hours

now := time.now_ns()

default allow := false

tenants := {tenant | some tenant, _ in table}

# Tenants without hours.
allow if {
	is_string(input.tenant.id)
	not input.tenant.id in tenants
}

hours := table[input.tenant.id]

# What is no work may be said at any time.
allow if {
	is_array(types)
	is_string(input.message.type)
	not input.message.type in types
}

types := object.get(hours, "message_types", ["command", "task_request"]) if is_object(hours)

allow if open

allow if input.sender.id in hours.on_call

open if {
	legible(hours)
	time.weekday([now, hours.zone]) in hours.days
	clock := time.clock([now, hours.zone])
	during((clock[0] * 60) + clock[1], hours.from * 60, hours.until * 60)
}

during(minute, from, until) if {
	from < until
	minute >= from
	minute < until
}

# Over midnight.
during(minute, from, until) if {
	from > until
	minute >= from
}

during(minute, from, until) if {
	from > until
	minute < until
}

reasons contains text if {
	not allow
	legible(hours)
	text := sprintf("a %s is taken on %s from %v to %v o'clock (%s); office_hours.%s of data.json says so", [
		input.message.type,
		concat(", ", hours.days),
		hours.from,
		hours.until,
		hours.zone,
		input.tenant.id,
	])
}

weekdays := {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}

# Hours that cannot be read are none. The tests, which a node runs when it reads the folder, refuse them then.
legible(given) if {
	is_string(given.zone)
	is_array(given.days)
	time.clock([0, given.zone])
	count(given.days) > 0
	every day in given.days { day in weekdays }
	hour(given.from)
	hour(given.until)
	given.from != given.until
	every key in ["message_types", "on_call"] { is_array(object.get(given, key, [])) }
}

hour(given) if {
	is_number(given)
	given >= 0
	given <= 24
}
