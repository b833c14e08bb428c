# Who may only read, by the tenant's labels: the types that need no role, and tools whose names say that they read.
# Words of tools are understood as the module `tools` does, which ships.
package agentbus.modules.read_only_agents

import data.agentbus.modules.roles
import data.agentbus.modules.tools

default allow := false

allow if {
	is_object(input.tenant.labels)
	is_string(input.sender.id)
	is_array(input.sender.roles)
	not read_only
}

allow if {
	read_only
	input.message.type in roles.everyone
	every tool in input.message.tools { reads(tool) }
}

listed(label) := {word |
	some part in split(object.get(input.tenant.labels, label, ""), ",")
	word := trim_space(part)
	word != ""
}

read_only if input.sender.id in listed("read_only_agents")

read_only if {
	some role in input.sender.roles
	role in listed("read_only_roles")
}

# Not what `tools_allowed` lists: a name that does not say that it reads is not taken for it.
reads(tool) if {
	is_string(tool)
	tools.understood(tool)
	count(tools.asked(tool) - tools.everyone) == 0
}

because := "the sender only reads (read_only_agents, read_only_roles of the tenant's labels)"

reasons contains text if {
	read_only
	not input.message.type in roles.everyone
	text := sprintf("%s, so it sends no message of type %s", [because, input.message.type])
}

reasons contains text if {
	read_only
	some tool in input.message.tools
	is_string(tool)
	not reads(tool)
	text := sprintf("%s, so it does not ask for the tool %s", [because, substring(tool, 0, 64)])
}
