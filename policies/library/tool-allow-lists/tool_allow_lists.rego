# Which tools each agent may ask for, by the lists in data.json. They only narrow what roles grant.
package agentbus.modules.tool_allow_lists

default table := {}

table := data.tool_allow_lists

default allow := false

tenants := {tenant | some tenant, _ in table}

# Tenants without lists.
allow if {
	is_string(input.tenant.id)
	not input.tenant.id in tenants
}

# Most messages ask for nothing.
allow if count(input.message.tools) == 0

allow if {
	count(input.message.tools) > 0
	every tool in input.message.tools { permitted(tool) }
}

# Lists that cannot be read are none, so that nothing is allowed by them.
lists := table[input.tenant.id] if is_object(table[input.tenant.id])

named := {agent | some agent, _ in lists}

# The agent's own list, or the one of all that have none.
line := input.sender.id if input.sender.id in named

line := "*" if {
	is_string(input.sender.id)
	not input.sender.id in named
}

entries := lists[line] if is_array(lists[line])

permitted(tool) if tool in entries

# `mcp__fs__*` is every name that begins so.
permitted(tool) if {
	is_string(tool)
	some entry in entries
	is_string(entry)
	endswith(entry, "*")
	startswith(tool, trim_suffix(entry, "*"))
}

reasons contains text if {
	not allow
	some tool in input.message.tools
	is_string(tool)
	not permitted(tool)
	text := sprintf("the tool %s is not in tool_allow_lists.%s.%s of data.json", [
		substring(tool, 0, 64),
		input.tenant.id,
		line,
	])
}

# For the tests, which a node runs when it reads the folder: lists that cannot be read are refused then.
legible(agents) if {
	is_object(agents)
	every list in agents {
		is_array(list)
		every entry in list {
			is_string(entry)
			entry != ""
		}
	}
}
