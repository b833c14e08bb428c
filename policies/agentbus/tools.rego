# Which role may ask for which tool. A tool is a word for what the recipient is asked to do.
#
# A word that is not in the table is refused, unless the tenant's label `tools_allowed` lists it: the
# bus cannot know what it does, the tenant's operator can.
package agentbus.modules.tools

everyone := {"read", "get", "list", "view"}

granted := {
	"executive": {"send", "submit", "write", "update", "modify", "transfer"},
	"controller": {"send", "submit", "write", "update", "modify", "execute", "delete"},
	"implementer": {"send", "submit", "write", "update", "modify", "execute"},
}

default allow := false

# Most messages ask for nothing.
allow if count(input.message.tools) == 0

allow if {
	count(input.message.tools) > 0
	every tool in input.message.tools { permitted(tool) }
}

refused contains tool if {
	some tool in input.message.tools
	not permitted(tool)
}

permitted(tool) if tool in everyone

permitted(tool) if {
	some role in input.sender.roles
	tool in granted[role]
}

permitted(tool) if {
	not known(tool)
	tool in split(replace(input.tenant.labels.tools_allowed, " ", ""), ",")
}

known(tool) if {
	some types in granted
	tool in types
}

reasons contains text if {
	some tool in refused
	known(tool)
	holders := [role | some role, tools in granted; tool in tools]
	text := sprintf("the tool %s needs one of the roles %s", [tool, concat(", ", holders)])
}

reasons contains text if {
	some tool in refused
	not known(tool)
	text := sprintf("the tool %s is neither in the shipped table nor in the tenant's label tools_allowed", [tool])
}
