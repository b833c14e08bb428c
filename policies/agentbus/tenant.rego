# What a tenant's operator narrows by labels. A label that cannot be read denies.
#
# Labels are text; lists are separated by commas. Read here: message_types_denied, tools_denied,
# agents_denied, priority_max, deliberate_tools, deliberate_message_types. (Sizes are limited by the
# tenant's `content_bytes`; a policy that reads the size of messages is hardly ever cached.)
package agentbus.modules.tenant

import data.agentbus.modules.tools

ranks := {"low": 1, "normal": 2, "high": 3, "critical": 4}

default allow := false

# Most tenants have no labels.
allow if count(input.tenant.labels) == 0

allow if {
	count(input.tenant.labels) > 0
	count(reasons) == 0
}

listed(text, word) if word in split(replace(text, " ", ""), ",")

# A tool is listed by its name, or by a word in it: `delete` lists `db.delete` and `deleteRow`.
tool_listed(text, tool) if listed(text, tool)

tool_listed(text, tool) if {
	some word in (tools.words[tool] | tools.shouted[tool])
	listed(text, word)
}

reasons contains text if {
	input.tenant.labels.message_types_denied
	listed(input.tenant.labels.message_types_denied, input.message.type)
	text := sprintf("this tenant does not carry messages of type %s", [input.message.type])
}

reasons contains text if {
	input.tenant.labels.tools_denied
	some tool in input.message.tools
	tool_listed(input.tenant.labels.tools_denied, tool)
	text := sprintf("this tenant does not allow the tool %s", [tool])
}

reasons contains "the sender is suspended" if {
	input.tenant.labels.agents_denied
	listed(input.tenant.labels.agents_denied, input.sender.id)
}

reasons contains "the recipient is suspended" if {
	input.tenant.labels.agents_denied
	listed(input.tenant.labels.agents_denied, input.recipient.id)
}

reasons contains text if {
	input.tenant.labels.priority_max
	not within_priority_max
	text := sprintf("priority %s is not within this tenant's priority_max", [input.message.priority])
}

# A rule of its own: OPA would lift the look-ups out of a `not`, and a label that is no priority
# would pass.
within_priority_max if ranks[input.message.priority] <= ranks[input.tenant.labels.priority_max]

obligations := {"deliberate": true} if must_deliberate

must_deliberate if {
	input.tenant.labels.deliberate_tools
	some tool in input.message.tools
	tool_listed(input.tenant.labels.deliberate_tools, tool)
}

must_deliberate if {
	input.tenant.labels.deliberate_message_types
	listed(input.tenant.labels.deliberate_message_types, input.message.type)
}
